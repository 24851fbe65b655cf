"""Asynchronous successive halving (ASHA) in its stopping form: at each rung a trial goes on if it is among the best
1/reductionFactor of all that have come to it so far, and stops otherwise.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020; decision for decision as Optuna's
SuccessiveHalvingPruner. The form of the paper's algorithm 1, which pauses trials and promotes them later, is
`engine.courses.fidelity`.

Two things differ from Optuna where it matters to nobody who reports each step once and in order: `minResource: auto`
(a guess from the first trial to complete, which a restart would make otherwise) is not offered; and reports that came
while no operator was there are judged rung by rung, each with the value that it had there.
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import Reason
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners import promotion
from kubetune.engine.pruners.base import number
from kubetune.engine.pruners.competing import Competing
from kubetune.storage.base import Mark

OPTIONS: Mapping[str, options.Option] = {
    "minResource": options.Whole(1, low=1),  # r of the paper: the step of the first rung
    "reductionFactor": options.Whole(4, low=2),  # η: one in so many goes on, and the next rung is so many times as far
    "minEarlyStoppingRate": options.Whole(0, low=0),  # s: the first rung is r · η^s
    "bootstrapCount": options.Whole(0, low=0),  # the first so many at a rung all stop there
}
ASHA = {"type": promotion.TYPE} | {name: option for name, option in OPTIONS.items() if name != "bootstrapCount"}
_LAST = 2**63  # no step is as far
_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth"}


class HalvingPruner(Competing):
    """A mark is the value at the first step that is not below the rung's."""

    def __init__(self, resource: int, factor: int, rate: int, bootstrap: int = 0) -> None:
        super().__init__()
        self._factor = factor
        self._bootstrap = bootstrap
        rungs = (resource * factor ** (rate + rung) for rung in itertools.count())
        self._rungs = list(itertools.takewhile(lambda step: step < _LAST, rungs))

    def marks(self, steps: NDArray[np.int64], values: NDArray[np.float64], mark: Mark | None) -> NDArray[np.float64]:
        """One that lost its competition came into no rung after that, whatever it reported before it obeyed."""
        rungs = self._rungs
        if mark is not None and mark.reason is Reason.PRUNED and mark.rung is not None:
            rungs = [rung for rung in rungs if rung <= mark.rung]
        places = np.searchsorted(steps, np.array(rungs, np.int64))
        return values[places[places < len(steps)]]

    def resume(self, curve: Curve) -> None:
        for rung in self._rungs:
            if curve.rung is None or min(curve.rung, curve.last_step) < rung:
                break
            self.enter(curve, curve.first_from(rung))

    def prune(self, curve: Curve) -> str | None:
        for rung in self._rungs[len(curve.marks) :]:
            if curve.last_step < rung:
                break
            value = curve.first_from(rung)
            if math.isnan(value):
                return f"at rung {rung}: it is not a number"
            at = self.enter(curve, value)
            curve.rung = rung
            if len(at) <= self._bootstrap:
                return f"at rung {rung}: the first {self._bootstrap} to come to it stop there (bootstrapCount)"
            best = at.best(max(len(at) // self._factor - 1, 0), curve.maximize)
            if value < best if curve.maximize else value > best:
                part = _PARTS.get(self._factor, f"1/{self._factor}")
                return f"at rung {rung}: {number(value)} is not in the best {part} of {len(at)}"
        return None


def build(spec: ExperimentSpec) -> HalvingPruner:
    given = options.read("pruner", spec.pruner, OPTIONS)
    return HalvingPruner(
        given["minResource"], given["reductionFactor"], given["minEarlyStoppingRate"], given["bootstrapCount"]
    )


def asha(spec: ExperimentSpec) -> HalvingPruner:
    """The same under the name and with the settings of the paper."""
    given = options.read("pruner", spec.pruner, ASHA)
    return HalvingPruner(given["minResource"], given["reductionFactor"], given["minEarlyStoppingRate"])
