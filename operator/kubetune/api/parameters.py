"""The parameters of a search space: what they are, and how the custom resource says it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from kubetune.api import names

ParamValue: TypeAlias = float | int | str | bool
Params: TypeAlias = Mapping[str, ParamValue]
# Parents in order of name, each with the values of it that make the parameter one of the trial's. (): always.
When: TypeAlias = tuple[tuple[str, tuple[ParamValue, ...]], ...]


class InvalidSpec(ValueError):  # noqa: N818
    """The spec cannot be run. ``field`` is a JSON path from ``spec``; the message says what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class NotYet(InvalidSpec):
    """The spec cannot be run for want of something that may come by itself, and is no fault: looked for again."""


@dataclasses.dataclass(frozen=True)
class Prior:
    """A normal distribution on the parameter's scale (of its logarithm, if that is log), cut to its range."""

    mean: float
    std: float


@dataclasses.dataclass(frozen=True)
class Double:
    """A real number in [low, high]; on a log scale, or in steps from low, never both. ``prior`` None: uniform."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: When = dataclasses.field(default=(), kw_only=True)
    prior: Prior | None = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Int:
    """A whole number in [low, high]; on a log scale (then step is 1), or in steps from low. ``prior`` as there."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: When = dataclasses.field(default=(), kw_only=True)
    prior: Prior | None = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Categorical:
    """One of the choices: all strings, all numbers, or (False, True). ``ordered``: neighbours are alike. ``weights``:
    how probable each is beforehand, of any sum; (): all the same."""

    choices: tuple[ParamValue, ...]
    when: When = dataclasses.field(default=(), kw_only=True)
    ordered: bool = dataclasses.field(default=False, kw_only=True)
    weights: tuple[float, ...] = dataclasses.field(default=(), kw_only=True)


Parameter: TypeAlias = Double | Int | Categorical


def searched(parameter: Parameter) -> Parameter:
    """As a search takes it: choices with an order are the whole numbers of their places, counted from 0."""
    if isinstance(parameter, Categorical) and parameter.ordered:
        return Int(0, len(parameter.choices) - 1, when=parameter.when)
    return parameter


def within(parameter: Parameter, value: ParamValue) -> bool:
    """Whether the parameter can have this value; on a step to within 1e-8, as Optuna takes it."""
    if isinstance(parameter, Categorical):
        return any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in parameter.choices
        )
    if isinstance(value, str | bool) or not parameter.low <= value <= parameter.high:
        return False
    if isinstance(parameter, Int) and value != int(value):
        return False
    steps = 0.0 if parameter.step is None else (value - parameter.low) / parameter.step
    return abs(steps - round(steps)) < 1e-8 * max(1.0, steps)


def own(parameter: Parameter, value: ParamValue) -> ParamValue:
    """The parameter's own value that is equal to ``value``, which is one of its: 3.0 of an int is 3."""
    if isinstance(parameter, Categorical):
        return parameter.choices[parameter.choices.index(value)]
    return float(value) if isinstance(parameter, Double) else int(value)


def parse(forms: Mapping[str, Mapping[str, Any]]) -> dict[str, Parameter]:
    """The resource's parameters, in its order. Whether their conditions go together is `space.Space`'s to say.

    Raises:
        InvalidSpec: at the first that cannot be.
    """
    parameters = {name: _parameter(name, form) for name, form in forms.items()}
    if not parameters:
        raise InvalidSpec("parameters", "name at least one parameter to tune")
    whens = {name: _when(name, form["when"], parameters) for name, form in forms.items() if "when" in form}
    return {name: dataclasses.replace(each, when=whens.get(name, ())) for name, each in parameters.items()}


def _when(name: str, form: Any, parameters: Mapping[str, Parameter]) -> When:
    field = f"parameters.{name}.when"
    if not isinstance(form, Mapping) or not form:
        raise InvalidSpec(field, "name a parameter and its value, for example when: {optimizer: sgd}; or drop it")
    when = []
    for parent, given in sorted(form.items()):
        if parent not in parameters:
            raise InvalidSpec(field, f"there is no parameter {parent}; there are {', '.join(sorted(parameters))}")
        if isinstance(parameters[parent], Double):
            raise InvalidSpec(field, f"{parent} is a double; a condition names values of a choice, values, bool or int")
        values = tuple(given) if isinstance(given, list | tuple) else (given,)
        if not values:
            raise InvalidSpec(f"{field}.{parent}", "give at least one value, or drop the condition")
        when.append((parent, tuple(_value(f"{field}.{parent}", parent, parameters[parent], one) for one in values)))
    return tuple(when)


def _value(field: str, parent: str, parameter: Parameter, given: Any) -> ParamValue:
    """The parent's own value that is equal to what was given."""
    if not isinstance(given, str | bool | int | float) or not within(parameter, given):
        raise InvalidSpec(field, f"{given!r} is no value of {parent}, which is {described(parameter)}")
    return own(parameter, given)


