"""Truncation selection: at each interval the worst so many per cent of the trials stop.

As Azure Machine Learning's policy of that name defines it
(https://learn.microsoft.com/azure/machine-learning/how-to-tune-hyperparameters), decided about each trial when it comes
to the interval: it is compared with all that came there before it. In Ray Tune and NNI the same selection is a part of
population-based training, where the worst are replaced by copies of the best.
"""

import math
from collections.abc import Mapping

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import TrialState
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Committed, number
from kubetune.engine.pruners.competing import AtIntervals
from kubetune.engine.pruners.ranked import Ranked
from kubetune.storage.base import Mark

OPTIONS: Mapping[str, options.Option] = {
    "truncationPercentage": options.Real(None, low=1.0, high=99.0),
    "evaluationInterval": options.Whole(1, low=1),  # decide once in so many reports
    "delayEvaluation": options.Whole(0, low=0),  # and not before so many
    "excludeFinishedJobs": options.Switch(False),  # compare with running trials only
}


class TruncationPruner(AtIntervals):
    def __init__(self, percent: float, interval: int, delay: int, only_running: bool, maximize: bool) -> None:
        super().__init__(interval, delay, maximize)
        self._percent = percent
        self._only_running = only_running

    def load(self, committed: Committed) -> None:
        if not self._only_running:
            super().load(committed)

    def ended(self, curve: Curve, state: TrialState, series: Mapping[int, float], mark: Mark) -> None:
        if self._only_running:
            self.withdraw(curve)
        else:
            super().ended(curve, state, series, mark)

    def judge(self, best: float, at: Ranked, maximize: bool) -> str | None:
        stopping = math.floor(len(at) * self._percent / 100)
        if at.better_than(best, maximize) < len(at) - stopping:
            return None
        return f"{number(best)} at best is among the worst {number(self._percent)} % of {len(at)}"


def build(spec: ExperimentSpec) -> TruncationPruner:
    given = options.read("pruner", spec.pruner, OPTIONS)
    return TruncationPruner(
        given["truncationPercentage"],
        given["evaluationInterval"],
        given["delayEvaluation"],
        bool(given["excludeFinishedJobs"]),
        spec.objectives[0].direction == "maximize",
    )
