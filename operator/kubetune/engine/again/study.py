"""What is decided again, and what came of it."""

import dataclasses
from collections.abc import Mapping, Sequence

from kubetune.api import narrow
from kubetune.api.spec import Algorithm, ExperimentSpec, Json, Parameter
from kubetune.api.trial import TrialState
from kubetune.engine import searching, stages, steering
from kubetune.engine.history import Past
from kubetune.storage import rules
from kubetune.storage.base import Steer, WarmTrial
from kubetune.storage.record import TrialRecord

SHOWN = 10  # differences kept


@dataclasses.dataclass(frozen=True)
class Study:
    """The record of a study: ``spec`` as it is in force at the end, the rest in order."""

    spec: ExperimentSpec
    steering: Sequence[Steer]
    warm: Sequence[WarmTrial]
    trials: Sequence[TrialRecord]


@dataclasses.dataclass
class Verdict:
    """What came of it: how many decisions of a kind are the same. ``notes``: what could not be decided again, and
    why."""

    asked: int = 0  # sets of parameters
    stops: int = 0
    rungs: int = 0  # judgements that let a trial go on
    bounds: int = 0  # regret bounds
    legs: int = 0  # what follows when a leg has ended
    promotions: int = 0  # of paused trials
    plans: int = 0  # of a phase: its sets of parameters, its seeds, the model; and who won
    differences: list[str] = dataclasses.field(default_factory=list)
    different: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def same(self) -> int:
        return self.asked + self.stops + self.rungs + self.bounds + self.legs + self.promotions + self.plans

    def differs(self, what: str) -> None:
        self.different += 1
        if len(self.differences) < SHOWN:
            self.differences.append(what)


def ended(study: Study) -> list[TrialRecord]:
    """Those without a place in the order ended before there was one."""
    return [each for each in study.trials if each.row.state is not TrialState.RUNNING]


def past(trial: TrialRecord) -> Past:
    """An ended trial as samplers see it."""
    row, ended = trial.row, rules.summary(trial.row, trial.series)
    return Past(
        row.number,
        row.state,
        row.params,
        row.values,
        ended.last,
        ended.ended,
        ended.constraints,
        ended.gradient,
        ended.member,
    )


def in_force(study: Study, number: int) -> ExperimentSpec | None:
    """The spec by which trial ``number`` was asked, with the sampler that was picked; None: that was not kept."""
    by_then = [each for each in study.steering if each.trial is not None and each.trial <= number]
    search = _last(by_then, searching.SEARCH)
    if search is None:
        return None
    spec = dataclasses.replace(study.spec, seed=search["seed"], narrow=_narrow(study.spec, by_then))
    spec = stages.asked(spec, stages.latest(by_then)) if spec.stages else spec
    return dataclasses.replace(spec, sampler=algorithm(search["sampler"]), pruner=algorithm(search["pruner"]))


def _narrow(spec: ExperimentSpec, by_then: Sequence[Steer]) -> Mapping[str, Parameter]:
    """What people had narrowed."""
    bounds = _last(by_then, steering.NARROW) or {}
    forms = {}
    for name, form in bounds.items():
        given = dict(form)
        if "choices" in given:
            choices = given["choices"]
            kind = "values" if not isinstance(choices[0], str | bool) else "choice"
            given = {"bool": choices[0]} if isinstance(choices[0], bool) else {kind: choices}
        forms[name] = given
    return narrow.parse(forms, spec.parameters)


def _last(those: Sequence[Steer], kind: str) -> Json | None:
    return next((each.detail for each in reversed(those) if each.kind == kind), None)


def algorithm(form: Json) -> Algorithm:
    """As the record has it."""
    return Algorithm(form["name"], form["settings"])
