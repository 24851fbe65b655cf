"""Builders for tests of pruners: curves, ended trials, and a study beside Optuna's in which both decide the same."""

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna

from kubetune.api import names
from kubetune.api.spec import Algorithm
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import pruners
from kubetune.engine.curve import Curve
from kubetune.storage.base import Mark
from kubetune.storage.series import Take, piece
from tests.unit.engine_objects import ACCURACY, LOSS, spec

OURS = {True: ACCURACY, False: LOSS}
Series = Mapping[int, float]


def build(name: str, settings: Mapping[str, Any] | None = None, maximize: bool = False) -> pruners.Pruner:
    return pruners.build(spec(objectives=(OURS[maximize],), pruner=Algorithm(name, dict(settings or {}))))


def curve(values: Series, maximize: bool = False, number: int = 0) -> Curve:
    made = Curve(maximize, number)
    for step, value in values.items():
        made.add(step, value)
    return made


class Kept:
    """Ended trials as the storage has them."""

    def __init__(self, pieces: int = 2) -> None:
        self.trials: dict[int, tuple[TrialState, Mark, dict[int, float]]] = {}
        self._pieces = pieces

    def series(self, state: TrialState, take: Take) -> None:
        chosen = {number: series for number, (found, _, series) in self.trials.items() if found is state and series}
        for start in range(self._pieces):
            take(piece({number: sorted(chosen[number].items()) for number in list(chosen)[start :: self._pieces]}))

    def marks(self, state: TrialState) -> list[Mark]:
        return [mark for found, mark, _ in self.trials.values() if found is state]


class World:
    """Trials of one study and their pruner, which may be lost and loaded at any time."""

    def __init__(self, name: str, settings: Mapping[str, Any], maximize: bool = False) -> None:
        self._how = name, settings, maximize
        self.maximize = maximize
        self.kept = Kept()
        self.asks_again = True  # as an engine does
        self.running: dict[int, Curve] = {}
        self.pruner = build(*self._how)
        self.pruner.load(self.kept)

    def begin(self, number: int) -> None:
        self.running[number] = Curve(self.maximize, number)

    def report(self, number: int, step: int, value: float) -> str | None:
        self.running[number].add(step, value)
        return self.pruner.prune(self.running[number])

    def end(self, number: int, state: TrialState = TrialState.COMPLETE, reason: Reason | None = None) -> None:
        """``reason`` None: what goes with the state; PRUNED is by the pruner."""
        made = self.running.pop(number)
        usual = {TrialState.COMPLETE: Reason.COMPLETED, TrialState.PRUNED: Reason.PRUNED}
        value = made.last[1] if made.last and state is TrialState.COMPLETE else None
        mark = Mark(number, reason or usual.get(state, Reason.EXIT_CODE), value, made.rung)
        series = made.series()
        self.kept.trials[number] = (state, mark, series)
        self.pruner.ended(made, state, series, mark)

    def run(self, series: Series) -> str | None:
        """A whole trial of the next number; it ends where it is stopped."""
        number = len(self.kept.trials) + len(self.running)
        self.begin(number)
        for step, value in series.items():
            why = self.report(number, step, value)
            if why is not None:
                self.end(number, TrialState.PRUNED)
                return why
        self.end(number)
        return None

    def lose(self, number: int) -> None:
        """Its attempt is lost: the next one begins."""
        self.pruner.withdraw(self.running[number])
        self.begin(number)

    def restart(self) -> dict[int, str | None]:
        """Another operator takes over, with what is committed. What it would say of what came before."""
        self.pruner = build(*self._how)
        self.pruner.load(self.kept)
        for number, before in self.running.items():
            after = curve(before.series(), self.maximize, number)
            after.rung = before.rung
            self.running[number] = after
            self.pruner.resume(after)
        return {number: self.pruner.prune(each) for number, each in self.running.items()} if self.asks_again else {}


class Duel(World):
    """The same study with Optuna's pruner beside it; every report is decided about by both."""

    def __init__(
        self, name: str, settings: Mapping[str, Any], theirs: optuna.pruners.BasePruner, maximize: bool = False
    ) -> None:
        super().__init__(name, settings, maximize)
        direction: Literal["maximize", "minimize"] = "maximize" if maximize else "minimize"
        self.study = optuna.create_study(direction=direction, pruner=theirs, study_name=_study_name())
        self.asks_again = False
        self._trials: dict[int, optuna.Trial] = {}
        self.decisions: list[bool] = []

    def begin(self, number: int) -> None:
        super().begin(number)
        self._trials[number] = self.study.ask()
        assert self._trials[number].number == number

    def report(self, number: int, step: int, value: float) -> str | None:
        trial = self._trials[number]
        trial.report(value, step)
        why = super().report(number, step, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns where all values are NaN, Optuna of what it does not prune
            theirs = trial.should_prune()
        self.decisions.append(why is not None)
        assert (why is not None) is bool(theirs), (number, step, value, why)
        return why

    def end(self, number: int, state: TrialState = TrialState.COMPLETE, reason: Reason | None = None) -> None:
        made = self.running[number]
        value = made.last[1] if made.last else 0.0
        if state is TrialState.COMPLETE and value != value:
            state = TrialState.FAIL  # as an engine settles it
        super().end(number, state, reason)
        told = value if state is TrialState.COMPLETE else None
        self.study.tell(self._trials[number], told, state=optuna.trial.TrialState[state.name])

    def play(self, seed: int, trials: int, steps: Sequence[int], values: Sequence[float], restarts: float) -> None:
        """``trials`` at random, up to four at a time, each reporting some of ``steps`` in order; restarts between."""
        draw = random.Random(seed)
        left: dict[int, list[int]] = {}
        begun = 0
        while begun < trials or left:
            if begun < trials and len(left) < 4 and draw.random() < 0.5:
                self.begin(begun)
                left[begun] = sorted(draw.sample(list(steps), draw.randint(1, len(steps))))
                begun += 1
            elif left:
                number = draw.choice(list(left))
                why = self.report(number, left[number].pop(0), draw.choice(values))
                if why is not None or not left[number] or draw.random() < 0.02:
                    failed = TrialState.FAIL if left[number] else TrialState.COMPLETE
                    self.end(number, TrialState.PRUNED if why is not None else failed)
                    del left[number]
            if draw.random() < restarts:
                self.restart()


def _study_name() -> str:
    some = spec()
    return names.study_name(some.namespace, some.name, some.uid)
