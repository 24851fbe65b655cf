"""Builders: an experiment in a storage, its trials and what their pods send, in few words."""

import dataclasses
import itertools
import uuid
from collections.abc import Mapping, Sequence

from kubetune.api.spec import Double, Parameter, ParamValue
from kubetune.api.trial import Ending, Finish, Reason, Report, TrialRow, TrialState
from kubetune.storage import base
from kubetune.storage.series import Piece
from tests.conftest import Storage

SPACE: Mapping[str, Parameter] = {"x": Double(0.0, 1.0)}

_keys = itertools.count()


@dataclasses.dataclass
class Experiment:
    """One experiment of its own UID and name, opened in a storage."""

    storage: Storage
    metrics: Sequence[str] = ("loss",)
    directions: Sequence[str] = ("minimize",)
    namespace: str = "team-a"
    uid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    name: str = dataclasses.field(default_factory=lambda: f"digits-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.study = self.storage.open_study(self.uid, self.namespace, self.name, self.metrics, self.directions)

    def create(
        self,
        *numbers: int,
        space: Mapping[str, Parameter] = SPACE,
        params: Mapping[str, ParamValue] | None = None,
        recorded: bool = True,
    ) -> None:
        """Trials with their Jobs created and recorded."""
        chosen = {"x": 0.5} if params is None else params
        self.storage.create_trials(self.uid, space, [base.NewTrial(number, chosen) for number in numbers])
        for number in numbers if recorded else ():
            assert self.record(number)

    def record(self, number: int, attempt: int = 1) -> bool:
        return self.storage.record_job(self.uid, number, attempt, job_uid(number, attempt))

    def who(self, number: int, attempt: int = 1) -> base.Identity:
        """The pod of one attempt."""
        job = job_uid(number, attempt)
        return base.Identity(self.uid, self.namespace, self.name, number, attempt, job, f"pod-of-{job}")

    def incoming(
        self, number: int, step: int | None = None, attempt: int = 1, key: str | None = None, **metrics: float
    ) -> base.Incoming:
        return self.incoming_of(number, metrics or {"loss": 1.0}, step, attempt, key)

    def incoming_of(
        self,
        number: int,
        metrics: Mapping[str, float],
        step: int | None = None,
        attempt: int = 1,
        key: str | None = None,
    ) -> base.Incoming:
        """For metrics whose names are no identifiers, or not known."""
        return base.Incoming(self.who(number, attempt), f"key-{next(_keys)}" if key is None else key, step, metrics)

    def report(
        self, number: int, step: int | None = None, attempt: int = 1, key: str | None = None, **metrics: float
    ) -> base.Answer | Exception:
        return self.storage.accept([self.incoming(number, step, attempt, key, **metrics)])[0]

    def finish(self, number: int, ending: Ending | None = None, attempt: int = 1, log: str | None = None) -> TrialRow:
        return self.storage.finish_trial(self.uid, number, attempt, lambda *_: ending or completed(0.0), log)

    def lose(self, number: int, lost: int = 1, reason: Reason = Reason.NODE_LOST) -> bool:
        return self.storage.new_attempt(self.uid, number, lost, reason, "the node is gone")

    def row(self, number: int) -> TrialRow:
        return {row.number: row for row in self.storage.load_trials(self.uid)}[number]

    def reports(self, number: int) -> list[Report]:
        return self.storage.trial_reports(self.namespace, self.name, number)


def job_uid(number: int, attempt: int) -> str:
    return f"job-{number}-{attempt}"


def completed(*values: float) -> Ending:
    return Ending(TrialState.COMPLETE, Reason.COMPLETED, "", values)


def pruned(*values: float) -> Ending:
    return Ending(TrialState.PRUNED, Reason.PRUNED, "below the median", values or None)


def failed(reason: Reason = Reason.EXIT_CODE, message: str = "exit code 1") -> Ending:
    return Ending(TrialState.FAIL, reason, message, None)


class Settled:
    """A ``settle`` that remembers what it was handed."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        self.reports: Sequence[Report] = ()
        self.finish: Finish | None = None

    def __call__(self, reports: Sequence[Report], finish: Finish | None) -> Ending:
        self.reports, self.finish = tuple(reports), finish
        return self.ending


ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def series_of(storage: Storage, uid: str) -> dict[int, dict[int, float]]:
    """The series of ended trials by number and step."""
    found: dict[int, dict[int, float]] = {}

    def take(piece: Piece) -> None:
        for number, steps, values in piece.each():
            assert number not in found
            found[number] = dict(zip(steps.tolist(), values.tolist(), strict=True))

    for state in ENDED:
        storage.each_series(uid, state, take)
    return dict(sorted(found.items()))
