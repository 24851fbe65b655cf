"""Which of several operators leads: a coordination.k8s.io Lease. Who leads then takes the database's epoch.

The Lease decides who tries, the epoch (`storage.base.EngineStorage.acquire`) whose writes count. So a Lease that
is wrong for a moment costs a hand-over and nothing else, and it may be short: from a kill to the successor's lead pass
at most LOOK + DURATION + LOOK = 6 seconds.

Nobody's wall clock is believed: a standby counts DURATION by its own monotonic clock from when it saw the last renewal,
as client-go does. Unlike client-go it counts only while its own looks are answered in time, so that an API server that
was away for a while does not cost the leader its place; and a leader that cannot renew goes on, since it is fenced if
another took over.
"""

import contextlib
import dataclasses
import datetime
import enum
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable

from kubetune.api import names
from kubetune.api.spec import Json
from kubetune.kube import errors, resources
from kubetune.kube.client import Client

DURATION = 5.0  # seconds without a renewal after which a leader is taken for dead
RENEW = 1.5  # seconds between renewals; one that failed is tried again after LOOK
LOOK = 0.5  # seconds between a standby's looks
GAP = 2.5  # seconds between two answered looks, above which the time before proves nothing
TIMEOUT = 1.5  # seconds for one answer, so that a leader has two attempts within DURATION

logger = logging.getLogger(__name__)


class NotAllowed(Exception):  # noqa: N818
    """The operator has no right to its Lease; the message says what to grant."""


class Action(enum.Enum):
    """What to do about the Lease."""

    WAIT = "wait"
    TAKE = "take"  # write it with us as the holder: it is free, dead, or not there
    RENEW = "renew"
    LOST = "lost"  # another holds, or may have held since, what we held


@dataclasses.dataclass(frozen=True)
class Lease:
    """What matters of one that is there."""

    holder: str  # "": released
    version: str  # changes with each renewal


@dataclasses.dataclass(frozen=True)
class View:
    """What one candidate knows. Times by its own monotonic clock.

    ``me``: ``host_random``; another process of the same host (the pod's name) is one that died before this began.
    """

    me: str
    leads: bool = False
    lease: Lease | None = None  # as seen last
    since: float = 0.0  # first seen so
    looked: float = float("-inf")  # last look that was answered


def step(view: View, now: float, lease: Lease | None, eligible: bool = True) -> tuple[View, Action]:
    """One answered look at the Lease (None: there is none). ``eligible``: whether we could lead now. Pure."""
    unchanged = lease == view.lease and now - view.looked <= GAP
    seen = dataclasses.replace(view, lease=lease, since=view.since if unchanged else now, looked=now)
    if lease is not None and lease.holder == view.me:  # also when the answer to our write was lost
        return dataclasses.replace(seen, leads=True), Action.RENEW
    if view.leads and (lease is not None or now - view.looked > GAP):
        return dataclasses.replace(seen, leads=False), Action.LOST
    if view.leads:  # somebody deleted it; had we not looked for long, another could have led since
        return seen, Action.TAKE
    if eligible and _is_free(seen, now):
        return seen, Action.TAKE
    return seen, Action.WAIT


def _is_free(view: View, now: float) -> bool:
    if view.lease is None or not view.lease.holder:
        return True
    return _host(view.lease.holder) == _host(view.me) or now - view.since >= DURATION


def _host(identity: str) -> str:
    return identity.rpartition("_")[0]


def identity() -> str:
    """This process' name as a holder."""
    return f"{host()}_{secrets.token_hex(4)}"


def host() -> str:
    """The pod's name."""
    return socket.gethostname()


