"""The regret bounds of a study's record worked out again, each from the trials that it was made of. Pure."""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import TrialState
from kubetune.engine import regret, regret_model
from kubetune.engine.again.study import past
from kubetune.engine.history import History, Past
from kubetune.engine.samplers import gp
from kubetune.storage.base import Steer
from kubetune.storage.record import TrialRecord

CLOSE = 1e-6  # of the bound: another processor may differ in the last digits of a search for the likeliest kernel


@dataclasses.dataclass
class Bounds:
    """``same``: as recorded; ``differences``: in words."""

    same: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def again(
    spec: ExperimentSpec,
    steering: Sequence[Steer],
    trials: Sequence[TrialRecord],
    in_force: Callable[[Sequence[Steer], int], ExperimentSpec | None],
) -> Bounds:
    """Args:
    in_force: the spec by which a trial would have been asked, by what of the steering was known then.
    """
    looks, found = [each for each in steering if each.kind == regret.REGRET], Bounds()
    if looks and not gp.installed():
        found.notes.append(f"{len(looks)} regret bounds: scikit-learn is not installed here")
        return found
    history = _Known(spec, trials)
    for look in looks:
        detail, known = look.detail, look.detail["known"]
        then = in_force([each for each in steering if (each.order or 0) <= known], detail["trials"])
        params, values, penalties = history.at(detail["trials"], known).ranked(regret.MOST)
        bound = regret_model.bound(then or spec, params, values[:, 0], penalties).value
        recorded = detail["bound"]
        if bound == recorded or (bound and recorded and math.isclose(bound, recorded, rel_tol=CLOSE)):
            found.same += 1
        else:
            at = f"the regret bound after {detail['complete']} complete trials"
            found.differences.append(f"{at} is {recorded} in the record, {bound} now")
    return found


class _Known:
    """The history as it was, moment by moment."""

    def __init__(self, spec: ExperimentSpec, trials: Sequence[TrialRecord]) -> None:
        self._history = History(spec.objectives, spec.parameters, [each.name for each in spec.constraints])
        self._trials = sorted(trials, key=lambda each: each.row.number)
        ended = [each for each in trials if each.row.state is not TrialState.RUNNING]
        self._ends = collections.deque(sorted(ended, key=lambda each: (each.order or 0, each.row.number)))

    def at(self, trials: int, known: int) -> History:
        """With so many trials, of which those had ended whose place in the order is at most ``known``."""
        for each in self._trials[len(self._history) : trials]:
            self._history.add(Past(each.row.number, TrialState.RUNNING, each.row.params, member=each.row.member))
        while self._ends and (self._ends[0].order or 0) <= known and self._ends[0].row.number < trials:
            self._history.replace(past(self._ends.popleft()))
        return self._history
