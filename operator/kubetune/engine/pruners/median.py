"""The median stopping rule: a trial stops when the best it has come to is worse than the median of the COMPLETE
trials at the same step.

The rule of Vizier (Golovin et al., KDD 2017, section 3.2.1) as Optuna's MedianPruner defines it, decision for
decision, NaN included; but kept up incrementally: O(1) per report, O(log n) comparisons per step of a trial that
completes.
"""

import array
import bisect
import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kubetune.api.spec import ExperimentSpec
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Read
from kubetune.storage.series import Piece

OPTIONS: Mapping[str, options.Option] = {
    "nStartupTrials": options.Whole(5, low=0),  # no pruning before so many trials are COMPLETE
    "nWarmupSteps": options.Whole(0, low=0),  # no pruning below this step
    "intervalSteps": options.Whole(1, low=1),  # decide once in so many steps, from nWarmupSteps on
    "nMinTrials": options.Whole(1, low=1),  # no pruning at a step that fewer COMPLETE trials reported
}


@dataclasses.dataclass
class _Step:
    """What COMPLETE trials reported at one step."""

    numbers: "array.array[float]" = dataclasses.field(default_factory=lambda: array.array("d"))  # ascending, no NaN
    reported: int = 0  # with NaN

    def extend(self, values: NDArray[np.float64]) -> None:
        """Many at once; `sort` comes after the last of them."""
        self.reported += len(values)
        self.numbers.frombytes(values[~np.isnan(values)].tobytes())

    def sort(self) -> None:
        np.frombuffer(self.numbers).sort()  # in place

    def add(self, value: float) -> None:
        self.reported += 1
        if not math.isnan(value):
            bisect.insort(self.numbers, value)

    def median(self) -> float:
        """NaN if there is no number, or if it lies next to an infinity."""
        if not self.numbers:
            return math.nan
        low, high = self.numbers[(len(self.numbers) - 1) // 2], self.numbers[len(self.numbers) // 2]
        return low if low == high else high - (high - low) * 0.5  # rounded as numpy does


_NOTHING = _Step()


class MedianPruner:
    """State: the number of COMPLETE trials and, for each step, their values in order: 8 bytes a report."""

    def __init__(self, startup: int, warmup: int, interval: int, minimum: int) -> None:
        self._startup = startup
        self._warmup = warmup
        self._interval = interval
        self._minimum = minimum
        self._completed = 0
        self._steps: dict[int, _Step] = {}

    def load(self, read: Read) -> None:
        read(self._take)
        for step in self._steps.values():
            step.sort()

    def _take(self, piece: Piece) -> None:
        self._completed += len(piece.numbers)
        for step, values in piece.by_step():
            self._steps.setdefault(step, _Step()).extend(values)

    def completed(self, series: Mapping[int, float]) -> None:
        self._completed += 1
        for step, value in series.items():
            self._steps.setdefault(step, _Step()).add(value)

    def prune(self, curve: Curve) -> bool:
        if self._completed < max(self._startup, 1) or not self._decides_at(curve):
            return False
        if math.isnan(curve.best):  # every report was NaN
            return True
        at = self._steps.get(curve.last_step, _NOTHING)
        if at.reported < self._minimum:
            return False
        median = at.median()  # NaN compares false: go on
        return curve.best < median if curve.maximize else curve.best > median

    def _decides_at(self, curve: Curve) -> bool:
        """Past the warm-up, and the first report in its interval."""
        if curve.last_step < self._warmup:
            return False
        start = (curve.last_step - self._warmup) // self._interval * self._interval + self._warmup
        return curve.step_before < start


def build(spec: ExperimentSpec) -> MedianPruner:
    given = options.read("pruner", spec.pruner, OPTIONS)
    return MedianPruner(given["nStartupTrials"], given["nWarmupSteps"], given["intervalSteps"], given["nMinTrials"])
