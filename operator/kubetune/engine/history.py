"""The committed trials as a sampler sees them: compact, ordered, and indexed for a bounded view.

Sampling is a function of (seed, number, this), so whatever a sampler reads is here, and what is here is what the
database has: after a restart the same history is built from the same rows.

Trials lie in columns, and an object is made of one when it is asked for: 100,000 trials of six parameters take 11 MB
(tracemalloc), a tenth of what they take as objects. A view is a slice: its cost does not grow with the trials.
"""

import array
import bisect
import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kubetune.api.spec import Objective, Parameter, ParamValue
from kubetune.api.trial import TrialState, penalty
from kubetune.engine.columns import Columns, Floats, Points
from kubetune.engine.ended import Ended, Log
from kubetune.engine.front import Front

STATES = tuple(TrialState)
RUNNING, COMPLETE, PRUNED = (
    STATES.index(state) for state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
)
_CODES = {state: code for code, state in enumerate(STATES)}
_AT_ONCE = 4096  # trials taken in together
_NO_STEP = np.iinfo(np.int64).min
_NO_MEMBER = -1


@dataclasses.dataclass(frozen=True, slots=True)
class Past:
    """One trial, RUNNING or ended. ``last``: step and value of the first objective's last report; ``ended``: when, in
    seconds since the epoch, as it is recorded."""

    number: int
    state: TrialState
    params: Mapping[str, ParamValue]
    values: tuple[float, ...] | None = None
    last: tuple[int, float] | None = None
    ended: float = 0.0
    constraints: Mapping[str, float] | None = None
    gradient: Mapping[str, float] | None = None
    member: int | None = None  # of which member of a population it is a segment


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What a sampler is shown: some trials in order of number, one row of each array for each; arrays only, so that it
    travels to another process at the cost of copying it."""

    numbers: npt.NDArray[np.int64]
    states: npt.NDArray[np.uint8]  # places in `STATES`
    params: Floats  # as `Columns` has them
    values: Floats  # nan: none
    steps: npt.NDArray[np.int64]  # of the last report
    lasts: Floats
    taken: frozenset[int] = frozenset()  # of a finite space: points not to be asked for again
    past: Ended | None = None  # all that ended, for samplers that learn from their whole past
    penalties: Floats | None = None  # by how much constraints are broken, 0: feasible. None: there are no constraints
    busy: frozenset[int] = frozenset()  # members of a population, a segment of which is RUNNING

    def last(self, row: int) -> tuple[int, float] | None:
        """Step and value of the trial's last report."""
        step = int(self.steps[row])
        return None if step == _NO_STEP else (step, float(self.lasts[row]))

    def after(self, older: "View") -> "View":
        """This view's trials after those of another."""
        penalties = None
        if self.penalties is not None and older.penalties is not None:
            penalties = np.append(older.penalties, self.penalties)
        return View(
            np.append(older.numbers, self.numbers),
            np.append(older.states, self.states),
            np.vstack([older.params, self.params]),
            np.vstack([older.values, self.values]),
            np.append(older.steps, self.steps),
            np.append(older.lasts, self.lasts),
            self.taken,
            self.past,
            penalties,
            self.busy,
        )

    def asked(self, number: int, params: Floats, point: int | None, limit: int) -> "View":
        """The view once trial ``number`` was asked for and runs: shown are the latest ``limit`` that run. As the
        history will give it, made where only the view is known."""
        taken = self.taken if point is None else self.taken | {point}
        if limit == 0:
            return dataclasses.replace(self, taken=taken)
        running = np.flatnonzero(self.states == RUNNING)
        rows = np.delete(np.arange(len(self.numbers)), running[: max(0, len(running) - limit + 1)])
        return View(
            np.append(self.numbers[rows], number),
            np.append(self.states[rows], np.uint8(RUNNING)),
            np.vstack([self.params[rows], params]),
            np.vstack([self.values[rows], np.full(self.values.shape[1], np.nan)]),
            np.append(self.steps[rows], _NO_STEP),
            np.append(self.lasts[rows], np.nan),
            taken,
            self.past,
            None if self.penalties is None else np.append(self.penalties[rows], 0.0),
            self.busy,
        )


