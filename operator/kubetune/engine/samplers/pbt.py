"""Population-based training: members train on and on; the worst take over from the best, and try something near by.

Jaderberg et al., arXiv 1711.09846, with truncation selection, as Ray's `PopulationBasedTraining` has it. A trial is one
segment of a member's life: it goes on from its parent's checkpoint. Whenever a slot is free the next segment is that of
the free member that has begun the fewest; nobody waits for a generation. What a member is worth is its latest good
segment's value. So all is known from the record of which trial was which member's.

Where Ray's rules have nothing to say, docs/decisions/0160-population-based-training.md does.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kubetune.api.spec import Categorical, Double, ExperimentSpec, Int, InvalidSpec, Params, ParamValue
from kubetune.api.trial import Segment
from kubetune.engine import feasible, options
from kubetune.engine.columns import Columns, Floats
from kubetune.engine.ended import Ended
from kubetune.engine.history import COMPLETE, History, View
from kubetune.engine.samplers import prior
from kubetune.engine.samplers.asking import Asker
from kubetune.engine.samplers.base import Sampler, Sight, seed_of
from kubetune.engine.samplers.random import RandomSampler
from kubetune.engine.samplers.replay import Replay

OPTIONS: Mapping[str, options.Option] = {
    "populationSize": options.Whole(8, low=2),
    "quantileFraction": options.Real(0.25, 0.0, 0.5),  # of the population: so many worst go on from so many best
    "resampleProbability": options.Real(0.25, 0.0, 1.0),  # of each parameter, instead of a perturbation
    "perturbationFactors": options.Factors((0.8, 1.2)),
    "burnIn": options.Whole(0, low=0),  # good segments that a member has before it may take over from another
}
TRIES = 20  # at a change that changes something and fulfils `where`
_SEEDS = 4_000_000  # from here on the seeds are for changes: else a resample would be the number's random draw


@dataclasses.dataclass(frozen=True)
class Settings:
    """See `OPTIONS`."""

    size: int
    fraction: float
    resample: float
    factors: tuple[float, ...]
    burn_in: int


@dataclasses.dataclass
class Member:
    """What has become of one: ``trial`` is its latest good segment, None before it has one."""

    ended: int = 0  # segments, good or not
    good: int = 0
    failing: bool = False  # its latest segment to end was not good
    trial: int | None = None
    loss: tuple[float, float] = (np.inf, np.inf)  # by how much it breaks constraints, then the objective's
    row: Floats | None = None  # that trial's parameters


class Population:
    """Its members, as far as their segments have ended."""

    def __init__(self, size: int, sign: float) -> None:
        self._sign = sign
        self.members = [Member() for _ in range(size)]

    def learn(self, more: Ended) -> None:
        broken = feasible.broken(more.penalties).tolist()
        for row, number in enumerate(more.members.tolist()):
            if not 0 <= number < len(self.members):
                continue  # of another sampler's time, or of a larger population
            member = self.members[number]
            member.ended += 1
            member.failing = more.states[row] != COMPLETE
            if not member.failing:
                member.good += 1
                member.trial, member.row = int(more.numbers[row]), more.params[row]
                member.loss = broken[row], self._sign * float(more.values[row, 0])

    def next(self, busy: frozenset[int]) -> int:
        """The free member that has begun the fewest segments, of such the first. Raises RuntimeError: none is free."""
        free = [place for place in range(len(self.members)) if place not in busy]
        if not free:
            raise RuntimeError(f"all {len(self.members)} members of the population train")
        return min(free, key=lambda place: (self.members[place].ended, place))

    def quantiles(self, fraction: float) -> tuple[list[int], list[int]]:
        """The worst and the best members, as many of each: as Ray's `_quantiles`."""
        ranked = [place for place, member in enumerate(self.members) if member.trial is not None]
        ranked.sort(key=lambda place: tuple(-part for part in self.members[place].loss))
        count = min(int(np.ceil(len(ranked) * fraction)), len(ranked) // 2)
        return (ranked[:count], ranked[-count:]) if count else ([], [])


class PopulationSampler(Sampler):
    """Draws trial ``number`` from a generator of its own and the population as it stands."""

    sight = Sight(whole=True)
    leads = True

    def __init__(self, spec: ExperimentSpec, settings: Settings) -> None:
        self._spec, self._settings = spec, settings
        self._asker = Asker(spec)
        self._random = RandomSampler(spec)
        self._priors = prior.kernels_of(spec.parameters)
        self._columns = Columns(spec.parameters)
        sign = 1.0 if spec.objectives[0].direction == "minimize" else -1.0
        self._replay = Replay(lambda: Population(settings.size, sign))

    def room(self, history: History) -> int:
        return len(set(range(self._settings.size)) - history.busy_members())

    def needed(self, history: History) -> frozenset[int]:
        members = self._replay.at(history.view(*dataclasses.astuple(self.sight)).past).members
        return frozenset(member.trial for member in members if member.trial is not None)

    def segment(self, view: View, number: int) -> Segment | None:
        place, source, _ = self._decided(view, number)
        return Segment(place, source.trial)

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        _, source, changes = self._decided(view, number)
        if source.row is None:
            return self._random.choose(view, number)
        kept = self._columns.decode(source.row.tolist())
        return self._explored(kept, number) if changes else {name: kept[name] for name in self._asked(kept)}

    def _decided(self, view: View, number: int) -> tuple[int, Member, bool]:
        """Whose segment trial ``number`` is, from whose it goes on, and whether with other parameters."""
        population = self._replay.at(view.past)
        place = population.next(view.busy)
        member = population.members[place]
        worst, best = population.quantiles(self._settings.fraction)
        if place in worst and member.good >= self._settings.burn_in:
            dice = np.random.RandomState(seed_of(self._spec, number, _SEEDS))
            return place, population.members[best[dice.randint(len(best))]], True
        return place, member, member.failing  # what failed would fail again

    def _asked(self, params: Params) -> list[str]:
        return [name for name in self._spec.space.order if name in params]

    def _explored(self, kept: Params, number: int) -> dict[str, ParamValue]:
        """Each parameter perturbed, or drawn again; what these bring with them (conditions) is drawn. If nothing that
        `where` allows comes of it, the parameters as they are."""
        for again in range(1, TRIES + 1):
            seed = seed_of(self._spec, number, _SEEDS + again)
            changed = self._changed(kept, np.random.RandomState(seed))
            beside = prior.Beside(self._asker.told(changed), self._priors, seed)
            chosen = self._asker.ask(beside, [], number)
            if chosen != dict(kept) and self._spec.space.holds(chosen):
                return chosen
        return {name: kept[name] for name in self._asked(kept)}

    def _changed(self, kept: Params, dice: np.random.RandomState) -> dict[str, ParamValue]:
        """Those that are not drawn again."""
        changed: dict[str, ParamValue] = {}
        for name in self._asked(kept):
            resampled = dice.rand() < self._settings.resample
            factor = self._settings.factors[dice.randint(len(self._settings.factors))]
            if not resampled:
                changed[name] = perturbed(self._spec.parameters[name], kept[name], factor)
        return changed


def perturbed(parameter: Double | Int | Categorical, value: ParamValue, factor: float) -> ParamValue:
    """The value times the factor, within the range; in steps at least one step; of choices with an order the neighbour
    on that side. Zero, which no factor moves, moves by that part of the range. Choices without an order stay."""
    if isinstance(parameter, Categorical):
        if not parameter.ordered:
            return value
        place = parameter.choices.index(value) + (factor > 1) - (factor < 1)
        return parameter.choices[min(max(place, 0), len(parameter.choices) - 1)]
    before = float(value)
    after = before * factor if before else (factor - 1) * (parameter.high - parameter.low)
    if parameter.step is None:
        return min(max(after, parameter.low), parameter.high)
    return _in_steps(parameter, parameter.step, before, after)


def _in_steps(parameter: Double | Int, step: float, before: float, after: float) -> float | int:
    most = int((parameter.high - parameter.low) / step + 1e-9)
    here = round((before - parameter.low) / step)
    there = round((after - parameter.low) / step)
    if there == here and after != before:
        there += 1 if after > before else -1
    there = min(max(there, 0), most)
    if isinstance(parameter, Int):
        return parameter.low + there * parameter.step
    return min(parameter.low + there * step, parameter.high)


def build(spec: ExperimentSpec) -> PopulationSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    _fits(spec, given["populationSize"])
    return PopulationSampler(
        spec,
        Settings(
            given["populationSize"],
            given["quantileFraction"],
            given["resampleProbability"],
            given["perturbationFactors"],
            given["burnIn"],
        ),
    )


def _fits(spec: ExperimentSpec, size: int) -> None:
    """Raises InvalidSpec."""
    if len(spec.objectives) > 1:
        raise InvalidSpec("sampler.name", "pbt takes one objective; with several take nsgaii, nsgaiii or tpe")
    if spec.fidelity is not None:
        raise InvalidSpec("fidelity", "pbt trains in segments, not in rungs; drop it, or take another sampler")
    if not Asker(spec).distributions:
        raise InvalidSpec("parameters", "each has one value only: there is nothing to search; give one more values")
    if spec.parallelism > size:
        raise InvalidSpec(
            "parallelism.max",
            f"{spec.parallelism} trials at once are more than the {size} members of the population; lower it to {size},"
            " or raise sampler.settings.populationSize",
        )
