"""Simulated workers: the agent's part, at the storage as the gateway would speak for it.

A slot asks every now and then, runs what it gets as a trial of `trials`, and hands its end over with the question for
the next. A heartbeat tells of what is over.
"""

import dataclasses
from collections.abc import Callable, Mapping

from kubetune.api import names
from kubetune.api.spec import Json
from kubetune.api.trial import Exit as Ending
from kubetune.api.trial import Reason
from kubetune.simulator.nodes import Exit
from kubetune.storage import base

LEASE = 60.0  # seconds
ASK = 0.5  # seconds between two questions of an idle slot
HEARTBEAT = 5.0

# a trial's pod, what its leg gets, its exit → what kills it
Start = Callable[[Json, Mapping[str, str], Exit], Callable[[], None]]


@dataclasses.dataclass
class _Slot:
    number: int
    running: base.Granted | None = None
    kill: Callable[[], None] | None = None
    ended: base.Ended | None = None  # not told yet


class Agent:
    """One worker's pod. ``run``: begins a trial; ``calls``: where leases come from, and the world's clock."""

    def __init__(self, calls: "Calls", pod: Json, exit_: Exit, run: Start) -> None:
        self._calls, self._pod, self._exit, self._run = calls, pod, exit_, run
        metadata, labels = pod["metadata"], pod["metadata"]["labels"]
        self._who = base.Worker(
            labels[names.LABEL_EXPERIMENT_UID],
            metadata["namespace"],
            labels[names.LABEL_EXPERIMENT],
            int(labels[names.LABEL_WORKER]),
            metadata["ownerReferences"][0]["uid"],
            metadata["uid"],
        )
        self._dead = self._draining = False
        self._slots = [_Slot(number) for number in range(calls.slots)]

    def start(self) -> Callable[[], None]:
        """Returns what kills it."""
        for slot in self._slots:
            self._later(ASK, lambda slot=slot: self._ask(slot))  # type: ignore[misc]
        self._later(HEARTBEAT, self._beat)
        return self._die

    def _die(self) -> None:
        self._dead = True
        for slot in self._slots:
            if slot.kill:
                slot.kill()

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self._calls.after(seconds, lambda: None if self._dead else do())

    def _ask(self, slot: _Slot) -> None:
        wanted = None if self._draining else slot.number
        try:
            granted = self._calls.storage.lease(self._who, wanted, LEASE, slot.ended)
        except (base.StorageUnavailable, base.NotRecorded):
            self._later(1.0, lambda: self._ask(slot))
            return
        except base.NotCurrent:
            granted = base.Granted(drain=True)
        slot.ended = None
        self._calls.notify(self._who.experiment_uid)
        if granted.number is not None:
            self._begin(slot, granted)
        elif granted.drain or self._draining:
            self._leave(slot)
        else:
            self._later(ASK, lambda: self._ask(slot))

    def _begin(self, slot: _Slot, granted: base.Granted) -> None:
        slot.running = granted
        labels = {
            **self._pod["metadata"]["labels"],
            names.LABEL_TRIAL: str(granted.number),
            names.LABEL_ATTEMPT: str(granted.attempt),
        }
        pod = {**self._pod, "metadata": {**self._pod["metadata"], "labels": labels}}
        slot.kill = self._run(pod, granted.environment, lambda code, reason: self._over(slot, granted, code, reason))
        if self._calls.deadline is not None:
            end = lambda: self._over(slot, granted, 137, str(Reason.DEADLINE_EXCEEDED))  # noqa: E731
            self._later(self._calls.deadline, end)

    def _over(self, slot: _Slot, granted: base.Granted, code: int, reason: str) -> None:
        if self._dead or slot.running is not granted or granted.number is None:
            return
        if slot.kill:
            slot.kill()
        known = {"OOMKilled": Reason.OOM_KILLED, str(Reason.DEADLINE_EXCEEDED): Reason.DEADLINE_EXCEEDED}
        why = known.get(reason, Reason.EXIT_CODE if code else None)
        slot.running, slot.ended = None, base.Ended(granted.number, granted.attempt, Ending(why, reason))
        self._ask(slot)

    def _beat(self) -> None:
        running = {(slot.running.number, slot.running.attempt): slot for slot in self._slots if slot.running}
        held = [(number, attempt) for number, attempt in running if number is not None]
        try:
            answers, drain = self._calls.storage.renew(self._who, held, LEASE)
        except (base.StorageUnavailable, base.NotRecorded):
            answers, drain = [], False
        self._draining = self._draining or drain
        for key, answer in zip(held, answers, strict=False):
            slot = running[key]
            if answer is None and slot.kill is not None:
                slot.kill()
                slot.running = None
                self._ask(slot)
        self._later(HEARTBEAT, self._beat)

    def _leave(self, slot: _Slot) -> None:
        self._draining = True
        self._slots.remove(slot)
        if not self._slots and not self._dead:
            self._dead = True
            self._exit(0, "Completed")


@dataclasses.dataclass
class Calls:
    """What an agent needs of its surroundings. ``deadline``: of one trial, in seconds."""

    storage: base.GatewayStorage
    after: Callable[[float, Callable[[], None]], None]
    notify: Callable[[str], None]
    slots: int
    deadline: float | None


def settings(job: Json) -> Mapping[str, str]:
    """The agent's own variables, by their names' ends."""
    variables = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return {
        each["name"][len(names.ENV_WORKER) :]: each["value"]
        for each in variables
        if each["name"].startswith(names.ENV_WORKER)
    }
