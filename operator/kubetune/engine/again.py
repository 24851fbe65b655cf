"""Every decision of a study made again from its record: parameters by the samplers, stops by the pruners. Pure.

Two passes. Asks: trials are gone through by number, each with the history that its sampler knew. Judgements: what the
pruner was told, in the order in which it was. Each decision is compared with the recorded one, and what follows goes by
the record: one that differs does not make the others differ.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from kubetune.api import narrow
from kubetune.api.given import read
from kubetune.api.spec import Algorithm, ExperimentSpec, Given, Json, Parameter
from kubetune.api.trial import Report, TrialState
from kubetune.engine import again_regret, pruners, samplers, searching, stages, steering, warm
from kubetune.engine.curve import Curve
from kubetune.engine.given import Queue
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.base import Suggestion
from kubetune.storage import rules
from kubetune.storage.base import Steer, WarmTrial
from kubetune.storage.record import LOST, Judged, Point, TrialRecord

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
    """What came of it. ``notes``: what could not be decided again, and why."""

    asked: int = 0  # sets of parameters that are the same
    stops: int = 0  # stops that are the same
    rungs: int = 0  # judgements that are the same and let a trial go on
    bounds: int = 0  # regret bounds that are the same
    differences: list[str] = dataclasses.field(default_factory=list)
    different: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    def differs(self, what: str) -> None:
        self.different += 1
        if len(self.differences) < SHOWN:
            self.differences.append(what)


def replay(study: Study) -> Verdict:
    """Raises InvalidSpec: the spec, or a sampler or pruner that was recorded, cannot be run here."""
    verdict = Verdict()
    _bounds(study, verdict)
    if any(trial.legs for trial in study.trials):
        verdict.notes.append("an experiment with trials of several legs: what was known of legs is not in the record")
        return verdict
    _Asks(study, verdict).run()
    _Judgements(study, verdict).run()
    return verdict


def _bounds(study: Study, verdict: Verdict) -> None:
    def then(known: Sequence[Steer], trial: int) -> ExperimentSpec | None:
        return in_force(dataclasses.replace(study, steering=known), trial)

    found = again_regret.again(study.spec, study.steering, study.trials, then)
    verdict.bounds = found.same
    verdict.notes += found.notes
    for each in found.differences:
        verdict.differs(each)


def versions(study: Study) -> list[str]:
    """In what the versions here differ from those that decided, of the last trials."""
    here = searching.versions()
    there: Json = next(
        (each.detail["versions"] for each in reversed(study.steering) if each.kind == searching.SEARCH), {}
    )
    return [
        f"{name} {there.get(name, 'not there')}, here {here.get(name, 'not there')}"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]


# ---- asks


class _Asks:
    def __init__(self, study: Study, verdict: Verdict) -> None:
        self._study = study
        self._verdict = verdict
        spec = study.spec
        self._history = History(spec.objectives, spec.parameters, [each.name for each in spec.constraints])
        if study.warm:
            self._history.begin_with(warm.view(spec, study.warm))
        self._ends = sorted(_ended(study), key=lambda each: (each.order or 0, each.row.number))
        self._spec: ExperimentSpec | None = None
        self._sampler: samplers.Sampler | None = None

    def run(self) -> None:
        unknown = external = 0
        for trial in sorted(self._study.trials, key=lambda each: each.row.number):
            spec = in_force(self._study, trial.row.number)
            if trial.known is None or spec is None:
                unknown += 1
                self._end(0, before=trial.row.number)
            else:
                self._end(trial.known, before=trial.row.number)
                if spec.sampler.name == "external" and not self._is_whole(spec, trial):
                    external += 1
                else:
                    self._compare(spec, trial)
            self._history.add(Past(trial.row.number, TrialState.RUNNING, trial.row.params, member=trial.row.member))
        if unknown:
            self._verdict.notes.append(f"{unknown} trials were asked before kubetune kept what their sampler knew")
        if external:
            self._verdict.notes.append(f"{external} trials were asked of a searcher from outside, which is not here")

    def _end(self, known: int, before: int) -> None:
        """Take in what had ended by then."""
        while self._ends and (self._ends[0].order or 0) <= known and self._ends[0].row.number < before:
            ended = self._ends.pop(0)
            row = ended.row
            past = rules.summary(row, ended.series)
            self._history.replace(
                Past(
                    row.number,
                    row.state,
                    row.params,
                    row.values,
                    past.last,
                    past.ended,
                    past.constraints,
                    past.gradient,
                    past.member,
                )
            )

    def _is_whole(self, spec: ExperimentSpec, trial: TrialRecord) -> bool:
        given = self._given(spec, trial)
        return given is not None and spec.space.problem(given.params) is None

    def _given(self, spec: ExperimentSpec, trial: TrialRecord) -> Given | None:
        """What a person fixed of it."""
        source = trial.row.source or ""
        name = source.removeprefix("enqueue/")
        if name != source:
            sets = [
                each.detail
                for each in self._study.steering
                if (each.kind, each.subject) == (steering.ENQUEUE, name) and (each.trial or 0) <= trial.row.number
            ]
            return read(spec.space, Given(source, source, sets[-1])) if sets else None
        return next((read(spec.space, each) for each in spec.given if each.source == source), None)

    def _compare(self, spec: ExperimentSpec, trial: TrialRecord) -> None:
        if self._sampler is None or spec != self._spec:
            self._spec, self._sampler = spec, samplers.build(spec)
        row = trial.row
        try:
            made = self._again(spec, self._sampler, trial)
        except Exception as error:  # noqa: BLE001  whatever it is, the record says that there were parameters
            self._verdict.differs(f"trial {row.number}: {spec.sampler.name} fails: {error}")
            return
        segment = made.segment
        now = {**made.params, **(_segment(segment.parent, segment.member) if segment else {})}
        kept = {**row.params, **_segment(row.parent, row.member)}
        if now == kept:
            self._verdict.asked += 1
            return
        name = min(name for name in now.keys() | kept.keys() if now.get(name) != kept.get(name))
        self._verdict.differs(
            f"trial {row.number}: {name.strip()} is {kept.get(name)!r} in the record, {now.get(name)!r} now"
        )

    def _again(self, spec: ExperimentSpec, sampler: samplers.Sampler, trial: TrialRecord) -> Suggestion:
        number, given = trial.row.number, self._given(spec, trial)
        if given is not None and not sampler.leads and spec.space.problem(given.params) is None:
            return Suggestion(dict(given.params))
        drawn = sampler.propose(self._history, number)
        if given is None:
            return drawn
        return dataclasses.replace(drawn, params=Queue(spec, ()).filled(given, drawn.params, number))


def _segment(parent: int | None, member: int | None) -> dict[str, int | None]:
    """Of which longer training it is a part, beside its parameters."""
    return {} if member is None else {" parent": parent, " member": member}


def in_force(study: Study, number: int) -> ExperimentSpec | None:
    """The spec by which trial ``number`` was asked, with the sampler that was picked; None: that was not kept."""
    by_then = [each for each in study.steering if each.trial is not None and each.trial <= number]
    search = _last(by_then, searching.SEARCH)
    if search is None:
        return None
    spec = dataclasses.replace(study.spec, seed=search["seed"], narrow=_narrow(study.spec, by_then))
    spec = stages.asked(spec, stages.latest(by_then)) if spec.stages else spec
    return dataclasses.replace(spec, sampler=_algorithm(search["sampler"]), pruner=_algorithm(search["pruner"]))


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


def _algorithm(form: Json) -> Algorithm:
    return Algorithm(form["name"], form["settings"])


# ---- judgements


class _Judgements:
    """``_curves``: of the trials that were judged and run on, by number."""

    def __init__(self, study: Study, verdict: Verdict) -> None:
        self._study = study
        self._verdict = verdict
        self._spec = study.spec
        self._maximize = study.spec.objectives[0].direction == "maximize"
        self._trials = {each.row.number: each for each in study.trials}
        self._curves: dict[int, tuple[list[Point], Curve]] = {}  # the points that were taken in, the curve of them
        self._ended: list[TrialRecord] = []
        self._pruner: pruners.Pruner | None = None

    def run(self) -> None:
        cut = {each.row.number for each in self._study.trials if each.judged and not each.whole}
        if cut:
            self._verdict.notes.append(
                f"the reports of {len(cut)} trials that the pruner judged are removed (reports retention): judged by "
                "their last attempt's series"
            )
        for happened in self._happenings():
            if isinstance(happened, Steer):
                self._take_over(happened)
            elif isinstance(happened, Judged):
                self._judge(happened)
            else:
                self._end(happened)

    def _happenings(self) -> Iterator[Steer | Judged | TrialRecord]:
        """In their order."""
        searches = [each for each in self._study.steering if each.kind == searching.SEARCH]
        judged = [one for each in self._study.trials for one in each.judged]
        both: list[Steer | Judged | TrialRecord] = [*searches, *judged, *_ended(self._study)]
        yield from sorted(both, key=lambda each: each.order or 0)

    def _take_over(self, search: Steer) -> None:
        """Another pruner begins with what there is, as the engine has it."""
        wanted = _algorithm(search.detail["pruner"])
        if self._pruner is not None and wanted == self._spec.pruner:
            return
        self._spec = dataclasses.replace(self._spec, pruner=wanted)
        self._pruner = pruners.build(self._spec)
        for trial in self._ended:
            self._pruner.ended(
                Curve(self._maximize, trial.row.number), trial.row.state, trial.series, rules.mark(trial.row)
            )
        for _, curve in self._curves.values():
            del curve.marks[:]
            self._pruner.resume(curve)

    def _judge(self, judged: Judged) -> None:
        if self._pruner is None:
            return
        if judged.kind == LOST:
            if judged.number in self._curves:
                self._pruner.withdraw(self._curves.pop(judged.number)[1])
            return
        curve = self._curve(judged)
        why = self._pruner.prune(curve)
        if (why or "") == judged.why and curve.rung == judged.rung:
            self._verdict.stops += bool(judged.why)
            self._verdict.rungs += not judged.why
            return
        recorded, now = (f"stops ({text})" if text else "goes on" for text in (judged.why, why))
        at = f"report {judged.seq}" + (f", rung {judged.rung}" if judged.rung is not None else "")
        self._verdict.differs(f"trial {judged.number} at {at}: it {recorded} in the record, it {now} now")

    def _curve(self, judged: Judged) -> Curve:
        """With all that the pruner had seen of the trial then."""
        taken, curve = self._curves.get(judged.number, ([], None))
        points = self._chain(judged)
        if curve is None or points[: len(taken)] != taken:
            taken, curve = [], Curve(self._maximize, judged.number)
        for point in points[len(taken) :]:
            curve.add(point.step, point.value)
        self._curves[judged.number] = points, curve
        return curve

    def _chain(self, judged: Judged) -> list[Point]:
        """What counted of the trial's reports then."""
        trial = self._trials[judged.number]
        came = [each for each in trial.points if each.seq <= judged.seq and each.attempt <= judged.attempt]
        reports = [Report(each.seq, each.attempt, each.step, {}, 0.0) for each in came]
        then = dataclasses.replace(trial.row, attempt=judged.attempt, last_step=None)
        counts = {each.seq for each in rules.chain(then, reports)}
        return [each for each in came if each.seq in counts]

    def _end(self, trial: TrialRecord) -> None:
        number = trial.row.number
        _, curve = self._curves.pop(number, ([], Curve(self._maximize, number)))
        self._ended.append(trial)
        if self._pruner is not None:
            self._pruner.ended(curve, trial.row.state, trial.series, rules.mark(trial.row))


def _ended(study: Study) -> list[TrialRecord]:
    """Those without a place in the order ended before there was one."""
    return [each for each in study.trials if each.row.state is not TrialState.RUNNING]
