"""What changing one parameter did to the outcome, the others held still: by an additive model of the finished trials.

Means by one parameter alone mistake it for others: a search tries its good values of all parameters together. So each
trial's value is explained by one step function of each parameter (an additive model: Hastie and Tibshirani, Statistical
Science 1, 1986), fitted together by ridge regression, in which a group of few trials counts for little. What only two
parameters together do is no part of it: see `interactions`.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kubetune.api.spec import Categorical, ExperimentSpec, Parameter
from kubetune.engine.columns import Columns, Floats

GROUPS = 6  # of a number's values, with as many trials each
LEAST = 5  # trials in a group that is spoken of
FENCE = 3.0  # times the middle half's width beyond it: values further out (diverged trainings) count as that far


@dataclasses.dataclass(frozen=True)
class Effect:
    """From where it did worst to where it did best, as the trial sees them; ``change``: of the metric, on average."""

    parameter: str
    worst: str
    best: str
    change: float

    def words(self, metric: str) -> str:
        return f"{self.worst} → {self.best}: {metric} {self.change:+.3g}"


@dataclasses.dataclass(frozen=True)
class _Steps:
    """One parameter's groups: of each trial its group, and what each is called."""

    name: str
    group: np.ndarray[tuple[int, ...], np.dtype[np.int64]]  # -1: the trial does not have it
    names: list[str]
    sizes: Floats


def effects(spec: ExperimentSpec, params: Floats, values: Floats) -> dict[str, Effect]:
    """By parameter, of those that were tried in two ways at least.

    Args:
        params: of COMPLETE trials, (trials, parameters), as `Columns` has them; nan: not set.
        values: of one objective, (trials,), of which the direction is the first objective's.
    """
    outcome = _fenced(values)
    if not len(outcome) or np.ptp(outcome) == 0:
        return {}
    names = Columns(spec.parameters).names
    steps = [_steps(name, spec.parameters[name], params[:, place]) for place, name in enumerate(names)]
    steps = [each for each in steps if len(each.names) > 1]
    if not steps:
        return {}
    rows = np.hstack([(each.group[:, None] == np.arange(len(each.names))).astype(np.float64) for each in steps])
    heights = np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ (outcome - outcome.mean()))
    maximize = spec.objectives[0].direction == "maximize"
    found: dict[str, Effect] = {}
    for each in steps:
        own, heights = heights[: len(each.names)], heights[len(each.names) :]
        spoken = np.flatnonzero(each.sizes >= LEAST)
        if len(spoken) > 1:
            low, high = spoken[np.argmin(own[spoken])], spoken[np.argmax(own[spoken])]
            worst, best = (low, high) if maximize else (high, low)
            found[each.name] = Effect(each.name, each.names[worst], each.names[best], float(own[best] - own[worst]))
    return found


def _fenced(values: Floats) -> Floats:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.zeros(0)
    low, high = np.quantile(finite, [0.25, 0.75])
    width = FENCE * (high - low) or float(np.ptp(finite))
    return np.clip(values, low - width, high + width)


def _steps(name: str, parameter: Parameter, column: Floats) -> _Steps:
    known = ~np.isnan(column)
    group = np.full(len(column), -1, dtype=np.int64)
    distinct = np.unique(column[known])
    if isinstance(parameter, Categorical) or len(distinct) <= GROUPS:
        group[known] = np.searchsorted(distinct, column[known])
        names = [_shown(parameter, value) for value in distinct.tolist()]
    else:
        edges = np.unique(np.quantile(column[known], np.arange(1, GROUPS) / GROUPS))
        group[known] = np.searchsorted(edges, column[known], side="left")
        group[known] = np.unique(group[known], return_inverse=True)[1]  # without empty ones
        middles = [float(np.median(column[group == place])) for place in range(int(group.max()) + 1)]
        names = [_shown(parameter, value) for value in middles]
    return _Steps(name, group, names, np.bincount(group[known], minlength=len(names)).astype(np.float64))


def _shown(parameter: Parameter, value: float) -> str:
    return str(parameter.choices[int(value)]) if isinstance(parameter, Categorical) else f"{value:.3g}"


def told(spec: ExperimentSpec, params: Floats, values: Floats) -> Mapping[str, str]:
    """In words, by parameter; of several objectives nothing."""
    if len(spec.objectives) > 1:
        return {}
    metric = spec.objectives[0].metric
    return {name: effect.words(metric) for name, effect in effects(spec, params, values[:, 0]).items()}
