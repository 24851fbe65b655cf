"""The highest place of a surface over the cube, such as what improvement is to be expected where."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kubetune.engine.columns import Floats
from kubetune.engine.samplers.unit import Unit

if TYPE_CHECKING:
    from kubetune.engine.samplers.gp_model import Surface

DRAWN, AROUND = 1000, 300  # points that are looked at first: anywhere, and around the best
CLIMBED = 4  # of those, from so many the best point near is searched
ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Search:
    """``allowed``: which of points that a trial can have may be the answer."""

    unit: Unit
    surface: "Surface"
    allowed: Callable[[Floats], npt.NDArray[np.bool_]]
    dice: np.random.Generator

    def highest(self, around: Floats) -> Floats:
        """The highest point that was found, ``around`` these with more care; one that is allowed if any was seen."""
        seen = self._drawn(around)
        tops = seen[np.argsort(-self.heights(seen), kind="stable")[:CLIMBED]]
        climbed = np.vstack([self._climb(top) for top in tops])
        return np.asarray(climbed[np.argmax(self.heights(climbed))])

    def heights(self, points: Floats) -> Floats:
        return np.asarray(np.where(self.allowed(points), self.surface.at(points), -np.inf))

    def _drawn(self, best: Floats) -> Floats:
        anywhere = self.dice.random((DRAWN, self.unit.width))
        centres = best[self.dice.integers(0, len(best), AROUND)]
        widths = 10 ** self.dice.uniform(-3, -0.5, (AROUND, 1))
        around = np.clip(centres + widths * self.dice.standard_normal(centres.shape), 0.0, 1.0)
        return self.unit.nearest(np.vstack([anywhere, around]))

    def _climb(self, begin: Floats) -> Floats:
        """In turns along the slope where there is one, and through the values of each other parameter."""
        from kubetune.engine.samplers import gp_model

        point = begin
        for _ in range(ROUNDS):
            before = point
            if len(self.unit.continuous):
                climbed = gp_model.climb(self.surface, point, self.unit.continuous)
                point = self.unit.nearest(climbed[None])[0]
            for start, _ in self.unit.discrete:
                tried = np.vstack([point, self.unit.nearest(self.unit.replaced(point, start, self.dice))])
                point = tried[np.argmax(self.heights(tried))]
            if np.array_equal(point, before) or not self.unit.discrete:
                break
        return point
