"""Each judgement of the pruner made again, in the order in which it was told of things."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from kubetune.api.trial import Report
from kubetune.engine import pruners, searching
from kubetune.engine.again.study import Study, Verdict, algorithm, ended
from kubetune.engine.curve import Curve
from kubetune.storage import rules
from kubetune.storage.base import Steer
from kubetune.storage.record import LOST, PROMOTED, Judged, Point, TrialRecord


class _Run(NamedTuple):
    """A leg that is one point of a trial's series has ended."""

    order: int
    number: int
    place: int
    value: float


_Happened = Steer | Judged | TrialRecord | _Run


class Judgements:
    """``one_series``: as `Course.one_series`. ``_curves``: of the trials that were judged and run on, by number."""

    def __init__(self, study: Study, verdict: Verdict, one_series: bool) -> None:
        self._study = study
        self._verdict = verdict
        self._one_series = one_series
        self._spec = study.spec
        self._maximize = study.spec.objectives[0].direction == "maximize"
        self._trials = {each.row.number: each for each in study.trials}
        self._curves: dict[int, tuple[list[Point], Curve]] = {}  # the points that were taken in, the curve of them
        self._ended: list[TrialRecord] = []
        self._pruner: pruners.Pruner | None = None

    def run(self) -> None:
        if not self._one_series and not all(each.placed for each in self._study.trials):
            judged = sum(len(each.judged) for each in self._study.trials)
            if judged:
                self._verdict.notes.append(
                    f"{judged} judgements by the runs of trials, of which it was not kept when they had ended "
                    "(by an older kubetune)"
                )
            return
        cut = {each.row.number for each in self._study.trials if each.judged and not each.whole}
        if cut and self._one_series:
            self._verdict.notes.append(
                f"the reports of {len(cut)} trials that the pruner judged are removed (reports retention): judged by "
                "their last attempt's series"
            )
        for happened in self._happenings():
            if isinstance(happened, Steer):
                self._take_over(happened)
            elif isinstance(happened, Judged):
                self._judge(happened)
            elif isinstance(happened, _Run):
                self._add(happened)
            else:
                self._end(happened)

    def _happenings(self) -> Iterator[_Happened]:
        """In their order."""
        searches = [each for each in self._study.steering if each.kind == searching.SEARCH]
        judged = [one for each in self._study.trials for one in each.judged if one.kind != PROMOTED]
        all_of_it: list[_Happened] = [*searches, *judged, *ended(self._study), *self._runs()]
        yield from sorted(all_of_it, key=lambda each: each.order or 0)

    def _runs(self) -> Iterator[_Run]:
        for trial in () if self._one_series else self._study.trials:
            for place, leg in enumerate(trial.row.legs):
                if leg.placing is not None and leg.placing.order != trial.order:
                    yield _Run(leg.placing.order, trial.row.number, place, leg.values[0])

    def _add(self, run: _Run) -> None:
        new: tuple[list[Point], Curve] = [], Curve(self._maximize, run.number)
        self._curves.setdefault(run.number, new)[1].add(run.place, run.value)

    def _take_over(self, search: Steer) -> None:
        """Another pruner begins with what there is, as the engine has it."""
        wanted = algorithm(search.detail["pruner"])
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
        if not self._one_series:
            return self._curves[judged.number][1]
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
