"""The bandit policy of Azure Machine Learning: a trial stops when its best is further from the best of all trials at
the same report than a slack allows.

https://learn.microsoft.com/azure/machine-learning/how-to-tune-hyperparameters (early termination, bandit policy). There
is no reference implementation in the open; the page's own example is a test here. It says nothing of values below
zero: there, too, the slack is a share of the best value's size.
"""

from collections.abc import Mapping

from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.engine import options
from kubetune.engine.pruners.base import number
from kubetune.engine.pruners.competing import AtIntervals
from kubetune.engine.pruners.ranked import Ranked

OPTIONS: Mapping[str, options.Option] = {
    "slackFactor": options.Real(0.0, low=0.0),  # as a share of the best value
    "slackAmount": options.Real(0.0, low=0.0),  # in the metric's own unit
    "evaluationInterval": options.Whole(1, low=1),  # decide once in so many reports
    "delayEvaluation": options.Whole(0, low=0),  # and not before so many
}


class BanditPruner(AtIntervals):
    def __init__(self, factor: float, amount: float, interval: int, delay: int, maximize: bool) -> None:
        super().__init__(interval, delay, maximize)
        self._factor = factor
        self._amount = amount

    def judge(self, best: float, at: Ranked, maximize: bool) -> str | None:
        top = at.best(0, maximize)
        bound = self._bound(top, maximize)
        if not (best < bound if maximize else best > bound):
            return None
        return (
            f"{number(best)} at best is worse than {number(bound)}, "
            f"which the slack allows with {number(top)} as the best of {len(at)}"
        )

    def _bound(self, top: float, maximize: bool) -> float:
        towards_zero = (top > 0) == maximize  # in this direction values get worse
        sized = top / (1 + self._factor) if towards_zero else top * (1 + self._factor)
        return sized - self._amount if maximize else sized + self._amount


def build(spec: ExperimentSpec) -> BanditPruner:
    given = options.read("pruner", spec.pruner, OPTIONS)
    if len(spec.pruner.settings.keys() & {"slackFactor", "slackAmount"}) != 1:
        raise InvalidSpec(
            "pruner.settings", "bandit needs one of slackFactor and slackAmount, for example {slackFactor: 0.1}"
        )
    return BanditPruner(
        given["slackFactor"],
        given["slackAmount"],
        given["evaluationInterval"],
        given["delayEvaluation"],
        spec.objectives[0].direction == "maximize",
    )
