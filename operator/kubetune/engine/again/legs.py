"""What follows a trial's legs decided again by its course: another leg, the trial's end and its value, promotions.

A course decides by the legs that had ended when it was asked (``known``), which is earlier than the place where the
decision stands: what ends together is decided about as if each came alone, and a look's ends come before its
promotions.
"""

import bisect
import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kubetune.api.trial import Ending, NextLeg, Reason, TrialState
from kubetune.engine.again.study import Study, Verdict, ended
from kubetune.engine.courses import Course
from kubetune.storage import rules
from kubetune.storage.record import PROMOTED, Judged, TrialRecord


class _Event(NamedTuple):
    """``leg``: the one that ended; None: the trial's last one, and the trial with it."""

    trial: TrialRecord
    leg: int | None = None
    promotion: Judged | None = None


class _Moment(NamedTuple):
    """A place in what happened, after which a decision was made, or at which it took effect. Decisions at one place are
    in the order in which they stand."""

    place: int
    decides: bool
    order: int


class Legs:
    """The study's trials of several legs, gone through in order."""

    def __init__(self, study: Study, verdict: Verdict, course: Course) -> None:
        self._study = study
        self._verdict = verdict
        self._course = course
        self._complete = 0
        self._pauses: dict[int, bool] = {}  # whether trials wait after their last leg, by number
        self._promoted: collections.Counter[int] = collections.Counter()  # by the place up to which was known
        self._ends = sorted((each.order or 0, each.row.number) for each in ended(study))

    def run(self) -> None:
        vague = sum(not each.placed for each in self._study.trials)
        if vague:
            self._verdict.notes.append(
                f"what followed the legs of trials: of {vague} trials it was not kept when theirs had ended "
                "(by an older kubetune)"
            )
            return
        for moment, event in sorted(self._events(), key=lambda each: each[0]):
            (self._decide if moment.decides else self._take)(event)

    def _events(self) -> Iterator[tuple[_Moment, _Event]]:
        """Each twice: where it was known by what it was decided, and where it took effect."""
        for trial in self._study.trials:
            for place, leg in enumerate(trial.row.legs):
                assert leg.placing is not None
                known, order = leg.placing.known, leg.placing.order
                event = _Event(trial, None if order == trial.order else place)
                yield _Moment(known, True, order), event
                if event.leg is not None:
                    yield _Moment(order, False, order), event
            for each in trial.judged:
                if each.kind == PROMOTED:
                    event = _Event(trial, promotion=each)
                    yield _Moment(each.known or 0, True, each.order), event
                    yield _Moment(each.order, False, each.order), event
        for trial in ended(self._study):
            order = trial.order or 0
            yield _Moment(order, False, order), _Event(trial)
            if trial.row.reason is Reason.NOT_PROMOTED and trial.row.stop_requested is None:
                yield _Moment(order - 1, True, order), _Event(trial)

    # ---- decided again

    def _decide(self, event: _Event) -> None:
        if event.promotion is not None:
            self._promotion(event.trial, event.promotion)
        elif event.leg is None and event.trial.row.reason is Reason.NOT_PROMOTED:
            self._staying(event.trial)
        else:
            self._follow(event.trial, event.leg)

    def _follow(self, trial: TrialRecord, leg: int | None) -> None:
        """After a leg that ended well."""
        row = trial.row
        place = len(row.legs) - 1 if leg is None else leg
        then = dataclasses.replace(row, state=TrialState.RUNNING, leg=place, legs=row.legs[:place], paused=False)
        well = Ending(TrialState.COMPLETE, Reason.COMPLETED, "", row.legs[place].values)
        follows = self._course.follow(then, well)
        self._pauses[row.number] = isinstance(follows, NextLeg) and follows.paused
        recorded = "there is another leg" if leg is not None else f"it comes to {_values(row.values)}"
        now = "there is another leg" if isinstance(follows, NextLeg) else f"it comes to {_values(follows.values)}"
        self._compare(f"trial {row.number} after leg {place}", recorded, now)

    def _compare(self, what: str, recorded: str, now: str) -> None:
        if recorded == now:
            self._verdict.legs += 1
        else:
            self._verdict.differs(f"{what}: {recorded} in the record, {now} now")

    def _promotion(self, trial: TrialRecord, promotion: Judged) -> None:
        """The best go on first: of those that are promoted by the same knowledge, the first one is the first, and so
        on; those that ended before they could be are left out."""
        known = promotion.known or 0
        before, self._promoted[known] = self._promoted[known], self._promoted[known] + 1
        first, last = (bisect.bisect_left(self._ends, (place,)) for place in (known + 1, promotion.order))
        gone = {number for _, number in self._ends[first:last]}
        wanted = [number for number in self._wanted(before + 1 + len(gone)) if number not in gone]
        now = wanted[before] if before < len(wanted) else None
        if now == trial.row.number:
            self._verdict.promotions += 1
        else:
            told = "nobody" if now is None else f"trial {now}"
            self._verdict.differs(
                f"trial {trial.row.number} goes on after leg {promotion.rung} in the record, {told} now"
            )

    def _wanted(self, count: int) -> Sequence[int]:
        """Who is to go on, best first, at most ``count``."""
        return self._course.promotable(count) or self._course.overtime(self._complete)

    def _staying(self, trial: TrialRecord) -> None:
        """Nobody who could go on was left when the trial was given up."""
        number = trial.row.number
        now = "it goes on" if number in self._wanted(len(self._study.trials)) else "it stays"
        self._compare(f"trial {number} after leg {len(trial.row.legs) - 1}", "it stays", now)

    # ---- by the record

    def _take(self, event: _Event) -> None:
        row = event.trial.row
        if event.promotion is not None:
            self._course.take(row.number, row.legs[: (event.promotion.rung or 0) + 1], paused=False)
        elif event.leg is not None:
            paused = self._pauses.get(row.number, False)
            self._course.take(row.number, row.legs[: event.leg + 1], paused)
        else:
            self._end(event.trial)

    def _end(self, trial: TrialRecord) -> None:
        row = trial.row
        self._complete += row.state is TrialState.COMPLETE
        if row.legs:
            self._course.take(row.number, row.legs, paused=False)
            if row.state is TrialState.COMPLETE:
                self._course.complete(rules.mark(row), row.legs)


def _values(values: Sequence[float] | None) -> str:
    return ", ".join(map(repr, values or ()))
