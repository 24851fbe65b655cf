"""The state of CMA-ES after the trials that ended so far: generations told one after the other, restarts among them.

A generation is the next ``popsize`` trials that ended, in the order of ending, whichever distribution they were drawn
from: docs/decisions/0080-whole-pasts.md, 0081-cma-es.md.
"""

import collections
import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import optuna
from optuna._transform import _SearchSpaceTransform

from kubetune.engine import feasible
from kubetune.engine.columns import Floats
from kubetune.engine.ended import Ended
from kubetune.engine.history import COMPLETE, PRUNED

if TYPE_CHECKING:
    import cmaes

    Optimizer: TypeAlias = cmaes.CMA | cmaes.SepCMA | cmaes.CMAwM

Solution: TypeAlias = tuple[Floats, float, float]  # where in the unit cube, the loss there, what it breaks

FEWEST = 10  # trials that a distribution is estimated from: of its best tenth there is one
_LARGEST = 1e300  # losses that are infinite count as that: differences among losses stay numbers
_REMEMBERED = 64  # distributions that a trial's raw draw is looked for among
_STRANGERS = 20


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of one experiment's CMA-ES; named as Optuna's, but for ``warm``: begin where the startup trials were best."""

    startup: int
    popsize: int | None
    sigma0: float | None
    pruned: bool
    restarts: str
    increase: int
    separable: bool
    margin: bool
    adapt: bool
    warm: bool


class Cube:
    """The numeric parameters as Optuna's CmaEsSampler has them: a cube of side 1."""

    def __init__(
        self, space: dict[str, optuna.distributions.BaseDistribution], places: Sequence[int], margin: bool
    ) -> None:
        self._transform = _SearchSpaceTransform(space, transform_step=not margin, transform_0_1=True)
        self._places = list(places)
        self._logs = [column for column, what in enumerate(space.values()) if getattr(what, "log", False)]
        self.bounds = self._transform.bounds
        self.steps = np.array([_step(what) for what in space.values()])
        self.rounded = np.array([getattr(what, "step", None) is not None for what in space.values()])

    def enter(self, rows: Floats) -> Floats:
        """Rows of `Columns`' numbers; to the last bit as Optuna's transform has them."""
        numbers = rows[:, self._places]
        for column in self._logs:
            numbers[:, column] = [math.log(number) for number in numbers[:, column].tolist()]
        lows, highs = self._transform._raw_bounds.T
        return np.asarray((numbers - lows) / (highs - lows), dtype=np.float64)

    def leave(self, x: Floats) -> dict[str, Any]:
        return self._transform.untransform(x)

    def is_at(self, x: Floats, row: Floats) -> bool:
        """Whether leaving from ``x`` gives the parameters in the row, but for the rounding of another machine."""
        values = np.array([float(value) for value in self.leave(x).values()])
        return bool(np.allclose(values, row[self._places], rtol=1e-9, atol=0.0))


def _step(what: Any) -> float:
    """In the cube; 0: continuous."""
    if what.step is None or what.log:
        return 0.0
    return float(what.step / (what.high - what.low))


