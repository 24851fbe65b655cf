"""What an expert would say of the search so far, as rules on the finished trials. Pure.

Positions are those in the range, 0 at its lower end and 1 at its upper, on the parameter's own scale.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from kubetune.api.insight import Advice, AdviceKind
from kubetune.api.spec import Categorical, Double, ExperimentSpec, Int
from kubetune.engine.columns import Columns, Floats

PER_PARAMETER = 10  # trials: Loeppky, Sacks and Welch, "Choosing the Sample Size of a Computer Experiment", 2009
FEW = 0.5  # of them
ENOUGH = 30  # complete trials before a place in a range means something
TOP = 0.1  # share of the trials that are called the best, and
LEAST_TOP = 5  # how many at least
AT_EDGE = 0.02  # the best trial lies within, and
NEAR_EDGE = 0.1  # half of the best
NARROW = 0.1  # of the range hold four fifths of the best, while
WASTED = 0.5  # of the trials lie further away from it than
MARGIN = 0.1
MANY = 50  # complete trials before a range is called too wide, or a parameter of no effect
NO_EFFECT = 0.01  # share of the importances
FINE = 20  # values that a range must have to be called too wide


def before(spec: ExperimentSpec) -> Iterator[Advice]:
    """What can be said before the first trial."""
    free = {name: count for name, parameter in spec.parameters.items() if (count := _values(parameter)) > 1}
    wanted = PER_PARAMETER * len(free)
    if spec.max_trials < min(FEW * wanted, math.prod(free.values())):
        yield Advice(
            AdviceKind.TOO_FEW_TRIALS,
            f"maxTrials: {spec.max_trials} is little for a search over {', '.join(sorted(free))}: the rule of thumb is "
            f"{PER_PARAMETER} trials a parameter, {wanted}; raise it, or fix the parameters that matter least",
        )


def top(complete: int) -> int:
    """How many of so many complete trials are called the best."""
    return max(LEAST_TOP, math.ceil(TOP * complete))


def after(spec: ExperimentSpec, params: Floats, values: Floats, shares: Mapping[str, float]) -> Iterator[Advice]:
    """What finished trials say; one advice of a kind at most, about all the parameters that it concerns.

    Args:
        params: of COMPLETE trials, (trials, parameters), as `Columns` has them; nan: not set.
        values: of the one objective, (trials,).
        shares: the importance of each parameter.
    """
    order = np.argsort(-values if spec.objectives[0].direction == "maximize" else values, kind="stable")
    best = order[: top(len(order))]
    edges, wide, idle = [], [], []
    for column, name in enumerate(Columns(spec.parameters).names):
        parameter = spec.parameters[name]
        if len(order) >= MANY and shares.get(name, 1.0) < NO_EFFECT:
            idle.append(name)
        elif not isinstance(parameter, Categorical) and _values(parameter) > 1:
            places = places_of(parameter, params[:, column])
            edges += _edge(name, parameter, places[best]) if len(order) >= ENOUGH else []
            wide += _wide(name, parameter, places, places[best]) if len(order) >= MANY else []
    if edges:
        yield Advice(AdviceKind.BEST_AT_EDGE, f"the best trials lie at the edge of a range: {'; '.join(edges)}")
    if wide:
        yield Advice(AdviceKind.RANGE_TOO_WIDE, f"most trials were spent where none is good: {'; '.join(wide)}")
    if idle:
        yield Advice(
            AdviceKind.NO_EFFECT,
            f"within its range it made no difference: {', '.join(idle)}; widen the range, or fix the value and search "
            "the others better",
        )


def _edge(name: str, parameter: Double | Int, top: Floats) -> list[str]:
    """``top``: the places of the best trials, the best first."""
    top = top[~np.isnan(top)]
    if len(top) < LEAST_TOP:
        return []
    for distance, end, bound, advice in (
        (top, "lower", parameter.low, "lower"),
        (1 - top, "upper", parameter.high, "raise"),
    ):
        if distance[0] <= AT_EDGE and np.mean(distance <= NEAR_EDGE) >= 0.5:
            return [f"{name} at its {end} end {bound:g} ({advice} it if the trial allows)"]
    return []


def _wide(name: str, parameter: Double | Int, places: Floats, top: Floats) -> list[str]:
    places, top = places[~np.isnan(places)], top[~np.isnan(top)]
    if len(top) < LEAST_TOP or _values(parameter) < FINE:
        return []
    low, high = (float(place) for place in np.quantile(top, [0.1, 0.9]))
    if high - low > NARROW:
        return []
    if np.mean((places < low - MARGIN) | (places > high + MARGIN)) < WASTED:
        return []
    between = [_value(parameter, place) for place in (max(0.0, low - MARGIN), min(1.0, high + MARGIN))]
    return [f"{name} is best from {between[0]:.3g} to {between[1]:.3g}, of [{parameter.low:g}, {parameter.high:g}]"]


def places_of(parameter: Double | Int, numbers: Floats) -> Floats:
    """Where in the range they are, 0 to 1, on its scale."""
    if parameter.log:
        low, high = math.log(parameter.low), math.log(parameter.high)
        return np.asarray((np.log(numbers) - low) / (high - low), dtype=np.float64)
    return np.asarray((numbers - parameter.low) / (parameter.high - parameter.low), dtype=np.float64)


def _value(parameter: Double | Int, place: float) -> float:
    if parameter.log:
        return float(parameter.low * (parameter.high / parameter.low) ** place)
    return float(parameter.low + place * (parameter.high - parameter.low))


def _values(parameter: object) -> float:
    """How many values it can take."""
    if isinstance(parameter, Categorical):
        return len(parameter.choices)
    assert isinstance(parameter, Double | Int)
    if parameter.high == parameter.low:
        return 1
    return math.inf if parameter.step is None else math.floor((parameter.high - parameter.low) / parameter.step) + 1
