"""What a sampler is: parameters for the next trial, as a function of the seed, its number and the committed history."""

import abc
import dataclasses
import hashlib
from collections.abc import Callable, Iterable

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.api.trial import Segment
from kubetune.engine.columns import Columns, Points
from kubetune.engine.history import History, View


@dataclasses.dataclass(frozen=True)
class Sight:
    """How much of the past a sampler is shown (`History.view`)."""

    best: int = 0
    latest: int = 0
    running: int = 0
    whole: bool = False  # and all that ended, in the order in which they did
    slopes: bool = False  # with the gradients that they reported


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """What the next trial is to be. ``segment`` None: a training of its own."""

    params: dict[str, ParamValue]
    segment: Segment | None = None


class Sampler(abc.ABC):
    """Keeps no memory that a restart would have to bring back."""

    sight = Sight()
    leads = False  # `segment` says something

    @abc.abstractmethod
    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        """Parameters of trial ``number``, given what `sight` shows of all trials before it (ended and RUNNING). The
        same for the same arguments, on any machine, before and after a restart."""

    def segment(self, view: View, number: int) -> Segment | None:
        """Of which longer training trial ``number`` is a part; None: of none. As `choose`, and only of samplers that
        are always `immediate`."""
        return None

    def needed(self, history: History) -> frozenset[int]:
        """Ended trials whose checkpoints a later trial may go on from."""
        return frozenset()

    def immediate(self, history: History) -> bool:
        """Whether the next trial takes well under a millisecond: then it is asked for where the engine is."""
        return True

    def capacity(self) -> int | None:
        """How many trials there are in all; None: no end."""
        return None

    def room(self, history: History) -> int | None:
        """How many more trials there may be beside those that run now; None: any number."""
        return None

    def over(self, history: History) -> bool:
        """Whether there is nothing left to ask for."""
        capacity = self.capacity()
        return capacity is not None and len(history) >= capacity

    def suggest(self, history: History, number: int) -> dict[str, ParamValue]:
        """`choose` by the whole history."""
        return self.choose(history.view(*dataclasses.astuple(self.sight)), number)

    def propose(self, history: History, number: int) -> Suggestion:
        """`choose` and `segment` by the whole history."""
        params = self.suggest(history, number)
        if not self.leads:
            return Suggestion(params)
        return Suggestion(params, self.segment(history.view(*dataclasses.astuple(self.sight)), number))


def seed_of(spec: ExperimentSpec, number: int, again: int = 0) -> int:
    """A seed in [0, 2**32) for one trial, and one for each time that it is drawn ``again``: from the experiment's seed
    or, if it has none, its UID."""
    origin = spec.uid if spec.seed is None else f"seed {spec.seed}"
    drawn = f"{origin} {number} again {again}" if again else f"{origin} {number}"
    return int.from_bytes(hashlib.sha256(drawn.encode()).digest()[:4], "big")


class Distinct:
    """Keeps a finite space's points from being asked for twice: see `first`."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self._spec = spec
        self._columns = Columns(spec.parameters)
        self.points = Points(spec.parameters)

    def first(
        self, view: View, number: int, draws: Iterable[Callable[[], dict[str, ParamValue]]]
    ) -> dict[str, ParamValue]:
        """The first draw whose point is not taken; in a small space, if there is none, any point that is not; else the
        last draw. A space with a continuous parameter takes the first draw."""
        drawn: dict[str, ParamValue] = {}
        for draw in draws:
            drawn = draw()
            if not view.taken or self.points.size is None or self.point(drawn) not in view.taken:
                return drawn
        if self.points.small:
            row = self.points.free(view.taken, seed_of(self._spec, number, again=1))
            return drawn if row is None else self._columns.decode(row.tolist())
        return drawn

    def point(self, params: dict[str, ParamValue]) -> int:
        """Where in the space the parameters are."""
        return int(self.points.of(self._columns.row(params))[0])
