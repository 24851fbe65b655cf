"""What a course is: of which legs a trial consists, what a leg's run gets, and what follows when one has ended well.

A leg is run by attempts of its own. Between two legs a trial goes on at once, or is *paused* until the course has it
promoted. The course's memory is a function of the trials' ended legs (`TrialRow.legs`), which are committed.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import Ending, Finish, Leg, NextLeg, Reason, Report, TrialRow, TrialState, penalty
from kubetune.engine import value
from kubetune.engine.courses.noise import Noise
from kubetune.engine.value import Outcome
from kubetune.storage.base import Mark


class Course:
    """The course of one leg, which every experiment has that asks for no other; and what others have in common.

    Attributes:
        one_series: the reports of all legs are one series. False: each leg is one point of it, the leg's number its
            step, the leg's value its value; pruners are asked after each leg, and not in between.
        resumes: a leg goes on from the steps of the one before. False: its steps begin anew.
        single: no trial ever has a second leg.
    """

    one_series = True
    resumes = True
    single = True

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec

    # ---- one trial

    def legs(self, number: int) -> int:
        """How many legs trial ``number`` has at most."""
        return 1

    def environment(self, number: int, leg: int) -> Mapping[str, str]:
        """Variables that the runs of this leg get beside the parameters; committed with the leg."""
        return {}

    def follow(self, row: TrialRow, ending: Ending) -> Ending | NextLeg:
        """What follows when a leg has ended and is not stopped: ``ending`` is COMPLETE, and its values are the leg's.
        ``row``: with the legs before it."""
        if row.leg + 1 >= self.legs(row.number):
            return self.whole(row, ending)
        return self.next_leg(row, ending, paused=False)

    def next_leg(self, row: TrialRow, ending: Ending, paused: bool) -> NextLeg:
        """A helper of `follow`."""
        environment = self.environment(row.number, row.leg + 1)
        return NextLeg(ending.values or (), paused, environment, self.resumes, penalty(ending.constraints))

    def whole(self, row: TrialRow, ending: Ending) -> Ending:
        """A trial's end, made of its legs' values (``row.legs``) and of how the last leg ended: well, stopped, or
        failed; its values are that leg's, or None."""
        return ending

    def left(self, row: TrialRow, ending: Ending) -> Ending:
        """The end of a trial that is still paused when nothing more can come, ``ending``: as its last leg ended."""
        message = f"stayed after leg {row.leg - 1}"
        return dataclasses.replace(ending, state=TrialState.PRUNED, reason=Reason.NOT_PROMOTED, message=message)

    # ---- all trials

    def take(self, number: int, legs: Sequence[Leg], paused: bool) -> None:
        """A trial's ended legs as they are by now, and whether it waits to be promoted. Told of every trial that has
        any, at loading and whenever that changes; in any order, maybe twice."""

    def complete(self, mark: Mark, legs: Sequence[Leg]) -> None:
        """A trial of several legs is COMPLETE with these. Told of each, at loading and when it ends, maybe twice."""

    def runs(self, number: int) -> Sequence[float]:
        """What the runs of a COMPLETE trial came to, of whose first objective its value is the mean; empty: it is not
        made of runs."""
        return ()

    @property
    def noise(self) -> Noise | None:
        """How much the runs of one trial differ; None: there are none, or too few."""
        return None

    def promotable(self, count: int) -> Sequence[int]:
        """Paused trials that are to go on, best first, at most ``count``. Asked at every look: its cost must not grow
        with the trials."""
        return ()

    def overtime(self, complete: int) -> Sequence[int]:
        """Paused trials that are to go on though they are not `promotable`, asked when nothing runs and nothing new
        may be asked for. ``complete``: trials that are COMPLETE."""
        return ()

    # ---- what the engine asks

    def settle(
        self, row: TrialRow, reports: Sequence[Report], finish: Finish | None, outcome: Outcome
    ) -> Ending | NextLeg:
        """What an attempt comes to that is over, or a paused trial that is to end.

        Args:
            row: the trial as it is before.
            reports: those that count (`storage.rules.chain`), of all legs.
        """
        goals, limits = self.spec.objectives, self.spec.constraints
        if self.single:
            return value.settle(reports, finish, outcome, goals, limits)
        before = row.legs[:-1] if row.paused else row.legs  # a paused trial's last leg is the one that ended
        since = before[-1].attempt if before else 0
        own = [report for report in reports if report.attempt > since]
        ending = value.settle(reports if self.one_series else own, finish, outcome, goals, limits)
        if ending.state is TrialState.COMPLETE and not own:
            ending = value.settle(own, finish, outcome, goals, limits)  # what earlier legs came to is not this one's
        if row.paused:
            stopped = outcome.stop is not None or outcome.failure is not None
            last = dataclasses.replace(row, legs=before, leg=row.leg - 1)
            return self.whole(last, ending if stopped else self.left(row, ending))
        if ending.state is TrialState.COMPLETE:
            return self.follow(row, ending)
        return self.whole(row, ending)
