"""Every combination of all values exactly once, in no order, as Optuna's BruteForceSampler tries them.

A grid walks through its cells by their numbers; this takes any cell that was not asked for, so that trials which others
gave the experiment count as tried. Optuna draws from a tree of what is left, which grows with the trials; here, in a
space too large to remember its points, cells come by a permutation, as a shuffled grid's do: of equal chance as well,
and each once.
"""

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine import options
from kubetune.engine.columns import SMALL, Points
from kubetune.engine.history import View
from kubetune.engine.samplers.base import Sampler, seed_of
from kubetune.engine.samplers.grid import permute, whole


class BruteForceSampler(Sampler):
    """``seed``: as `grid` takes it, of the order. Cells of a small space are in the order of `Points.numbers`."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._spec = spec
        self._key = spec.uid if spec.seed is None else f"seed {spec.seed}"
        self._cells = whole(spec, None, "bruteForce")
        self._points = Points(spec.parameters)

    def capacity(self) -> int:
        return self._cells.capacity()

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        count = self._cells.capacity()
        if not 0 <= number < count:
            raise IndexError(f"there are {count} combinations, and so no trial {number}")
        if count > SMALL or not self._points.small:
            return self._cells.at(permute(number, count, self._key))
        cells = self._cells.allowed or range(count)
        left = [index for index, cell in enumerate(cells) if self._points.numbers[cell] not in view.taken]
        return self._cells.at(left[seed_of(self._spec, number) % len(left)])


def build(spec: ExperimentSpec) -> BruteForceSampler:
    options.read("sampler", spec.sampler, {})
    return BruteForceSampler(spec)