def described(parameter: Parameter) -> str:
    """What the parameter can be, in words."""
    if isinstance(parameter, Categorical):
        return "one of " + ", ".join(map(str, parameter.choices))
    steps = "" if parameter.step in (None, 1) else f" in steps of {parameter.step}"
    return f"{parameter.low} to {parameter.high}{steps}"


def _parameter(name: str, form: Mapping[str, Any]) -> Parameter:
    field = f"parameters.{name}"
    if not names.PARAMETER_NAME.fullmatch(name):
        raise InvalidSpec(field, "a name is letters, digits and _, starts with no digit, has at most 63 characters")
    if names.RESERVED_ENV.match(name):
        raise InvalidSpec(field, f"{name} is an environment variable that the pod itself needs; rename the parameter")
    kinds = [kind for kind in ("double", "int", "choice", "values", "bool") if kind in form]
    if len(kinds) != 1:
        raise InvalidSpec(field, "give exactly one of double, int, choice, values, bool")
    if kinds[0] in ("double", "int"):
        return _range(field, kinds[0], form)
    return _categorical(field, kinds[0], form)


def _categorical(field: str, kind: str, form: Mapping[str, Any]) -> Categorical:
    if "scale" in form or "step" in form:
        raise InvalidSpec(field, f"{kind} takes neither scale nor step")
    if "prior" in form:
        raise InvalidSpec(field, f"{kind} takes no prior; drop it")
    choices = (False, True) if kind == "bool" else tuple(form[kind])
    if not choices or len(set(choices)) < len(choices):
        raise InvalidSpec(field, f"{kind} needs at least one value, each once")
    ordered, weights = bool(form.get("ordered", False)), tuple(map(float, form.get("weights") or ()))
    if ordered and (kind == "bool" or weights):
        raise InvalidSpec(field, "ordered is for choice and values, and not with weights; drop one of them")
    if weights and len(weights) != len(choices):
        raise InvalidSpec(field, f"weights needs one number for each of the {len(choices)} values, in their order")
    if not all(0 < weight < math.inf for weight in weights):
        raise InvalidSpec(field, "weights must be above 0; leave out the value that is never to be tried")
    return Categorical(choices, ordered=ordered, weights=weights)


EXACT = 2**53  # every whole number up to it is a double


def _range(field: str, kind: str, form: Mapping[str, Any]) -> Double | Int:
    unfit = [name for name in ("ordered", "weights") if form.get(name)]
    if unfit:
        raise InvalidSpec(field, f"{kind} takes no {unfit[0]}; drop it")
    low, high = form[kind]
    log, step = form.get("scale", "linear") == "log", form.get("step")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidSpec(field, f"min must be below max, but {kind} is [{low}, {high}]")
    if log and low <= 0:
        raise InvalidSpec(field, f"a log scale needs min > 0, but min is {low}")
    if log and step is not None:
        raise InvalidSpec(field, "scale: log and step exclude each other; drop one")
    if step is not None and not 0 < step <= high - low:
        raise InvalidSpec(field, f"step must be above 0 and at most max - min, but is {step}")
    prior = _prior(field, form["prior"], low, high, log) if "prior" in form else None
    if kind == "double":
        return Double(float(low), float(high), log, None if step is None else float(step), prior=prior)
    if max(abs(low), abs(high)) > EXACT:
        raise InvalidSpec(field, f"int takes numbers up to 2**53 = {EXACT} (they are kept as doubles); scale it down")
    if any(float(number) != int(number) for number in (low, high, step or 1)):
        raise InvalidSpec(field, "int takes whole numbers only; use double for others")
    return Int(int(low), int(high), log, int(step or 1), prior=prior)


def _prior(field: str, form: Mapping[str, Any], low: float, high: float, log: bool) -> Prior:
    kind = "logNormal" if log else "normal"
    if list(form) != [kind]:
        example = "logNormal: {median: 0.01, factor: 3}" if log else "normal: {mean: 0.5, std: 0.1}"
        raise InvalidSpec(f"{field}.prior", f"scale: {'log' if log else 'linear'} takes a {kind} prior: {example}")
    centre, spread = (float(form[kind][name]) for name in (("median", "factor") if log else ("mean", "std")))
    if not low <= centre <= high:
        raise InvalidSpec(f"{field}.prior.{kind}", f"{centre:g} must lie within the range, {low} to {high}")
    least = 1.0 if log else 0.0
    if not least < spread < math.inf:
        raise InvalidSpec(f"{field}.prior.{kind}", f"{'factor' if log else 'std'} must be above {least:g}")
    return Prior(math.log(centre), math.log(spread)) if log else Prior(centre, spread)
