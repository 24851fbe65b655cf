"""Whether what the best trials came to can be trusted: chance between runs, and the distance to training. Pure."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kubetune.api.insight import Advice, AdviceKind
from kubetune.api.spec import ExperimentSpec
from kubetune.engine.columns import Floats
from kubetune.engine.courses.noise import Noise

COMPARED = 5  # best trials, from the first to the last of which
LEAST_FREEDOM = 10  # degrees of freedom before a spread between runs means something
LEAST_GAP = 0.02  # of the metric itself: below, nobody minds a gap


def noise(found: Noise, best: Sequence[float], runs: Sequence[float]) -> Iterator[Advice]:
    """Whether which of the best trials is the best one is chance.

    Args:
        best: values of the best trials, the best first.
        runs: of the best one.
    """
    best = best[:COMPARED]
    if found.freedom < LEAST_FREEDOM or len(best) < COMPARED or not runs:
        return
    error = found.deviation / math.sqrt(len(runs))
    apart = abs(best[0] - best[-1])
    if error * math.sqrt(2) >= apart:
        yield Advice(
            AdviceKind.SEEDS_TOO_NOISY,
            f"the runs of one trial differ by {found.deviation:.3g} (standard deviation), so the best one's mean of "
            f"{len(runs)} is known to ±{error:.3g} only, and the best {len(best)} trials lie within {apart:.3g}: which "
            "of them is the best is chance; give more replicates or folds, or take the one that is cheapest to run",
        )


def gap(spec: ExperimentSpec, values: Floats, best: Sequence[Mapping[str, float]]) -> Iterator[Advice]:
    """Whether the best trials do so much better on their training data that more is lost there than tuning gains: than
    lies between the best trial and the median one.

    Args:
        values: of COMPLETE trials.
        best: the last metrics of the best trials.
    """
    goal, train = spec.objectives[0], spec.validation.train_metric or ""
    sign = 1.0 if goal.direction == "maximize" else -1.0
    pairs = [(each[train], each[goal.metric]) for each in best if train in each and goal.metric in each]
    gaps = [sign * (trained - scored) for trained, scored in pairs if math.isfinite(trained - scored)]
    if len(gaps) < COMPARED:
        return
    middle, gained = statistics.median(gaps), float(np.max(sign * values) - np.median(sign * values))
    size = statistics.median(abs(scored) for _, scored in pairs)
    if middle > max(gained, LEAST_GAP * size):
        yield Advice(
            AdviceKind.VALIDATION_GAP,
            f"the best trials are better on their training data by {middle:.3g} ({train} against {goal.metric}, in the "
            f"median), more than the {gained:.3g} that lie between the median trial and the best: they learn their "
            "data by heart; more data, augmentation or regularisation may bring more than more trials",
        )
