"""Each trial's parameters asked for again, with the history that its sampler knew."""

import collections
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from kubetune.api.given import read
from kubetune.api.spec import ExperimentSpec, Given
from kubetune.api.trial import TrialState
from kubetune.engine import samplers, steering, warm
from kubetune.engine.again.study import Study, Verdict, ended, in_force, past
from kubetune.engine.given import Queue
from kubetune.engine.history import History, Past
from kubetune.engine.live import taught
from kubetune.engine.samplers.base import Suggestion
from kubetune.storage.record import TrialRecord


class _Known(NamedTuple):
    """Something that samplers learned of a trial, in its place."""

    order: int
    number: int
    past: Past


class Asks:
    """``one_series``: as `Course.one_series`."""

    def __init__(self, study: Study, verdict: Verdict, one_series: bool) -> None:
        self._study = study
        self._verdict = verdict
        spec = study.spec
        self._history = History(spec.objectives, spec.parameters, [each.name for each in spec.constraints])
        if study.warm:
            self._history.begin_with(warm.view(spec, study.warm))
        learned = [*map(_end, ended(study)), *_legs(study, one_series)]
        self._learned = collections.deque(sorted(learned, key=lambda each: each[:2]))
        self._vague = [each for each in study.trials if not each.placed]
        self._spec: ExperimentSpec | None = None
        self._sampler: samplers.Sampler | None = None

    def run(self) -> None:
        unknown = vague = external = 0
        for trial in sorted(self._study.trials, key=lambda each: each.row.number):
            spec = in_force(self._study, trial.row.number)
            if trial.known is None or spec is None:
                unknown += 1
                self._learn(0, before=trial.row.number)
            else:
                self._learn(trial.known, before=trial.row.number)
                if any(_is_vague(each, trial.row.number, trial.known) for each in self._vague):
                    vague += 1
                elif spec.sampler.name == "external" and not self._is_whole(spec, trial):
                    external += 1
                else:
                    self._compare(spec, trial)
            self._history.add(Past(trial.row.number, TrialState.RUNNING, trial.row.params, member=trial.row.member))
        if unknown:
            self._verdict.notes.append(f"{unknown} trials were asked before kubetune kept what their sampler knew")
        if vague:
            self._verdict.notes.append(
                f"{vague} trials were asked while trials ran of which it was not kept when their legs had ended "
                "(by an older kubetune)"
            )
        if external:
            self._verdict.notes.append(f"{external} trials were asked of a searcher from outside, which is not here")

    def _learn(self, known: int, before: int) -> None:
        """Take in what had happened by then."""
        while self._learned and self._learned[0].order <= known and self._learned[0].number < before:
            self._history.replace(self._learned.popleft().past)

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


def _end(trial: TrialRecord) -> _Known:
    return _Known(trial.order or 0, trial.row.number, past(trial))


def _legs(study: Study, one_series: bool) -> Iterator[_Known]:
    """What was known of trials once each of their legs had ended, but for the one with which the trial did."""
    for trial in study.trials:
        for place, leg in enumerate(trial.row.legs, 1):
            if leg.placing is None or leg.placing.order == trial.order:
                continue
            row = dataclasses.replace(trial.row, state=TrialState.RUNNING, legs=trial.row.legs[:place])
            seen = taught(row, one_series)
            if seen is not None:
                yield _Known(leg.placing.order, row.number, seen)


def _is_vague(trial: TrialRecord, number: int, known: int) -> bool:
    """Whether it was under way when trial ``number`` was asked, and it is not kept what it had come to."""
    over = trial.row.state is not TrialState.RUNNING and (trial.order or 0) <= known
    return trial.row.number < number and not over
