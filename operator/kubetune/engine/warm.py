"""Trials of other experiments as the beginning of this one's history.

Taken once, before the first trial, and recorded as they were mapped: a restart sees the same, whatever became of the
others. The rules:
- The same metrics and directions, in the same order, or it is refused.
- COMPLETE and PRUNED trials. A value is kept as it is, a number moved to the nearest step. A trial with a value beyond
  a range, or a choice that is not one here, is left out; so is one that does not tell this experiment's constraints.
- A parameter that the other does not have says nothing: it is drawn at random, on its scale.
- Each parameter in which the two spaces differ halves how many are taken: evenly over their ranks, the best included.
- At most `MOST` in all, as many of each.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from kubetune.api import names
from kubetune.api import parameters as api
from kubetune.api.spec import Categorical, ExperimentSpec, InvalidSpec, Parameter, ParamValue
from kubetune.api.trial import TrialState, penalty
from kubetune.engine import samplers
from kubetune.engine.history import History, Past, View
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Sight, seed_of
from kubetune.storage.base import EndedTrial, EngineStorage, StudyRow, WarmTrial

MOST = 200  # each is in every view: this is what a suggestion costs more
PAGE = 5000  # trials read at once
_ALONE = 2_000_000  # which of a number's seeds draws what is missing


@dataclasses.dataclass(frozen=True)
class Source:
    """Another experiment: its search space, and what has ended of it."""

    name: str
    uid: str
    parameters: Mapping[str, Parameter]
    trials: Sequence[EndedTrial]


def check(spec: ExperimentSpec, search: Sequence[samplers.Sampler]) -> None:
    """Whether one of its samplers makes anything of it. Raises InvalidSpec."""
    for place, name in enumerate(spec.warm_start):
        if name == spec.name:
            raise InvalidSpec(f"warmStart.from[{place}]", f"{name} is this experiment itself; name another one")
    if spec.warm_start and all(each.sight == Sight() or each.leads for each in search):
        raise InvalidSpec(
            "warmStart", f"{spec.sampler.name} makes nothing of other experiments' trials; take tpe or gp, or drop it"
        )


def find(spec: ExperimentSpec, storage: EngineStorage) -> list[WarmTrial]:
    """What there is to begin with now.

    Raises:
        InvalidSpec: an experiment is not there, or does not fit.
        StorageUnavailable: as the storage does.
    """
    there = {study.name: study for study in storage.studies() if _is_source(study, spec)}  # the newest last
    found = []
    for place, name in enumerate(spec.warm_start):
        field = f"warmStart.from[{place}]"
        if name not in there:
            raise InvalidSpec(field, f"there is no experiment {name} in this namespace that has run; check the name")
        _same_objectives(field, spec, there[name])
        found.append(_source(field, there[name], storage))
    share = MOST // max(1, len(found))
    return [trial for source in found for trial in mapped(spec, source, share)]


def _is_source(study: StudyRow, spec: ExperimentSpec) -> bool:
    return study.namespace == spec.namespace and not names.phase_of(study.uid)


def _same_objectives(field: str, spec: ExperimentSpec, study: StudyRow) -> None:
    wanted = [(each.direction, each.metric) for each in spec.objectives]
    given = list(zip(study.directions, study.metrics, strict=True))
    if wanted != given:
        theirs, ours = (" and ".join(f"{way} {metric}" for way, metric in those) for those in (given, wanted))
        raise InvalidSpec(field, f"{study.name} was made to {theirs}, this one to {ours}: its values say nothing here")


def _source(field: str, study: StudyRow, storage: EngineStorage) -> Source:
    kept = storage.load_spec(study.uid)
    try:
        space = api.parse((kept.spec if kept else {}).get("parameters") or {})
    except InvalidSpec as error:
        raise InvalidSpec(field, f"the search space of {study.name} cannot be read: {error}") from None
    trials: list[EndedTrial] = []
    while page := storage.load_ended(study.uid, trials[-1].number if trials else -1, PAGE):
        trials += page
    return Source(study.name, study.uid, space, trials)


def mapped(spec: ExperimentSpec, source: Source, most: int) -> list[WarmTrial]:
    """Of one source, by the rules above; in order of number."""
    fitting = []
    for trial in source.trials:
        params = _params(spec, trial) if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None
        if params is not None and _tells(spec, trial):
            fitting.append((trial, params))
    names = spec.parameters.keys() | source.parameters.keys()
    differing = sum(spec.parameters.get(name) != source.parameters.get(name) for name in names)
    count = min(most, math.ceil(len(fitting) / 2**differing))
    ranked = sorted(range(len(fitting)), key=lambda place: _rank(spec, fitting[place][0]))
    chosen = {ranked[place * len(ranked) // count] for place in range(count)}
    return [_warm(spec, source, *fitting[place]) for place in sorted(chosen)]


def _params(spec: ExperimentSpec, trial: EndedTrial) -> dict[str, ParamValue] | None:
    """What of its values this space has; None: one of them it cannot have."""
    params = {}
    for name, value in trial.params.items():
        if name in spec.parameters:
            near = _near(spec.parameters[name], value)
            if near is None:
                return None
            params[name] = near
    return params


def _near(parameter: Parameter, value: Any) -> ParamValue | None:
    """The parameter's own value that is nearest; None: it is beyond its range, or none of its choices."""
    if isinstance(parameter, Categorical):
        return api.own(parameter, value) if api.within(parameter, value) else None
    if isinstance(value, str | bool) or not parameter.low <= value <= parameter.high:
        return None
    if parameter.step is not None and not api.within(parameter, value):
        most = math.floor((parameter.high - parameter.low) / parameter.step + 1e-9)
        value = parameter.low + min(round((value - parameter.low) / parameter.step), most) * parameter.step
    return api.own(parameter, value)


