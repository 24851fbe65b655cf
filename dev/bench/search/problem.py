"""What is searched: a space, a function of it, and what is known of its best value. All objectives are minimised."""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from kubetune.api.spec import Constraint, Double, ExperimentSpec, Objective, Parameter, Params
from kubetune.api.trial import penalty

Family: TypeAlias = Literal["single", "noisy", "multi", "constrained", "conditional", "training", "fidelity"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one evaluation gives.

    Args:
        values: of each objective, as it is reported.
        excess: by how much each constraint is broken; at most 0: it is kept.
        exact: the first value without the noise. None: there is none.
    """

    values: tuple[float, ...]
    excess: tuple[float, ...] = ()
    exact: float | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    """
    Args:
        evaluate: by parameters and a source of noise of the trial's own.
        trials: the budget.
        least: the lowest value that keeps the constraints; of several objectives the largest hypervolume below
            ``corner``. None: unknown, the best of all runs of the benchmark stands in.
        corner: the point that hypervolumes are measured from, which counts nothing that is not below it.
        constraints: how many there are.
        quick: it is among the few of the quick form.
    """

    name: str
    family: Family
    parameters: Mapping[str, Parameter]
    evaluate: Callable[[Params, random.Random], Outcome]
    trials: int
    least: float | None = None
    corner: tuple[float, ...] = ()
    constraints: int = 0
    quick: bool = False

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(Objective(f"y{place}", "minimize") for place in range(len(self.corner) or 1))

    def spec(self, seed: int) -> ExperimentSpec:
        """As an experiment, with the default sampler."""
        return ExperimentSpec(
            namespace="bench",
            name=self.name,
            uid="",
            generation=1,
            objectives=self.objectives,
            parameters=self.parameters,
            template={},
            constraints=tuple(Constraint(f"g{place}", "max", 0.0) for place in range(self.constraints)),
            max_trials=self.trials,
            seed=seed,
        )

    def excess(self, outcome: Outcome) -> dict[str, float] | None:
        """By constraint, as a trial's record has it."""
        return {f"g{place}.max": excess for place, excess in enumerate(outcome.excess)} or None

    def broken(self, outcome: Outcome) -> float:
        return penalty(self.excess(outcome))

    def noise(self, seed: int, number: int) -> random.Random:
        """The same for all who search: what differs between two runs of one seed is the searcher alone."""
        return random.Random(f"noise {self.name} {seed} {number}")

    def lengths(self, seed: int, number: int) -> float:
        """How long a trial runs, or a step of it; the median is 1."""
        return random.Random(f"length {self.name} {seed} {number}").lognormvariate(0.0, 0.5)


def seed_in(problem: str, seed: int) -> int:
    """What a searcher is seeded with. One for each problem: with the same for all, those of the same width would begin
    at the same points, and the luck of one would be counted as many times as there are."""
    return random.Random(f"seed {problem} {seed}").getrandbits(31)


def doubles(box: Sequence[tuple[float, float]]) -> dict[str, Parameter]:
    return {f"x{place}": Double(float(low), float(high)) for place, (low, high) in enumerate(box)}


def vector(params: Params) -> list[float]:
    """The values of `doubles`, in their order."""
    return [float(params[f"x{place}"]) for place in range(len(params))]
