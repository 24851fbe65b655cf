"""One mapping from the spec's parameters to Optuna's distributions, for sampling and for Optuna's tables alike."""

import decimal
from collections.abc import Mapping

from optuna import distributions

from kubetune.api import spec


def distribution(parameter: spec.Parameter) -> distributions.BaseDistribution:
    """What Optuna calls this parameter.

    A choice with an order is a choice here too: tools show its values. A range that is no whole number of steps ends at
    its last step: Optuna would cut it in the same way, with a warning for each trial.
    """
    if isinstance(parameter, spec.Categorical):
        return distributions.CategoricalDistribution(parameter.choices)
    if isinstance(parameter, spec.Int):
        high = parameter.low + (parameter.high - parameter.low) // parameter.step * parameter.step
        return distributions.IntDistribution(parameter.low, high, log=parameter.log, step=parameter.step)
    return distributions.FloatDistribution(parameter.low, _last_step(parameter), log=parameter.log, step=parameter.step)


def distributions_of(parameters: Mapping[str, spec.Parameter]) -> dict[str, distributions.BaseDistribution]:
    """The whole search space, in the spec's order."""
    return {name: distribution(parameter) for name, parameter in parameters.items()}


def _last_step(parameter: spec.Double) -> float:
    """The highest value on the grid. In decimals, as a person wrote them: 0.1 + 0.2 must not miss 0.3."""
    if parameter.step is None:
        return parameter.high
    low, high, step = (decimal.Decimal(str(number)) for number in (parameter.low, parameter.high, parameter.step))
    if (high - low) % step == 0:
        return parameter.high
    return float((high - low) // step * step + low)


def to_json(form: distributions.BaseDistribution) -> str:
    """A distribution as Optuna's tables hold it."""
    return str(distributions.distribution_to_json(form))