class Strategy:
    """Learns from trials that ended; asked for the next point.

    Args:
        sign: 1 to minimise, -1 to maximise.
        seed: of the draw of a trial's number, and of how often it was drawn before; of restarts by negative numbers.
    """

    def __init__(self, settings: Settings, cube: Cube, sign: float, seed: Any) -> None:
        self._settings, self._cube, self._sign, self._seed = settings, cube, sign, seed
        self._startup: list[Solution] = []
        self._awaited = settings.startup if settings.warm else 0  # startup trials that have not ended
        self._generation: list[Solution] = []
        self._asked_before = -1  # trials up to this number are of an earlier run
        self._newest = -1
        self._restarts = _Restarts(settings)
        self._strangers = 0  # trials, one after the other, that no distribution gave
        self._optimizer: Optimizer
        self._begin(None, None)

    # ---- learning

    def learn(self, more: Ended) -> None:
        usable = more.states == COMPLETE
        if self._settings.pruned:
            usable |= (more.states == PRUNED) & ~np.isnan(more.lasts)
        losses = self._sign * np.where(more.states == COMPLETE, more.values[:, 0], more.lasts)
        losses = np.clip(losses, -_LARGEST, _LARGEST)
        broken = feasible.broken(more.penalties)
        points = self._cube.enter(more.params)
        for row, number in enumerate(more.numbers.tolist()):
            if number < 0:
                self._heard(points[row], float(losses[row]), float(broken[row]), bool(usable[row]))
                continue
            self._newest = max(self._newest, number)
            if number < self._settings.startup:
                self._started(points[row], float(losses[row]), float(broken[row]), bool(usable[row]))
            elif usable[row] and number > self._asked_before:
                x = self._drawn(number, more.params[row], points[row])
                self._generation.append((x, float(losses[row]), float(broken[row])))
            self._tell()

    def _heard(self, x: Floats, loss: float, broken: float, usable: bool) -> None:
        """Of another experiment's trial, which comes before all others: the first distribution is that of their best
        tenth (Nomura et al., AAAI 2021)."""
        if usable:
            self._startup.append((x, loss, broken))
        if len(self._startup) >= FEWEST:
            self._begin(None, None)

    def _started(self, x: Floats, loss: float, broken: float, usable: bool) -> None:
        """A startup trial ended: no generation's, but what a warm start knows."""
        if not self._settings.warm:
            return
        self._awaited -= 1
        if usable:
            self._startup.append((x, loss, broken))
        if len(self._startup) >= FEWEST:
            self._begin(None, None)

    def _tell(self) -> None:
        """Once its generation is whole, and a warm start has heard of all its trials."""
        while not self._awaited and len(self._generation) >= self._optimizer.population_size:
            size = self._optimizer.population_size
            generation, self._generation = self._generation[:size], self._generation[size:]
            self._optimizer.tell(_judged(generation))
            _symmetrize(self._optimizer)
            over = self._settings.restarts != "none" and self._optimizer.should_stop()
            if over or not _finite(self._optimizer):
                self._restart()
            else:
                self._remember()

    def _restart(self) -> None:
        rng = np.random.RandomState(self._seed(-1 - self._restarts.count))
        size = self._restarts.next(self._optimizer.population_size, self._optimizer.generation, rng)
        lows, highs = self._cube.bounds.T
        self._begin(lows + rng.rand(len(lows)) * (highs - lows), size)
        self._generation, self._asked_before = [], self._newest

    def _begin(self, mean: Floats | None, size: int | None) -> None:
        """A run of its own. ``mean`` None: the first one."""
        import cmaes  # here: the operator itself does without it

        sigma, cov = self._settings.sigma0 or float(np.min(self._cube.bounds[:, 1] - self._cube.bounds[:, 0]) / 6), None
        if mean is None and len(self._startup) >= FEWEST:
            mean, sigma, cov = cmaes.get_warm_start_mgd(_judged(self._startup))
        elif mean is None:
            mean = self._cube.bounds.mean(axis=1)
        arguments: dict[str, Any] = {
            "mean": mean,
            "sigma": max(sigma, 1e-10),
            "bounds": self._cube.bounds,
            "n_max_resampling": 10 * len(mean),
            "population_size": size or self._settings.popsize,
        }
        if self._settings.separable and len(mean) > 1:
            self._optimizer = cmaes.SepCMA(**arguments)
        elif self._settings.margin:
            self._optimizer = cmaes.CMAwM(**arguments, cov=cov, steps=self._cube.steps)
        else:
            self._optimizer = cmaes.CMA(**arguments, cov=cov, lr_adapt=self._settings.adapt)
        self._before: collections.deque[Optimizer] = collections.deque(maxlen=_REMEMBERED)
        self._remember()

    # ---- asking

    def ask(self, number: int, again: int = 0) -> dict[str, Any]:
        """Values of the numeric parameters."""
        drawn = self._draw(self._optimizer, number, again)
        return self._cube.leave(drawn[0] if isinstance(drawn, tuple) else drawn)

    def _draw(self, optimizer: "Optimizer", number: int, again: int) -> Any:
        optimizer.reseed_rng(self._seed(number, again))
        return optimizer.ask()

    # ---- with a margin: what was drawn before it was moved to the next step

    def _remember(self) -> None:
        if self._settings.margin and self._cube.steps.any():
            self._before.append(_snapshot(self._optimizer))

    def _drawn(self, number: int, row: Floats, point: Floats) -> Floats:
        """The trial's raw draw, which is what CMA-ES with margin learns from. It is not on record, but its seed is: it
        is drawn again from the latest distributions until what comes is the trial. If nothing does (somebody else chose
        it) where it is does as well; after many such only the latest distribution is looked at."""
        looked_at = len(self._before) if self._strangers < _STRANGERS else 1
        for optimizer in list(reversed(self._before))[:looked_at]:
            for again in range(2):
                x, raw = self._draw(optimizer, number, again)
                if self._cube.is_at(x, row):
                    self._strangers = 0
                    return np.where(self._cube.rounded, raw, point)
        self._strangers += bool(self._before)
        return point


def _judged(solutions: Sequence[Solution]) -> list[tuple[Floats, float]]:
    """With one number to be minimised: CMA-ES looks at the order only."""
    points, losses, broken = zip(*solutions, strict=True)
    judged = feasible.fitness(np.array(losses), np.array(broken))
    return list(zip(points, judged.tolist(), strict=True))


def _symmetrize(optimizer: "Optimizer") -> None:
    """To the last bit, as Optuna has it after storing it: its lower half is the upper one's image."""
    plain: Any = getattr(optimizer, "_cma", optimizer)
    if plain._C.ndim == 2:
        plain._C = np.triu(plain._C) + np.triu(plain._C, 1).T


def _snapshot(optimizer: "Optimizer") -> "Optimizer":
    """A CMA-ES with margin as it is now; the generator is shared, and seeded anew for each draw."""
    now: Any = copy.copy(optimizer)
    now._A, now._cma = now._A.copy(), copy.copy(now._cma)
    now._cma._mean = now._cma._mean.copy()
    return cast("Optimizer", now)


def _finite(optimizer: "Optimizer") -> bool:
    """Whether its distribution is one still."""
    plain: Any = getattr(optimizer, "_cma", optimizer)
    return bool(0 < plain._sigma < math.inf and np.isfinite(plain._C).all() and np.isfinite(plain.mean).all())


class _Restarts:
    """How large the next run's generations are. IPOP: Auger and Hansen, CEC 2005. BIPOP: Hansen, GECCO 2009, with the
    budgets of the cmaes library's documentation: the first run counts as a small one."""

    def __init__(self, settings: Settings) -> None:
        self._bipop = settings.restarts == "bipop"
        self._increase = settings.increase
        self.count = 0
        self._large = 0
        self._first = 0
        self._spent = {"large": 0, "small": 0}  # trials told
        self._kind = "small"

    def next(self, size: int, generations: int, rng: np.random.RandomState) -> int:
        """After a run of so many generations of that size."""
        self.count += 1
        self._first = self._first or size
        if not self._bipop:
            return size * self._increase
        self._spent[self._kind] += size * generations
        if self._spent["small"] < self._spent["large"]:
            self._kind = "small"
            return math.floor(self._first * math.pow(self._increase**self._large, rng.uniform() ** 2))
        self._kind, self._large = "large", self._large + 1
        return int(self._first * self._increase**self._large)
