"""How much of the variance two parameters explain together that neither explains alone: functional ANOVA.

Hutter, Hoos and Leyton-Brown, ICML 2014, by scikit-learn's random forests, on which Optuna's evaluator stands as well;
that gives single parameters only. A tree is constant on the boxes of its leaves, so the variance of its marginal over
some parameters is a sum over pairs of leaves, of their values and of how much of each axis they share: exact, without
any sampling. The parameters are those that every trial has; all values of a range are as likely, on its scale.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from kubetune.api.parameters import searched
from kubetune.api.spec import Categorical, ExperimentSpec
from kubetune.engine.columns import Columns, Floats
from kubetune.engine.insight.advice import places_of

TREES = 32
LEAVES = 256  # of one tree at most: what it costs grows with their square
MOST = 2000  # trials; of more, so many evenly spread


def interactions(spec: ExperimentSpec, params: Floats, values: Floats) -> list[tuple[str, str, float]]:
    """Pairs of parameters and their shares of the whole variance, the largest first.

    Args:
        params: of COMPLETE trials, (trials, parameters), as `Columns` has them.
        values: of one objective, (trials,).

    Raises:
        ImportError: scikit-learn is not there.
    """
    from sklearn.ensemble import RandomForestRegressor

    if len(values) > MOST:
        rows = np.linspace(0, len(values) - 1, MOST).astype(np.int64)
        params, values = params[rows], values[rows]
    finite = np.isfinite(values)
    names, points = cube(spec, params[finite])
    if len(names) < 2 or not finite.any() or np.ptp(values[finite]) == 0:
        return []
    forest = RandomForestRegressor(TREES, max_leaf_nodes=LEAVES, random_state=0).fit(points, values[finite])
    pairs = list(itertools.combinations(range(len(names)), 2))
    shares = [shares_of(each.tree_, len(names), pairs) for each in forest.estimators_]
    mean = np.mean([each for each in shares if each is not None], axis=0)
    found = [(names[one], names[other], float(share)) for (one, other), share in zip(pairs, mean, strict=True)]
    return sorted(found, key=lambda each: -each[2])


def cube(spec: ExperimentSpec, params: Floats) -> tuple[list[str], Floats]:
    """Parameters that every trial has in several ways, and where in [0, 1] the trials have them: a choice, or a step,
    in the middle of its part."""
    names, columns = [], []
    for place, name in enumerate(Columns(spec.parameters).names):
        column = params[:, place]
        if np.isnan(column).any() or len(np.unique(column)) < 2:
            continue
        parameter = searched(spec.parameters[name])
        names.append(name)
        if isinstance(parameter, Categorical):
            columns.append((column + 0.5) / len(parameter.choices))
        else:
            columns.append(places_of(parameter, column))
    return names, np.column_stack(columns) if columns else np.empty((len(params), 0))


def shares_of(tree: Any, width: int, pairs: Sequence[tuple[int, int]]) -> Floats | None:
    """Of one tree's variance over the unit cube; None: it is constant."""
    low, high, heights = leaves(tree, width)
    sizes = high - low
    overlap = [
        np.maximum(np.minimum(high[:, [axis]], high[:, axis]) - np.maximum(low[:, [axis]], low[:, axis]), 0.0)
        for axis in range(width)
    ]
    volumes = sizes.prod(axis=1)
    mean = float(heights @ volumes)
    total = float(heights**2 @ volumes) - mean**2
    if total <= 0:
        return None

    def variance(*axes: int) -> float:
        """Of the marginal over these axes."""
        weights = heights * np.delete(sizes, axes, axis=1).prod(axis=1)
        shared = np.prod([overlap[axis] for axis in axes], axis=0)
        return float(weights @ shared @ weights) - mean**2

    alone = [variance(axis) for axis in range(width)]
    together = [variance(one, other) - alone[one] - alone[other] for one, other in pairs]
    return np.maximum(together, 0.0) / total


def leaves(tree: Any, width: int) -> tuple[Floats, Floats, Floats]:
    """Lower and upper corners of the leaves' boxes, (leaves, width), and their values."""
    lows, highs, heights = [], [], []
    waiting = [(0, np.zeros(width), np.ones(width))]
    while waiting:
        node, low, high = waiting.pop()
        axis = int(tree.feature[node])
        if axis < 0:
            lows.append(low)
            highs.append(high)
            heights.append(float(tree.value[node].item()))
            continue
        edge = float(tree.threshold[node])
        below, above = high.copy(), low.copy()
        below[axis], above[axis] = min(high[axis], edge), max(low[axis], edge)
        waiting += [(int(tree.children_left[node]), low, below), (int(tree.children_right[node]), above, high)]
    return np.array(lows), np.array(highs), np.array(heights)
