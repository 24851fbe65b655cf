"""A narrower space around the best trials: what `stages[].narrow` asks for. Pure.

Of a range, on its own scale: an interval that holds all values of the best trials, as wide as the fraction says or,
where they lie further apart, as they do; around the middle between the lowest and the highest of them, and moved inside
of what is declared. With steps it is widened to the next one on each side. Choices: those that appear among the best;
of those with an order, an interval of their places. What none of the best has (a parameter with a condition) stays.
"""

import math
from collections.abc import Mapping, Sequence

from kubetune.api import narrow
from kubetune.api.parameters import Categorical, Double, Int, Parameter, Params, ParamValue

_DIGITS = 6  # of a bound, for people; it never cuts off one of the best


def around(
    declared: Mapping[str, Parameter], now: Mapping[str, Parameter], best: Sequence[Params], to: float
) -> dict[str, Parameter]:
    """The narrower parameters by name.

    Args:
        now: the space that the best trials were asked from.
        best: at least one trial.
        to: the part of each range of ``now`` that is left.
    """
    found = {}
    for name, parameter in declared.items():
        values = [params[name] for params in best if name in params]
        form = _form(parameter, now[name], values, to) if values else narrow.form(now[name])
        found[name] = narrow.parse({name: form}, declared)[name] if form else parameter
    return found


def _form(parameter: Parameter, now: Parameter, values: Sequence[ParamValue], to: float) -> dict[str, object]:
    if isinstance(parameter, Categorical):
        return narrow.form(Categorical(_choices(parameter, now, values, to)))
    assert isinstance(now, Double | Int)
    numbers = [float(value) for value in values]
    scale, back = (math.log, math.exp) if parameter.log else (float, float)
    width = to * (scale(now.high) - scale(now.low))
    places = sorted(map(scale, numbers))
    bounds = scale(parameter.low), scale(parameter.high)
    low, high = (float(f"{back(end):.{_DIGITS}g}") for end in _interval(places[0], places[-1], width, *bounds))
    low = max(min(low, *numbers), parameter.low)
    high = min(max(high, *numbers), parameter.high)
    if parameter.step is None:
        return {"min": low, "max": high}
    first = math.floor((low - parameter.low) / parameter.step + 1e-9)
    last = math.ceil((high - parameter.low) / parameter.step - 1e-9)
    ends = (parameter.low + number * parameter.step for number in (first, last))
    low, high = (min(float(f"{end:.15g}"), float(parameter.high)) for end in ends)
    return {"min": int(low), "max": int(high)} if isinstance(parameter, Int) else {"min": low, "max": high}


def _interval(low: float, high: float, width: float, least: float, most: float) -> tuple[float, float]:
    """Around [low, high], at least so wide, within [least, most]."""
    width = min(max(width, high - low), most - least)
    begin = min(max((low + high - width) / 2, least), most - width)
    return begin, begin + width


def _choices(parameter: Categorical, now: Parameter, values: Sequence[ParamValue], to: float) -> tuple[ParamValue, ...]:
    if not parameter.ordered:
        return tuple(choice for choice in parameter.choices if choice in values)
    assert isinstance(now, Categorical)
    places = sorted(parameter.choices.index(value) for value in values)
    width = to * (len(now.choices) - 1)
    begin, end = _interval(places[0], places[-1], width, 0.0, len(parameter.choices) - 1.0)
    return parameter.choices[math.floor(begin + 1e-9) : math.ceil(end - 1e-9) + 1]