class History:
    """All trials of a study by number; each is added RUNNING or ended, and ends once."""

    def __init__(
        self, objectives: Sequence[Objective], parameters: Mapping[str, Parameter], constraints: Sequence[str] = ()
    ) -> None:
        self._columns = Columns(parameters)
        self._points = Points(parameters)
        self._count = 0
        self._states = np.empty(0, dtype=np.uint8)
        self._params = np.empty((0, len(self._columns.names)))
        self._values = np.empty((0, len(objectives)))
        self._steps = np.empty(0, dtype=np.int64)
        self._lasts = np.empty(0)
        self._ended = np.empty(0)
        self._members = np.empty(0, dtype=np.int64)
        self._constraints = tuple(constraints)
        self._excess = np.empty((0, len(constraints)))
        self._running: dict[int, int | None] = {}  # numbers in order → the point, in a finite space
        self._learned = array.array("q")  # numbers of COMPLETE and PRUNED trials, ascending
        self._taught = array.array("q")  # of RUNNING ones with legs that ended, ascending
        self._ranking = array.array("q")  # one objective: COMPLETE trials, best first, earliest of equals
        self._busy: collections.Counter[int] = collections.Counter()  # points that trials are RUNNING at
        self._asked: set[int] = set()  # points of a small space that were ever asked for
        self._gradients: dict[int, Mapping[str, float]] = {}  # of the few trials that report one
        self._log: Log | None = None  # once a sampler looks at it
        self._log_slopes = False
        self._unlogged: list[int] = []  # numbers of trials that ended since
        self._newest = (-math.inf, 0)  # when the last one in the log ended, and its number
        self._older: View | None = None
        self.front = Front([objective.direction == "maximize" for objective in objectives])

    def begin_with(self, older: View) -> None:
        """Trials of others, shown in every view before the study's own; they are none of its trials."""
        self._older = older

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Past:
        if not 0 <= number < self._count:
            raise IndexError(f"there is no trial {number}")
        step = int(self._steps[number])
        values = self._values[number].tolist()
        return Past(
            number,
            STATES[self._states[number]],
            self._columns.decode(self._params[number].tolist()),
            None if values[0] != values[0] else tuple(values),
            None if step == _NO_STEP else (step, float(self._lasts[number])),
            constraints=self._known(number),
            member=None if self._members[number] == _NO_MEMBER else int(self._members[number]),
        )

    def _row(self, constraints: Mapping[str, float] | None) -> list[float]:
        return [math.nan if constraints is None else constraints.get(name, math.nan) for name in self._constraints]

    def _known(self, number: int) -> dict[str, float] | None:
        excess = dict(zip(self._constraints, self._excess[number].tolist(), strict=True))
        return None if not excess or any(map(math.isnan, excess.values())) else excess

    def _penalties(self, rows: npt.NDArray[np.int64], unknown: float = 0.0) -> Floats:
        """As `api.trial.penalty`."""
        total = np.zeros(len(rows))
        for excess in self._excess[rows].T:  # one after the other, to the last bit as `penalty` adds them
            total += np.where(excess > 0, excess, 0.0)
        known = ~np.isnan(self._excess[rows]).any(axis=1) if self._constraints else False
        return np.where(known, total, unknown)

    def __iter__(self) -> Iterator[Past]:
        return (self[number] for number in range(self._count))

    def add(self, trial: Past) -> None:
        """The next trial by number."""
        if trial.number != self._count:
            raise ValueError(f"trial {trial.number} given, trial {self._count} is next: rows are missing")
        if self._count == len(self._states):
            self._grow()
        self._count += 1
        self._params[trial.number] = self._columns.encode(trial.params)
        self._members[trial.number] = _NO_MEMBER if trial.member is None else trial.member
        self._write(trial)
        self._ask(trial)
        if trial.state is not TrialState.RUNNING:
            self._index(trial)

    def load(self, trials: Iterable[Past]) -> None:
        """All trials there are, by number, into an empty history: as `add` does it for each, but sorted once."""
        left = iter(trials)
        while batch := list(itertools.islice(left, _AT_ONCE)):
            self._extend(batch)
        ended = self._states[: self._count]
        learned = np.flatnonzero((ended == COMPLETE) | (ended == PRUNED))
        self._learned = array.array("q", learned.astype(np.int64).tobytes())
        taught = np.flatnonzero((ended == RUNNING) & ~np.isnan(self._values[: self._count, 0]))
        self._taught = array.array("q", taught.astype(np.int64).tobytes())
        complete = np.flatnonzero((ended == COMPLETE) & ~np.isnan(self._values[: self._count, 0]))
        if self._values.shape[1] == 1:
            losses = self._values[complete, 0] * self.front.signs[0]
            complete = complete[np.lexsort((complete, losses, self._penalties(complete)))].astype(np.int64)
            self._ranking = array.array("q", complete.tobytes())
            complete = complete[:1]  # the front
        for number in complete.tolist():
            self.front.add(number, self._values[number].tolist(), penalty(self._known(number)))

    def _extend(self, trials: Sequence[Past]) -> None:
        first, end = self._count, self._count + len(trials)
        for number, trial in enumerate(trials, start=first):
            if trial.number != number:
                raise ValueError(f"trial {trial.number} given, trial {number} is next: rows are missing")
        if end > len(self._states):
            self._grow(len(trials))
        self._count = end
        none = (math.nan,) * self._values.shape[1]
        self._states[first:end] = [_CODES[trial.state] for trial in trials]
        self._params[first:end] = [self._columns.encode(trial.params) for trial in trials]
        self._values[first:end] = [none if trial.values is None else trial.values for trial in trials]
        self._steps[first:end] = [_NO_STEP if trial.last is None else trial.last[0] for trial in trials]
        self._lasts[first:end] = [math.nan if trial.last is None else trial.last[1] for trial in trials]
        self._ended[first:end] = [trial.ended for trial in trials]
        self._excess[first:end] = [self._row(trial.constraints) for trial in trials]
        self._members[first:end] = [_NO_MEMBER if trial.member is None else trial.member for trial in trials]
        for trial in trials:
            if trial.gradient is not None:
                self._gradients[trial.number] = trial.gradient
            if self._points.small or trial.state is TrialState.RUNNING:
                self._ask(trial)

    def _ask(self, trial: Past) -> None:
        """Its point is not to be asked for again; it may run."""
        point = self._point(trial.number)
        if point is not None and self._points.small:
            self._asked.add(point)
        if trial.state is TrialState.RUNNING:
            self._running[trial.number] = point
            if point is not None:
                self._busy[point] += 1

    def replace(self, trial: Past) -> None:
        """What is now known of a RUNNING trial, its parameters and member as they were; ended, it stays as it is."""
        point = self._running[trial.number]
        taught = not math.isnan(self._values[trial.number, 0])
        self._write(trial)
        if taught and trial.state is not TrialState.RUNNING:
            del self._taught[bisect.bisect_left(self._taught, trial.number)]
        elif not taught and trial.state is TrialState.RUNNING and trial.values is not None:
            bisect.insort(self._taught, trial.number)
        if trial.state is not TrialState.RUNNING:
            del self._running[trial.number]
            self._leave(point)
            self._index(trial)

    def _leave(self, point: int | None) -> None:
        if point is not None:
            self._busy[point] -= 1
            if not self._busy[point]:
                del self._busy[point]

    def _write(self, trial: Past) -> None:
        number = trial.number
        self._states[number] = _CODES[trial.state]
        self._values[number] = np.nan if trial.values is None else trial.values
        self._steps[number], self._lasts[number] = (_NO_STEP, np.nan) if trial.last is None else trial.last
        self._ended[number] = trial.ended
        self._excess[number] = self._row(trial.constraints)
        if trial.gradient is not None:
            self._gradients[number] = trial.gradient

    def _grow(self, least: int = 64) -> None:
        """Room for half as many more."""
        more = max(least, self._count // 2)
        for name in ("_states", "_params", "_values", "_steps", "_lasts", "_ended", "_excess", "_members"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.empty((more, *column.shape[1:]), column.dtype)]))

    def _point(self, number: int) -> int | None:
        return self._points.at(self._params[number : number + 1])

    def _index(self, trial: Past) -> None:
        if self._log is not None:
            self._unlogged.append(trial.number)
        if trial.state is TrialState.FAIL:
            return
        bisect.insort(self._learned, trial.number)
        if trial.state is TrialState.COMPLETE and trial.values is not None:
            self.front.add(trial.number, trial.values, penalty(trial.constraints))
            if len(trial.values) == 1:
                bisect.insort(self._ranking, trial.number, key=self._rank)

    def _rank(self, number: int) -> tuple[float, float, int]:
        broken = penalty(self._known(number)) if self._constraints else 0.0
        return broken, self.front.losses(self._values[number].tolist())[0], number

    @property
    def learned(self) -> int:
        """How many trials taught something: COMPLETE and PRUNED ones."""
        return len(self._learned) + len(self._taught) + (0 if self._older is None else len(self._older.numbers))

    def best(self, count: int) -> list[int]:
        """Numbers of the ``count`` best COMPLETE trials; of several objectives, of the Pareto front, earliest first."""
        if self._ranking:
            return self._ranking[:count].tolist()
        return self.front.numbers[:count]

    def ranked(self, most: int) -> tuple[Floats, Floats, Floats]:
        """Parameters, values and penalties of COMPLETE trials, a row each, the best first; of more than ``most`` trials
        the best half of so many, and others evenly spread over the rest of the ranks. One objective only."""
        places = np.arange(len(self._ranking))
        if len(places) > most:
            top = most // 2
            others = np.linspace(top, len(places) - 1, most - top).astype(np.int64)
            places = np.append(places[:top], others)
        rows = np.array(self._ranking, dtype=np.int64)[places]
        return self._params[rows], self._values[rows], self._penalties(rows)

    def top(self, count: int) -> list[int]:
        """As `best`, each set of parameters once."""
        found: dict[str, int] = {}
        for number in self.best(self._count):
            found.setdefault(repr(sorted(self[number].params.items())), number)
            if len(found) == count:
                break
        return list(found.values())

    def complete(self, most: int) -> tuple[Floats, Floats]:
        """Parameters and values of COMPLETE trials, a row each, in order of number; of more than ``most`` trials so
        many, evenly spread."""
        rows = np.flatnonzero(self._states[: self._count] == COMPLETE)
        rows = rows[~np.isnan(self._values[rows, 0])]
        if len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
        return self._params[rows], self._values[rows]

    def view(self, best: int, latest: int, running: int, whole: bool = False, slopes: bool = False) -> View:
        """A bounded part: the best, the latest that taught something, the latest running. ``whole``: and besides all
        that ended, in the order in which they did, those of others first; with the gradients that they reported."""
        of_running = itertools.islice(reversed(self._running), running)
        learned = self._learned[max(0, len(self._learned) - latest) :]
        if self._taught:
            taught = self._taught[max(0, len(self._taught) - latest) :]
            learned = array.array("q", sorted([*learned, *taught])[-latest:] if latest else ())
        rows = np.unique(np.array([*self.best(best), *learned, *of_running], dtype=np.int64))
        own = View(
            rows,
            self._shown(rows),
            self._params[rows],
            self._values[rows],
            self._steps[rows],
            self._lasts[rows],
            self.taken(),
            self._whole(slopes) if whole else None,
            self._penalties(rows) if self._constraints else None,
            self.busy_members() if whole else frozenset(),
        )
        return own if self._older is None or whole else own.after(self._older)

    def _shown(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """States as samplers see them: a trial with legs that ended has taught as much as one that was pruned there."""
        states = self._states[rows]
        if self._taught:
            taught = (states == RUNNING) & ~np.isnan(self._values[rows, 0])
            states = np.where(taught, np.uint8(PRUNED), states)
        return states

    def _whole(self, slopes: bool) -> Ended:
        """What ended since is added; an end before the last one known (a clock was set back) begins another log."""
        if slopes != self._log_slopes:
            self._log, self._log_slopes = None, slopes
        new = np.array(sorted(self._unlogged, key=self._moment), dtype=np.int64)
        self._unlogged = []
        if self._log is not None and len(new) and self._moment(int(new[0])) > self._newest:
            self._log.extend(self._logged(new, len(self._log)))
        elif self._log is None or len(new):
            ended = np.flatnonzero(self._states[: self._count] != RUNNING)
            new = ended[np.lexsort((ended, self._ended[ended]))]
            self._log = Log(self._others(slopes))
            self._log.extend(self._logged(new, len(self._log)))
        if len(new):
            self._newest = self._moment(int(new[-1]))
        return self._log.upto(len(self._log))

    def _moment(self, number: int) -> tuple[float, int]:
        return float(self._ended[number]), number

    def _logged(self, rows: npt.NDArray[np.int64], first: int) -> Ended:
        return Ended(
            0,
            first,
            rows,
            self._states[rows],
            self._params[rows],
            self._values[rows],
            self._lasts[rows],
            self._penalties(rows, unknown=np.nan),
            self._slopes(rows) if self._log_slopes else np.empty((len(rows), 0)),
            self._members[rows],
        )

    def _slopes(self, rows: npt.NDArray[np.int64]) -> Floats:
        none: Mapping[str, float] = {}
        reported = [self._gradients.get(number, none) for number in rows.tolist()]
        names = self._columns.names
        slopes = [[each.get(name, math.nan) for name in names] for each in reported]
        return np.array(slopes, dtype=np.float64).reshape(len(rows), len(names))

    def _others(self, slopes: bool) -> Ended:
        """Trials of others: older than all of the study's own."""
        older = self._older
        if older is None:
            return self._logged(np.empty(0, dtype=np.int64), 0)
        count = len(older.numbers)
        penalties = np.full(count, np.nan) if older.penalties is None else older.penalties
        width = len(self._columns.names) if slopes else 0
        none = np.full((count, width), np.nan)
        nobody = np.full(count, _NO_MEMBER)
        return Ended(
            0,
            0,
            older.numbers,
            older.states,
            older.params,
            older.values,
            older.lasts,
            penalties,
            none,
            nobody,
        )

    def busy_members(self) -> frozenset[int]:
        """Members of a population, a segment of which is RUNNING."""
        members = self._members[list(self._running)]
        return frozenset(members[members != _NO_MEMBER].tolist())

    def taken(self) -> frozenset[int]:
        """Points not to be asked for again: those that run; in a small space all that ever ran, until none is left."""
        if self._points.small and len(self._asked) < (self._points.size or 0):
            return frozenset(self._asked)
        return frozenset(self._busy)