def _tells(spec: ExperimentSpec, trial: EndedTrial) -> bool:
    """Whether this experiment's constraints are known of it, and its values."""
    known = trial.constraints or {}
    return all(each.name in known for each in spec.constraints) and (trial.values is not None or trial.last is not None)


def _rank(spec: ExperimentSpec, trial: EndedTrial) -> tuple[bool, float, float, int]:
    """Best first: by constraints, then by the first objective; PRUNED ones last."""
    value = trial.values[0] if trial.values else math.inf
    loss = -value if spec.objectives[0].direction == "maximize" else value
    return trial.state is not TrialState.COMPLETE, penalty(trial.constraints), loss, trial.number


def _warm(spec: ExperimentSpec, source: Source, trial: EndedTrial, known: Mapping[str, ParamValue]) -> WarmTrial:
    """With what is missing drawn."""
    params: dict[str, ParamValue] = {}
    for name in spec.space.order:
        if spec.space.is_active(name, params):
            params[name] = known[name] if name in known else _drawn(spec, name, trial.number)
    excess = trial.constraints or {}
    constraints = {each.name: excess[each.name] for each in spec.constraints} or None
    return WarmTrial(source.name, source.uid, trial.number, trial.state, params, trial.values, trial.last, constraints)


def _drawn(spec: ExperimentSpec, name: str, number: int) -> ParamValue:
    alone = dataclasses.replace(spec.parameters[name], when=())
    only = dataclasses.replace(spec, parameters={name: alone}, given=(), narrow={})
    return Asker(only).ask(optuna.samplers.RandomSampler(seed_of(spec, number, _ALONE)), [], number)[name]


def view(spec: ExperimentSpec, trials: Sequence[WarmTrial]) -> View:
    """As samplers are shown them: numbered before 0, so that they are older than any of the experiment's own."""
    history = History(spec.objectives, spec.parameters, [each.name for each in spec.constraints])
    history.load(
        Past(place, trial.state, trial.params, trial.values, trial.last, 0.0, trial.constraints)
        for place, trial in enumerate(trials)
    )
    made = history.view(0, len(trials), 0)
    return dataclasses.replace(made, numbers=made.numbers - len(trials), taken=frozenset())
