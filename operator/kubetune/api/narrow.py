"""A narrower space for what is asked next: each parameter named keeps its kind, within what is declared. Pure."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from kubetune.api.parameters import Categorical, Double, Int, InvalidSpec, Parameter, ParamValue, described, within


def parse(forms: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The narrower parameters by name; those that are not named stay as they are declared.

    Raises:
        InvalidSpec: naming what reaches beyond the declared space, or leaves nothing.
    """
    narrowed = {}
    for name, form in sorted(forms.items()):
        if name not in parameters:
            raise InvalidSpec(
                f"narrow.{name}", f"there is no such parameter; there are {', '.join(sorted(parameters))}"
            )
        narrowed[name] = _narrowed(f"narrow.{name}", parameters[name], form)
    return narrowed


def form(parameter: Parameter) -> dict[str, Any]:
    """As the resource says it; {}: nothing to say, both values of a bool."""
    if not isinstance(parameter, Categorical):
        return {"min": parameter.low, "max": parameter.high}
    if isinstance(parameter.choices[0], bool):
        return {"bool": parameter.choices[0]} if len(parameter.choices) == 1 else {}
    return {"choice" if isinstance(parameter.choices[0], str) else "values": list(parameter.choices)}


def words(parameter: Parameter) -> str:
    """What is left of it."""
    if isinstance(parameter, Categorical):
        return ", ".join(map(str, parameter.choices))
    return f"{parameter.low:g} to {parameter.high:g}"


def _narrowed(field: str, parameter: Parameter, form: Mapping[str, Any]) -> Parameter:
    if isinstance(parameter, Categorical):
        kept = _choices(field, parameter, form)
        weights = tuple(
            weight for choice, weight in zip(parameter.choices, parameter.weights, strict=False) if choice in kept
        )
        return dataclasses.replace(parameter, choices=kept, weights=weights)
    if not form.keys() or form.keys() - {"min", "max"}:
        raise InvalidSpec(field, f"it is {described(parameter)}: give min, max or both")
    low, high = form.get("min", parameter.low), form.get("max", parameter.high)
    for bound, value in (("min", low), ("max", high)):
        if isinstance(value, bool) or not parameter.low <= value <= parameter.high:
            raise InvalidSpec(f"{field}.{bound}", f"{value} is outside of what is declared, {described(parameter)}")
    if low > high:
        raise InvalidSpec(f"{field}.min", f"{low} is above max, {high}; lower it, or leave it out")
    return _whole(field, parameter, low, high) if isinstance(parameter, Int) else _real(field, parameter, low, high)


def _whole(field: str, parameter: Int, low: float, high: float) -> Int:
    first = parameter.low + math.ceil((low - parameter.low) / parameter.step) * parameter.step
    last = parameter.low + math.floor((high - parameter.low) / parameter.step) * parameter.step
    _some(field, parameter, first, last)
    return dataclasses.replace(parameter, low=first, high=last)


def _real(field: str, parameter: Double, low: float, high: float) -> Double:
    """On a step: from the first to the last value of the declared ones that lies within."""
    if parameter.step is None:
        return dataclasses.replace(parameter, low=float(low), high=float(high))
    steps = [(bound - parameter.low) / parameter.step for bound in (low, high)]
    first = math.ceil(steps[0] - 1e-9) * parameter.step + parameter.low
    last = math.floor(steps[1] + 1e-9) * parameter.step + parameter.low
    _some(field, parameter, first, last)
    return dataclasses.replace(parameter, low=float(f"{first:.15g}"), high=float(f"{last:.15g}"))


def _some(field: str, parameter: Parameter, first: float, last: float) -> None:
    if first > last:
        raise InvalidSpec(field, f"no value of it, {described(parameter)}, lies between min and max; widen them")


def _choices(field: str, parameter: Categorical, form: Mapping[str, Any]) -> tuple[ParamValue, ...]:
    kind = "bool" if isinstance(parameter.choices[0], bool) else "choice"
    kind = "values" if kind == "choice" and not isinstance(parameter.choices[0], str) else kind
    if form.keys() != {kind}:
        example = {"bool": "true", "choice": f"[{parameter.choices[0]}]", "values": f"[{parameter.choices[0]}]"}[kind]
        raise InvalidSpec(field, f"it is {described(parameter)}: write for example {{{kind}: {example}}}")
    wanted = [form[kind]] if kind == "bool" else list(form[kind])
    for value in wanted:
        if not within(parameter, value):
            raise InvalidSpec(f"{field}.{kind}", f"{value!r} is not declared; it is {described(parameter)}")
    kept = tuple(choice for choice in parameter.choices if choice in wanted)
    if not kept:
        raise InvalidSpec(f"{field}.{kind}", "nothing is left to try; name at least one")
    return kept
