"""Whose token is this? The API server says which pod, the pod which trial, and the accepting lock has the last word.

TokenReview proves the pod (its name and UID are in the token's claims), a live read of the pod gives labels and owning
Job. Both answers are kept for at most a minute by the token's hash, never the token itself. The namespace is the
boundary: who may create pods there may forge one (SEMANTICS, Trust).
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kubetune.api import names
from kubetune.gateway import speaker
from kubetune.kube import errors, resources
from kubetune.kube.client import Client
from kubetune.storage.base import Identity, Worker

KEEP = 60.0  # seconds that a good answer stands
KEEP_REFUSAL = 5.0  # and a refusal: a pod's labels or a clock may be mended
MOST_KEPT = 50_000  # answers
MOST_UNDER_REVIEW = 500  # tokens at the API server at once
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_TOKEN_LENGTH = 16_384
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):[^:]+")

logger = logging.getLogger(__name__)

Json: TypeAlias = Mapping[str, Any]


class Refused(Exception):  # noqa: N818
    """The answer is no. ``status``: 401 (the token is not good), 403 (not its business), 409 (its pod is gone)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Undecided(Exception):  # noqa: N818
    """The API server does not answer: ask again."""


@dataclasses.dataclass(frozen=True)
class _Kept:
    until: float
    answer: Any


class Authenticator:
    """Judges tokens. Make and use it in one event loop.

    Args:
        client: for TokenReview and pods; its calls run in ``threads`` threads.
    """

    def __init__(self, client: Client, threads: int = 16, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="review")
        self._kept: collections.OrderedDict[bytes, _Kept] = collections.OrderedDict()
        self._under_review: dict[bytes, asyncio.Task[Any]] = {}

    async def trial(self, token: str | None) -> Identity:
        """The trial that a token of audience `names.TOKEN_AUDIENCE` speaks for. Raises Refused or Undecided."""
        bare, named = speaker.split(token)
        found: Identity | Worker = await self._judge("trial", bare, self._review_trial)
        if not isinstance(found, Worker):
            return found
        if named is None:
            raise Refused(403, "this token is a worker's; use the one that KUBETUNE_TOKEN_FILE names")
        return found.of_trial(*named)

    async def worker(self, token: str | None) -> Worker:
        """The worker that a token of audience `names.TOKEN_AUDIENCE` speaks for. Raises Refused or Undecided."""
        found: Identity | Worker = await self._judge("trial", token, self._review_trial)
        if not isinstance(found, Worker):
            raise Refused(403, "only workers lease trials; this pod has one of its own")
        return found

    async def reader(self, token: str | None, namespace: str) -> None:
        """Whether a token of audience `names.READ_AUDIENCE` may read a namespace. Raises Refused or Undecided."""
        own: str = await self._judge("reader", token, self._review_reader)
        if own != namespace:
            raise Refused(403, f"a token of namespace {own} reads that namespace only, not {namespace}")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _judge(self, kind: str, token: str | None, review: Callable[[str], Any]) -> Any:
        if not token:
            raise Refused(401, "there is no token in the request")
        key = hashlib.sha256(f"{kind}:{token}".encode(errors="surrogateescape")).digest()
        kept = self._kept.get(key)
        if kept is None or kept.until <= self._monotonic():
            if len(token) > _TOKEN_LENGTH or not _TOKEN.fullmatch(token):
                raise Refused(401, "this is not a service account token")
            answer = await self._shared(key, functools.partial(review, token))
        else:
            answer = kept.answer
        if isinstance(answer, Refused):
            raise Refused(answer.status, str(answer))
        return answer

    async def _shared(self, key: bytes, review: Callable[[], Any]) -> Any:
        """One review for all who ask about the same token at the same time."""
        task = self._under_review.get(key)
        if task is None:
            if len(self._under_review) >= MOST_UNDER_REVIEW:
                raise Undecided("too many tokens are under review")
            task = asyncio.get_running_loop().create_task(self._ask(key, review))
            self._under_review[key] = task
            task.add_done_callback(functools.partial(self._reviewed, key))
        return await asyncio.shield(task)

    def _reviewed(self, key: bytes, task: asyncio.Task[Any]) -> None:
        self._under_review.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at, though all who asked may have gone

    async def _ask(self, key: bytes, review: Callable[[], Any]) -> Any:
        begun = self._monotonic()
        try:
            answer: Any = await asyncio.get_running_loop().run_in_executor(self._threads, review)
        except Refused as refusal:
            answer = refusal
        except errors.ApiError as error:  # also 403: our own rights are missing, which is no fault of the asker
            logger.warning("the API server does not say whose token it is: %s", error)
            raise Undecided(f"the API server does not say whose token it is: {error}") from error
        keep = KEEP_REFUSAL if isinstance(answer, Refused) else KEEP
        self._kept[key] = _Kept(begun + keep, answer)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return answer

    # ---- in a thread

    def _review(self, token: str, audience: str) -> Json:
        status = self._client.token_review(token, [audience])
        if not status.get("authenticated") or audience not in (status.get("audiences") or ()):
            reason = status.get("error") or "unknown, expired or of another audience"
            raise Refused(401, f"the token is not good for audience {audience}: {reason}")
        user: Json = status.get("user") or {}
        return user

    def _review_reader(self, token: str) -> str:
        user = self._review(token, names.READ_AUDIENCE)
        account = _ACCOUNT.fullmatch(str(user.get("username", "")))
        if account is None:
            raise Refused(403, f"{user.get('username')} is not a service account")
        return account.group(1)

    def _review_trial(self, token: str) -> Identity | Worker:
        user = self._review(token, names.TOKEN_AUDIENCE)
        account = _ACCOUNT.fullmatch(str(user.get("username", "")))
        extra = user.get("extra") or {}
        pod, uid = _only(extra, _POD_NAME), _only(extra, _POD_UID)
        if account is None or not pod or not uid:
            raise Refused(403, "the token is not bound to a pod; use the one that KUBETUNE_TOKEN_FILE names")
        try:
            found = self._client.get(resources.PODS, account.group(1), pod)
        except errors.NotFound:
            raise Refused(409, f"pod {pod} is gone") from None
        if found["metadata"].get("uid") != uid:
            raise Refused(409, f"pod {pod} is gone; there is another one of that name")
        return speaker.worker(found) or identity(found)


def _only(extra: Json, key: str) -> str:
    values: Sequence[str] = extra.get(key) or []
    return str(values[0]) if len(values) == 1 else ""


def identity(pod: Json) -> Identity:
    """Whom a pod runs for, by its labels and its owner. Raises Refused (403) for one that is no trial's."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    job = next((owner for owner in owners if owner["kind"] == "Job" and owner["apiVersion"] == "batch/v1"), None)
    number, attempt = labels.get(names.LABEL_TRIAL, ""), labels.get(names.LABEL_ATTEMPT, "")
    uid, experiment = labels.get(names.LABEL_EXPERIMENT_UID), labels.get(names.LABEL_EXPERIMENT)
    if job is None or not uid or not experiment or not _is_count(number) or not _is_count(attempt):
        raise Refused(403, f"pod {metadata.get('name')} does not run a trial of kubetune")
    uid = names.phase_uid(uid, labels.get(names.LABEL_PHASE, ""))
    return Identity(uid, metadata["namespace"], experiment, int(number), int(attempt), job["uid"], metadata["uid"])


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
