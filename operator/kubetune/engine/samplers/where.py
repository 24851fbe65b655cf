"""Conditions among parameters (`where`): a draw for which they do not hold is drawn again.

First by the sampler itself where another draw of it is another point, then at random: random search is so uniform over
what is allowed. What the sampler learns from is allowed, so it soon proposes little else.
"""

from kubetune.api.spec import ExperimentSpec, InvalidSpec, ParamValue
from kubetune.api.trial import Segment
from kubetune.engine.columns import Columns, Points
from kubetune.engine.history import History, View
from kubetune.engine.samplers.base import Sampler
from kubetune.engine.samplers.narrowed import within
from kubetune.engine.samplers.random import RandomSampler

AGAIN = frozenset({"tpe", "random", "cmaes", "nsgaii", "nsgaiii", "regularizedEvolution"})  # by number, another draw
TRIES = 4
DRAWS = 2000  # at random
_NUMBERS = 10_000_000  # from here on no trial has a number
_SEEDS = 3_000_000


class WhereSampler(Sampler):
    """``inner``, as far as `where` holds of what it chooses. In a small space points that are not taken come first,
    as far as draws find one."""

    def __init__(self, spec: ExperimentSpec, inner: Sampler) -> None:
        self._space = spec.space
        self._inner = inner
        self._random = RandomSampler(spec)
        self._columns, self._points = Columns(spec.parameters), Points(spec.parameters)
        self._tries = TRIES if spec.sampler.name in AGAIN else 1
        self.sight, self.leads = inner.sight, inner.leads

    def immediate(self, history: History) -> bool:
        return self._inner.immediate(history)

    def segment(self, view: View, number: int) -> Segment | None:
        return self._inner.segment(view, number)

    def room(self, history: History) -> int | None:
        return self._inner.room(history)

    def needed(self, history: History) -> frozenset[int]:
        return self._inner.needed(history)

    def over(self, history: History) -> bool:
        return self._inner.over(history)

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        for again in range(self._tries):
            drawn = self._inner.choose(view, number + again * _NUMBERS)
            if self._space.holds(drawn):
                return drawn
        taken = None
        for again in range(DRAWS):
            drawn = self._random.draw(number, _SEEDS + again)
            if self._space.holds(drawn):
                if self._points.at(self._columns.row(drawn)) not in view.taken:
                    return drawn
                taken = taken or drawn
        if taken is None:
            raise RuntimeError(f"where: of {DRAWS} draws none fulfils {self._space.words}; widen the ranges")
        return taken


def check(spec: ExperimentSpec) -> None:
    """Raises InvalidSpec: nothing that `where` allows is found."""
    if spec.where and spec.sampler.name == "gradient":
        raise InvalidSpec("where", "gradient follows slopes and knows no such conditions; drop them, or take gp or tpe")
    sampler = RandomSampler(within(spec))
    if spec.where and not any(spec.space.holds(sampler.draw(0, _SEEDS + again)) for again in range(DRAWS)):
        raise InvalidSpec(
            "where",
            f"of {DRAWS} random sets of parameters none fulfils {spec.space.words}; correct it, or widen the ranges",
        )
