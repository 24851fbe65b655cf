"""Most trials are trained only a little: a leg is a rung of successive halving, and gives the trial so much of the
fidelity's resource; a trial pauses at its rung, and goes on when it is among the best 1/reductionFactor of it.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020: ASHA as in its algorithm 1, `get_job`;
with Hyperband's brackets (Li et al., JMLR 18, 2018), each bracket is an ASHA of its own with another first rung, and a
trial belongs to one by its number, as with the stopping form (`pruners.hyperband`).

Three things are added to the paper's: the last rung gives all of the resource, also where `max` is no power of
the factor times `min`; trials that break constraints rank behind all that do not; and if the experiment comes to its
end with no trial at the last rung, the best of the highest one goes on until one is (`overtime`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from kubetune.api import names
from kubetune.api.fidelity import Fidelity
from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.api.trial import Ending, Leg, NextLeg, Reason, TrialRow, TrialState
from kubetune.engine.courses.base import Course
from kubetune.engine.courses.rungs import Rung
from kubetune.engine.pruners.hyperband import Brackets
from kubetune.engine.pruners.promotion import asks_for, settings

_CLOSE = 1 + 1e-9  # 0.1 · 3² is not 0.9 to the last bit


class AtMax(Course):
    """Nobody is paused: each trial gets all of the resource at once."""

    def __init__(self, spec: ExperimentSpec, fidelity: Fidelity) -> None:
        super().__init__(spec)
        self._environment = {fidelity.name: fidelity.text(fidelity.max)}

    def environment(self, number: int, leg: int) -> Mapping[str, str]:
        return self._environment


class Ladder(Course):
    """
    Args:
        brackets: the resource at each rung, of each bracket.
        of: the bracket of a trial.
    """

    single = False

    def __init__(
        self,
        spec: ExperimentSpec,
        fidelity: Fidelity,
        brackets: Sequence[Sequence[float]],
        of: Callable[[int], int],
        factor: int,
    ) -> None:
        super().__init__(spec)
        self.resumes = fidelity.resume == "checkpoint"
        self._fidelity = fidelity
        self._brackets = brackets
        self._of = of
        self._sign = -1.0 if spec.objectives[0].direction == "maximize" else 1.0
        self._rungs = [[Rung(factor) for _ in rungs[:-1]] for rungs in brackets]  # nobody is promoted from the last one
        order = [
            (-rungs[place], bracket, place) for bracket, rungs in enumerate(brackets) for place in range(len(rungs) - 1)
        ]
        self._highest_first = [self._rungs[bracket][place] for _, bracket, place in sorted(order)]

    def legs(self, number: int) -> int:
        return len(self._brackets[self._of(number)])

    def _resource(self, number: int, leg: int) -> str:
        return self._fidelity.text(self._brackets[self._of(number)][leg])

    def environment(self, number: int, leg: int) -> Mapping[str, str]:
        return {self._fidelity.name: self._resource(number, leg)}

    def follow(self, row: TrialRow, ending: Ending) -> Ending | NextLeg:
        return ending if row.leg + 1 >= self.legs(row.number) else self.next_leg(row, ending, paused=True)

    def left(self, row: TrialRow, ending: Ending) -> Ending:
        rung = row.leg - 1
        message = f"stayed at rung {rung} ({self._fidelity.name} = {self._resource(row.number, rung)})"
        return dataclasses.replace(ending, state=TrialState.PRUNED, reason=Reason.NOT_PROMOTED, message=message)

    def take(self, number: int, legs: Sequence[Leg], paused: bool) -> None:
        rungs = self._rungs[self._of(number)]
        for rung, leg in zip(rungs, legs, strict=False):
            if number not in rung:
                rung.add(number, leg.broken, self._sign * leg.values[0])
            rung.wait(number, paused and leg is legs[-1])

    def promotable(self, count: int) -> Sequence[int]:
        found: list[int] = []
        for rung in self._highest_first:
            found += rung.promotable(count - len(found))
        return found

    def overtime(self, complete: int) -> Sequence[int]:
        if complete:
            return ()
        return [best for rung in self._highest_first if (best := rung.best_waiting()) is not None][:1]


def ladder(fidelity: Fidelity, factor: int, rate: int = 0) -> list[float]:
    """The resource at each rung: min · factor^(rate + k), at the last rung max."""
    rungs = [fidelity.min]
    while rungs[-1] * factor <= fidelity.max * _CLOSE:
        rungs.append(rungs[-1] * factor)
    if rate >= len(rungs):
        raise InvalidSpec(
            "pruner.settings.minEarlyStoppingRate",
            f"there are {len(rungs)} rungs; give less than that, or leave it out",
        )
    return [*rungs[rate:-1], fidelity.max]


def build(spec: ExperimentSpec, fidelity: Fidelity) -> Course:
    """Raises InvalidSpec."""
    if not asks_for(spec):
        return AtMax(spec, fidelity)
    given = settings(spec)
    factor = given["reductionFactor"]
    if spec.pruner.name == "asha":
        return Ladder(
            spec, fidelity, [ladder(fidelity, factor, given["minEarlyStoppingRate"])], lambda number: 0, factor
        )
    study = spec.brackets or names.study_name(spec.namespace, spec.name, spec.uid)
    brackets = Brackets(study, fidelity.min, fidelity.max, factor)
    rungs = [ladder(fidelity, factor, bracket) for bracket in range(len(brackets.shares))]
    return Ladder(spec, fidelity, rungs, brackets.of, factor)
