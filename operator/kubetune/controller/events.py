"""Kubernetes events on experiments: what `kubectl describe` shows, deduplicated and bounded.

The same event again counts up the one that is there, also after a restart: its name is a hash of what it says. Each
experiment has a token bucket, so that a thousand failing trials do not flood etcd. Nothing waits for an event and
nothing fails with one: a thread of its own posts them.
"""

import dataclasses
import datetime
import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.kube import errors, resources
from kubetune.kube.client import Client

BURST = 25  # events of one experiment at once
REFILL = 10.0  # seconds until one more is allowed
REPEAT = 30.0  # seconds between two writes of the same event; what happens in between is counted
_BACKLOG = 1000
_REMEMBERED = 3600.0  # the API server forgets events after an hour, by default

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Happening:
    """One thing to tell. Two that are equal are one event with a higher count."""

    namespace: str
    experiment: str
    uid: str
    kind: str  # Normal | Warning
    reason: str
    message: str

    @property
    def name(self) -> str:
        """The event's name: the same for the same words about the same experiment."""
        words = "\n".join((self.uid, self.kind, self.reason, self.message))
        return f"{self.experiment[:200]}.{hashlib.sha256(words.encode()).hexdigest()[:16]}"


@dataclasses.dataclass
class _Told:
    count: int
    posted: float
    seen: float


class Bucket:
    """At most `BURST` at once, then one every `REFILL` seconds."""

    def __init__(self, now: float) -> None:
        self._tokens = float(BURST)
        self.updated = now

    def take(self, now: float) -> bool:
        self._tokens = min(float(BURST), self._tokens + (now - self.updated) / REFILL)
        self.updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Recorder:
    """Posts events in the background. ``clock``: epoch seconds."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock
        self._backlog: queue.Queue[Happening | None] = queue.Queue(_BACKLOG)
        self._told: dict[Happening, _Told] = {}
        self._buckets: dict[str, Bucket] = {}
        self._swept = clock()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, seconds: float = 3.0) -> None:
        """Post what is waiting, for so long at most."""
        if not self._thread.is_alive():
            return
        try:
            self._backlog.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(seconds)

    def event(self, spec: ExperimentSpec, kind: str, reason: str, message: str) -> None:
        """Tell; never raises, never waits."""
        cut = message if len(message) <= 1000 else message[:999] + "…"
        try:
            self._backlog.put_nowait(Happening(spec.namespace, spec.name, spec.owner, kind, reason, cut))
        except queue.Full:
            logger.debug("event %s dropped: too many are waiting", reason)

    def _run(self) -> None:
        while (happening := self._backlog.get()) is not None:
            try:
                self.tell(happening)
            except errors.ApiError as error:
                logger.debug("event %s not posted: %s", happening.reason, error)
            except Exception:
                logger.exception("event %s not posted", happening.reason)

    def tell(self, happening: Happening) -> None:
        """Post one, or count it. Raises the errors of `kube.errors`."""
        now = self._clock()
        self._forget(now)
        told = self._told.get(happening)
        if told is not None:
            told.count += 1
            told.seen = now
            if now - told.posted < REPEAT:
                return
        if not self._buckets.setdefault(happening.uid, Bucket(now)).take(now):
            logger.debug("event %s dropped: its experiment has many", happening.reason)
            return
        count = self._create(happening, now) if told is None else self._repeat(happening, told.count, now)
        self._told[happening] = _Told(count, now, now)

    def _create(self, happening: Happening, now: float) -> int:
        try:
            self._client.create(resources.EVENTS, happening.namespace, body(happening, 1, now))
        except errors.AlreadyExists:  # told by an operator before this one
            there = self._client.get(resources.EVENTS, happening.namespace, happening.name)
            return self._repeat(happening, int(there.get("count") or 1) + 1, now)
        return 1

    def _repeat(self, happening: Happening, count: int, now: float) -> int:
        patch = {"count": count, "lastTimestamp": _time(now)}
        try:
            self._client.patch(resources.EVENTS, happening.namespace, happening.name, patch)
        except errors.NotFound:  # the server forgot it
            self._client.create(resources.EVENTS, happening.namespace, body(happening, 1, now))
            return 1
        return count

    def _forget(self, now: float) -> None:
        """Once a minute, let go of what nobody has mentioned for long."""
        if now - self._swept < 60:
            return
        self._swept = now
        self._told = {key: told for key, told in self._told.items() if now - told.seen < _REMEMBERED}
        self._buckets = {uid: bucket for uid, bucket in self._buckets.items() if now - bucket.updated < BURST * REFILL}


def body(happening: Happening, count: int, now: float) -> Json:
    """The event as core/v1 has it."""
    return {
        "apiVersion": resources.EVENTS.api_version,
        "kind": resources.EVENTS.kind,
        "metadata": {"name": happening.name, "namespace": happening.namespace},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "namespace": happening.namespace,
            "name": happening.experiment,
            "uid": happening.uid,
        },
        "type": happening.kind,
        "reason": happening.reason,
        "message": happening.message,
        "count": count,
        "firstTimestamp": _time(now),
        "lastTimestamp": _time(now),
        "source": {"component": names.MANAGED_BY},
        "reportingComponent": f"{names.GROUP}/operator",
        "reportingInstance": names.MANAGED_BY,
    }


def _time(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
