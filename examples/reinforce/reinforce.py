"""A searcher that learns by reinforcement, as a plug-in of kubetune's operator (docs/own-searcher.md).

Its policy is one softmax for each parameter over the values that it may have, moved by REINFORCE (Williams, Machine
Learning 8, 1992): what was better than the mean becomes more probable. Zoph and Le (ICLR 2017) put a recurrent network
in the policy's place; everything around it would be as it is here.
"""

import graphlib
import math
import random
import statistics
from collections.abc import Mapping, Sequence

from kubetune.api.parameters import Double, Int, Parameter, Params, ParamValue
from kubetune.api.searcher import Study, Told

VALUES = 8  # of a range that has more
RATE = 0.2


class Reinforce:
    """One study's policy. It follows from what it was told: a new process, told it again, is at the same point."""

    def __init__(self, study: Study) -> None:
        parents = {name: [parent for parent, _ in each.when] for name, each in study.parameters.items()}
        self._order = list(graphlib.TopologicalSorter(parents).static_order())
        self._parameters = study.parameters
        self._seed = study.seed
        self._sign = -1.0 if study.objectives[0].direction == "minimize" else 1.0
        self._values = {name: values(each) for name, each in study.parameters.items()}
        self._logits = {name: [0.0] * len(each) for name, each in self._values.items()}
        self._rewards: list[float] = []

    def tell(self, trials: Sequence[Told]) -> None:
        for trial in trials:
            if trial.values is not None and math.isfinite(trial.values[0]):
                self._learn(trial.params, self._sign * trial.values[0])

    def ask(self, number: int, running: Mapping[int, Params]) -> Params:
        """Drawn by the policy, parents first: the conditions of the others are known then."""
        draws = random.Random(f"{self._seed} {number}")
        chosen: dict[str, ParamValue] = {}
        for name in self._order:
            conditions = self._parameters[name].when
            if all(parent in chosen and chosen[parent] in allowed for parent, allowed in conditions):
                (chosen[name],) = draws.choices(self._values[name], self.probabilities(name))
        return chosen

    def probabilities(self, name: str) -> list[float]:
        weights = [math.exp(logit - max(self._logits[name])) for logit in self._logits[name]]
        return [weight / sum(weights) for weight in weights]

    def _learn(self, params: Params, reward: float) -> None:
        """One step along the gradient of the expected reward, which is counted in deviations from the mean so far."""
        self._rewards.append(reward)
        spread = statistics.pstdev(self._rewards)
        advantage = (reward - statistics.fmean(self._rewards)) / spread if spread > 0 else 0.0
        for name, value in params.items():
            taken = min(range(len(self._values[name])), key=lambda place: distance(self._values[name][place], value))
            for place, probability in enumerate(self.probabilities(name)):
                self._logits[name][place] += RATE * advantage * ((place == taken) - probability)


def values(parameter: Parameter) -> list[ParamValue]:
    """What the policy chooses from: all values, or some that lie evenly on the parameter's scale."""
    if not isinstance(parameter, Double | Int):
        return list(parameter.choices)
    count = 1 + round((parameter.high - parameter.low) / parameter.step) if parameter.step else VALUES
    if count <= VALUES and parameter.step:
        return [parameter.low + place * parameter.step for place in range(count)]
    return list(dict.fromkeys(between(parameter, place / (VALUES - 1)) for place in range(VALUES)))


def between(parameter: Double | Int, part: float) -> float | int:
    """The value at this part of the range, from 0 to 1."""
    low, high = parameter.low, parameter.high
    point = low * (high / low) ** part if parameter.log else low + part * (high - low)
    if parameter.step:
        point = low + round((point - low) / parameter.step) * parameter.step
    point = min(max(point, low), high)
    return round(point) if isinstance(parameter, Int) else point


def distance(one: ParamValue, other: ParamValue) -> float:
    """Of the policy's values and one that a person gave, or that was drawn in its place."""
    if isinstance(one, str | bool) or isinstance(other, str | bool):
        return float(one != other)
    return abs(one - other)


def make(study: Study) -> Reinforce:
    """What the entry point names."""
    return Reinforce(study)
