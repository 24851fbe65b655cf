"""Simulated trials: each reports to the storage as the gateway would for it, and ends in one of many ways.

What a trial does depends on its number alone, so that its end can be foretold whatever happens around it.
"""

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable, Mapping

from kubetune.api import names, phases
from kubetune.api.spec import Json
from kubetune.api.trial import Reason
from kubetune.simulator import workers
from kubetune.simulator.census import is_worker, trial_of
from kubetune.simulator.nodes import Container, Exit
from kubetune.simulator.world import World
from kubetune.storage.base import (
    Answer,
    GatewayStorage,
    Identity,
    Incoming,
    NotCurrent,
    NotRecorded,
    StorageUnavailable,
)

METRIC = "score"
RESOURCE = "epochs"  # the fidelity of experiments whose trials run in legs

# what a trial does → why it ends, if nothing else ends it
ENDS = {
    "completes": Reason.COMPLETED,
    "deaf": Reason.COMPLETED,  # completes, and hears of no stop
    "lingers": Reason.COMPLETED,  # says that it has finished, and never exits
    "exits": Reason.EXIT_CODE,
    "grows": Reason.OOM_KILLED,
    "nan": Reason.NOT_A_NUMBER,
    "silent": Reason.NO_METRIC,
    "gives up": Reason.TRIAL_FAILED,
    "hangs": Reason.DEADLINE_EXCEEDED,
    "image": Reason.IMAGE,
    "config": Reason.CONFIG,
}
_TROUBLE = {
    "image": ("ImagePullBackOff", 'Back-off pulling image "absent:1"'),
    "config": ("CreateContainerConfigError", 'secret "absent" not found'),
}


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What one trial does, in each of its attempts."""

    kind: str
    steps: int
    interval: float  # seconds between reports
    quality: float

    def given(self, resource: int) -> "Behaviour":
        """As a leg that gives so much of `RESOURCE`; what is odd about it shows from some leg on."""
        kind = self.kind if 2 * resource > self.steps else "completes"
        return dataclasses.replace(self, kind=kind, steps=resource)

    def value(self, step: int) -> float:
        if self.kind == "nan" and step == self.steps - 1:
            return math.nan
        return self.quality + step / 100


def behaviour(seed: int | str, number: int, odd: float, kinds: tuple[str, ...]) -> Behaviour:
    """Of trial ``number``; with probability ``odd`` it is one of ``kinds``, else it completes."""
    dice = random.Random(f"{seed}/{number}")
    kind = dice.choice(kinds) if dice.random() < odd else "completes"
    return Behaviour(kind, dice.randint(1, 7), dice.uniform(0.2, 4.0), dice.random())


@dataclasses.dataclass
class Ledger:
    """Every report that was acknowledged: (experiment's UID, trial, attempt, seq) → value."""

    acknowledged: dict[tuple[str, int, int, int], float] = dataclasses.field(default_factory=dict)


class Trials:
    """Makes the containers of trials."""

    def __init__(
        self,
        world: World,
        storage: GatewayStorage,
        ledger: Ledger,
        behave: Callable[[str, int], Behaviour],
        source: Callable[[str], str],
        notify: Callable[[str], None],
        saves: Callable[[str], bool] = lambda uid: False,
    ) -> None:
        self.world, self.storage, self.ledger = world, storage, ledger
        self.saves = saves  # whether an experiment's trials save checkpoints
        self.notify = notify
        self.checkpoints: dict[tuple[str, int], int] = {}  # by experiment's UID and trial: steps that are done
        self._behave, self._source = behave, source

    def container(self, job: Json) -> Container:
        if is_worker(job):
            return Container(lambda pod, exit_: self._agent(job, pod, exit_).start())
        uid, number, _ = trial_of(job)
        pod = job["spec"]["template"]["spec"]
        given = {each["name"]: each.get("value", "") for each in pod["containers"][0].get("env") or ()}
        what = self._given(uid, number, given)
        deadline = pod.get("activeDeadlineSeconds")
        kind = Followed if self._source(uid) == "log" else Process
        return Container(lambda pod, exit_: kind(self, what, pod, exit_).start(), _TROUBLE.get(what.kind), deadline)

    def _agent(self, job: Json, pod: Json, exit_: Exit) -> workers.Agent:
        given = workers.settings(job)
        deadline = float(given["DEADLINE"]) if "DEADLINE" in given else None
        calls = workers.Calls(self.storage, self.world.after, self.notify, int(given["SLOTS"]), deadline)
        return workers.Agent(calls, pod, exit_, self._run)

    def _run(self, pod: Json, environment: Mapping[str, str], exit_: Exit) -> Callable[[], None]:
        uid, number, _ = trial_of(pod)
        return Process(self, self._given(uid, number, environment), pod, exit_).start()

    def _given(self, uid: str, number: int, environment: Mapping[str, str]) -> Behaviour:
        what = self._behave(uid, number)
        return what.given(int(environment[RESOURCE])) if RESOURCE in environment else what

    def begin(self, who: Identity, what: Behaviour) -> int:
        """The step that a process begins with: after its checkpoint, but the last step is there to be reported."""
        return min(self.checkpoints.get((who.experiment_uid, who.number), 0), what.steps - 1)


class Process:
    """A trial with our client: it waits for each report's answer, and obeys a stop."""

    def __init__(self, trials: Trials, what: Behaviour, pod: Json, exit_: Exit) -> None:
        self._trials, self._what, self._exit = trials, what, exit_
        uid, number, attempt = trial_of(pod)
        metadata = pod["metadata"]
        job_uid = metadata["ownerReferences"][0]["uid"]
        experiment = metadata["labels"]["kubetune.dev/experiment"]
        self._who = Identity(uid, metadata["namespace"], experiment, number, attempt, job_uid, metadata["uid"])
        self._steps = what.steps
        self._step = trials.begin(self._who, what)
        self._dead = False

    def start(self) -> Callable[[], None]:
        """Returns what kills it."""
        if self._what.kind == "silent":
            self._later(self._end)
        else:
            self._later(self._report)
        return self._die

    def _die(self) -> None:
        self._dead = True

    def _later(self, happen: Callable[[], None], seconds: float | None = None) -> None:
        wait = self._what.interval if seconds is None else seconds
        self._trials.world.after(wait, lambda: None if self._dead else happen())

    def _report(self) -> None:
        answer = self._send(self._step)
        if answer is None:
            self._later(self._report, 1.0)  # the same again, with the same key
        elif isinstance(answer, NotCurrent) or (answer.stop and self._what.kind != "deaf"):
            self._exit(0, "Completed")
        else:
            self._next()

    def _next(self) -> None:
        self._step += 1
        if self._trials.saves(self._who.experiment_uid):
            self._trials.checkpoints[self._who.experiment_uid, self._who.number] = self._step
        self._later(self._report if self._step < self._steps else self._end)

    def _send(self, step: int) -> Answer | NotCurrent | None:
        """None: not now."""
        value = self._what.value(step)
        try:
            (answer,) = self._trials.storage.accept([Incoming(self._who, f"key-{step}", step, self._metrics(step))])
        except StorageUnavailable:
            return None
        if isinstance(answer, NotCurrent):
            return answer
        if isinstance(answer, NotRecorded):
            return None
        if isinstance(answer, Exception):
            raise answer
        who = self._who
        self._trials.ledger.acknowledged[who.experiment_uid, who.number, who.attempt, answer.seq] = value
        self._trials.notify(who.experiment_uid)
        return answer

    def _metrics(self, step: int) -> dict[str, float]:
        """A refit tells of its model at the end."""
        metrics = {METRIC: self._what.value(step)}
        if step == self._steps - 1 and phases.kind(names.phase_of(self._who.experiment_uid)) == phases.REFIT:
            with contextlib.suppress(NotCurrent, NotRecorded):  # then the report is not accepted either
                self._trials.storage.model(self._who, f"s3://models/{self._who.attempt}", "")
            metrics[names.MODEL_METRIC] = 1.0
        return metrics

    def _end(self) -> None:
        kind = self._what.kind
        if kind == "hangs":
            return
        if kind in ("gives up", "lingers"):
            self._finish("failed" if kind == "gives up" else "complete")
        elif kind == "grows":
            self._exit(137, "OOMKilled")
        else:
            self._exit(1 if kind == "exits" else 0, "Error" if kind == "exits" else "Completed")

    def _finish(self, status: str) -> None:
        try:
            self._trials.storage.finish(self._who, status, "says the trial")
        except (StorageUnavailable, NotRecorded):
            self._later(lambda: self._finish(status), 1.0)
            return
        except NotCurrent:
            pass
        self._trials.notify(self._who.experiment_uid)
        if status == "failed":
            self._exit(1, "Error")


class Followed(Process):
    """A trial without our client: it writes a log, which a gateway follows, and knows nothing of stops."""

    def __init__(self, trials: Trials, what: Behaviour, pod: Json, exit_: Exit) -> None:
        super().__init__(trials, what, pod, exit_)
        self._lines: list[int] = []
        self._ended = False

    def start(self) -> Callable[[], None]:
        kill = super().start()
        self._trials.world.after(0.5, self._follow)
        return kill

    def _die(self) -> None:
        super()._die()
        self._ended = True

    def _report(self) -> None:
        self._lines.append(self._step)
        self._next()

    def _end(self) -> None:
        if self._what.kind != "hangs":
            super()._end()

    def _finish(self, status: str) -> None:
        self._exit(1 if status == "failed" else 0, "Error")

    def _follow(self) -> None:
        while self._lines:
            answer = self._send(self._lines[0])
            if isinstance(answer, NotCurrent):
                return
            if answer is None:
                break
            self._lines.pop(0)
        if self._ended and not self._lines and self._read():
            return
        self._trials.world.after(0.5, self._follow)

    def _read(self) -> bool:
        try:
            if self._trials.storage.claim_log(self._who, "gateway", 30.0) is not None:
                self._trials.storage.save_log(self._who, "gateway", "", True)
        except StorageUnavailable:
            return False
        self._trials.notify(self._who.experiment_uid)
        return True