class Elector:
    """Looks at one Lease and renews it, in a thread of its own.

    Args:
        client: for this alone, with `TIMEOUT`: a renewal waits for nothing else.
        eligible: whether this operator could lead at once.
        on_won, on_lost: told once each, in the thread; they must not take long.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        eligible: Callable[[], bool],
        on_won: Callable[[], None],
        on_lost: Callable[[], None],
        me: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._eligible = eligible
        self._on_won = on_won
        self._on_lost = on_lost
        self._monotonic = monotonic
        self._view = View(me or identity())
        self._held: Json | None = None  # as we wrote it last
        self._told = False  # `on_won`
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def leads(self) -> bool:
        return self._view.leads

    def check(self) -> None:
        """Raises NotAllowed if it may not read its Lease, and the errors of `kube.errors`."""
        try:
            self._read()
        except errors.Forbidden as error:
            raise NotAllowed(self._missing(error)) from error

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop, and let go of the Lease, so that a standby leads at its next look."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * GAP)
        if not self._view.leads:
            return
        try:
            raw = self._read()
            if raw is not None and _lease(raw).holder == self._view.me:
                self._write(raw, "")
        except errors.ApiError as error:
            logger.warning("the Lease is not released, it will expire: %s", error)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self.turn())

    def turn(self) -> float:
        """Renew, or look and do what follows. Seconds until the next turn."""
        begun, well = self._monotonic(), False
        try:
            if not self._renewed():
                self._look()
            well = True
        except errors.Forbidden as error:
            logger.error("%s", self._missing(error))
        except errors.ApiError as error:
            level = logging.WARNING if self._view.leads else logging.INFO
            seconds = self._monotonic() - begun
            logger.log(level, "the Lease cannot be had after %.1f s: %s", seconds, error)
        if self._view.leads and not self._told:  # also when the answer to a renewal was lost
            self._told = True
            logger.info("this operator leads: %s holds the Lease", self._view.me)
            self._on_won()
        return RENEW if self._view.leads and well else LOOK

    def _renewed(self) -> bool:
        """Whether one write did it: nobody has touched it since our last one."""
        if not self._view.leads or self._held is None:
            return False
        try:
            self._hold(self._held)
        except (errors.Conflict, errors.NotFound):
            self._held = None
        return self._held is not None

    def _look(self) -> None:
        raw = self._read()
        lease = None if raw is None else _lease(raw)
        self._view, action = step(self._view, self._monotonic(), lease, self._eligible())
        if action in (Action.TAKE, Action.RENEW):
            with contextlib.suppress(errors.Conflict, errors.AlreadyExists):  # who was faster stays
                self._hold(raw)
        if action is Action.LOST:
            logger.error("%s holds the Lease now; this operator stops", lease.holder if lease else "nobody")
            self._stop.set()
            self._on_lost()

    def _hold(self, raw: Json | None) -> None:
        """Write ourselves as the holder."""
        self._held = self._write(raw, self._view.me)
        now = self._monotonic()
        self._view = dataclasses.replace(self._view, leads=True, lease=_lease(self._held), since=now, looked=now)

    # ---- the object

    def _read(self) -> Json | None:
        try:
            return self._client.get(resources.LEASES, self._namespace, self._name)
        except errors.NotFound:
            return None

    def _write(self, raw: Json | None, holder: str) -> Json:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = (raw or {}).get("spec") or {}
        spec = {**before, "renewTime": now, "leaseDurationSeconds": round(DURATION), "holderIdentity": holder}
        if holder != before.get("holderIdentity"):
            spec |= {"acquireTime": now, "leaseTransitions": int(before.get("leaseTransitions") or 0) + bool(holder)}
        labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_NAME: "kubetune"}
        kind = {"apiVersion": resources.LEASES.api_version, "kind": resources.LEASES.kind}
        if raw is None:
            metadata: Json = {"name": self._name, "namespace": self._namespace, "labels": labels}
            return self._client.create(resources.LEASES, self._namespace, {**kind, "metadata": metadata, "spec": spec})
        body = {**kind, "metadata": raw["metadata"], "spec": spec}
        return self._client.replace(resources.LEASES, self._namespace, self._name, body)

    def _missing(self, error: errors.ApiError) -> str:
        return (
            f"the operator needs the verbs get, create and update on leases (coordination.k8s.io) in namespace"
            f" {self._namespace} (the chart's Role {self._name} grants them; with rbac.create=false grant them"
            f" yourself): {error}"
        )


def _lease(raw: Json) -> Lease:
    return Lease((raw.get("spec") or {}).get("holderIdentity") or "", raw["metadata"].get("resourceVersion", ""))
