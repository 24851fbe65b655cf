"""Memory and PostgreSQL told the same, at random: after every step both say the same and hold the same."""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubetune.api.trial import Ending, Finish, NextLeg, Placing, Reason, Report
from kubetune.storage import base, memory, postgres
from tests.conftest import Storage
from tests.integration.experiments import ENDED, SPACE, Experiment, completed, failed, pruned, series_of

STEPS = 120
NUMBERS = range(4)


class Clock:
    """Stands still within a step, so that both storages see the same time however often they look."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclasses.dataclass
class Both:
    """The same experiment in both storages, and random calls on it."""

    experiments: tuple[Experiment, Experiment]
    clock: Clock
    random: random.Random
    keys: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def step(self) -> tuple[str, Any, Any]:
        """One random call on both: its name and what each of them said."""
        self.clock.now += self.random.choice([0.0, 0.25, 1.0])
        (move,) = self.random.choices(list(MOVES), list(MOVES.values()))
        number = self.random.choice(NUMBERS)
        attempts = {row.number: row.attempt for row in self.experiments[0].storage.load_trials(self.experiments[0].uid)}
        attempt = attempts.get(number, 1) + self.random.choice([0] * 8 + [-1, 1])  # mostly the current one
        call = move(self, number, attempt)
        ours, theirs = (said(lambda e=experiment: call(e)) for experiment in self.experiments)  # type: ignore[misc]
        return move.__name__, ours, theirs

    def everything(self, experiment: Experiment) -> object:
        storage, place = experiment.storage, (experiment.namespace, experiment.name)
        held = said(lambda: storage.trials(*place, None, 0, 100))
        reports = [said(lambda n=number: storage.trial_reports(*place, n)) for number in NUMBERS]  # type: ignore[misc]
        tails = [said(lambda n=number: storage.log_tail(*place, n)) for number in NUMBERS]  # type: ignore[misc]
        rows = storage.load_trials(experiment.uid)
        series = series_of(storage, experiment.uid)
        marks = [storage.marks(experiment.uid, state) for state in ENDED]
        live, pieces = storage.load_running(experiment.uid)
        curves = [(number, *map(list, curve)) for piece in pieces for number, *curve in piece.each() if len(curve[0])]
        ended = storage.load_ended(experiment.uid, 0, 3), storage.load_ended(experiment.uid, -1, 100)
        news = storage.news(experiment.uid, {0: 2})
        reported = {number: list(came) for number, came in news.reports.items()}
        lost = storage.count_lost_attempts(experiment.uid), storage.ended_legs(experiment.uid)
        return repr(
            (
                held,
                reports,
                tails,
                rows,
                series,
                marks,
                live,
                sorted(curves),
                ended,
                sorted(reported.items()),
                sorted(news.finishes.items()),
                lost,
            )
        )


def said(call: Callable[[], object]) -> object:
    """What a call returned, or the kind of exception that it raised."""
    try:
        return call()
    except (base.NotCurrent, base.NotRecorded, KeyError, ValueError) as error:
        return type(error)


Call = Callable[[Experiment], object]


def create(both: Both, number: int, attempt: int) -> Call:
    return lambda e: e.storage.create_trials(e.uid, SPACE, [base.NewTrial(number, {"x": 0.125})])


def record(both: Both, number: int, attempt: int) -> Call:
    return lambda e: e.record(number, attempt)


def start(both: Both, number: int, attempt: int) -> Call:
    return lambda e: e.storage.record_start(e.uid, {number: both.clock.now, 99: 0.0})


def report(both: Both, number: int, attempt: int) -> Call:
    keys = [f"k{both.random.choice([next(both.keys), 1, 2])}" for _ in range(3)]
    step = both.random.choice([None, None, 3, 1])
    metrics = {both.random.choice(["loss", "size"]): both.random.choice([0.5, float("inf"), float("nan")])}

    def call(experiment: Experiment) -> object:
        batch = [experiment.incoming_of((number + i) % 4, metrics, step, attempt, key) for i, key in enumerate(keys)]
        return [type(a) if isinstance(a, Exception) else a for a in experiment.storage.accept(batch)]

    return call


def word(both: Both, number: int, attempt: int) -> Call:
    status = both.random.choice(["complete", "failed", "pruned"])
    return lambda e: e.storage.finish(e.who(number, attempt), status, "as the trial says")


def look(both: Both, number: int, attempt: int) -> Call:
    return lambda e: e.storage.look(e.who(number, attempt))


def stop(both: Both, number: int, attempt: int) -> Call:
    reason = both.random.choice([Reason.PRUNED, Reason.STOPPED, Reason.EXPERIMENT_ENDED])
    return lambda e: e.storage.request_stop(e.uid, {number: reason})


def decide(both: Both, number: int, attempt: int) -> Call:
    stop = base.Stop(Reason.PRUNED, both.random.choice(["", "at rung 9: \0 is too bad"]))
    stops = {number: stop} if both.random.random() < 0.3 else {}
    rungs = {(number + 1) % 4: both.random.choice([1, 3, 2**40]), 99: 1}
    return lambda e: e.storage.decide(e.uid, stops, rungs)


def lose(both: Both, number: int, attempt: int) -> Call:
    return lambda e: e.lose(number, attempt)


def claim(both: Both, number: int, attempt: int) -> Call:
    holder, seconds = both.random.choice(["a", "b"]), both.random.choice([0.0, 1e6])
    return lambda e: e.storage.claim_log(e.who(number, attempt), holder, seconds)


def save(both: Both, number: int, attempt: int) -> Call:
    holder, done = both.random.choice(["a", "b"]), both.random.random() < 0.3
    return lambda e: e.storage.save_log(e.who(number, attempt), holder, "2026", done)


def finish(both: Both, number: int, attempt: int) -> Call:
    ending = both.random.choice([completed(1.0), pruned(), failed(), completed(float("nan"))])

    def settle(reports: object, finish: Finish | None) -> Ending:
        assert isinstance(reports, list | tuple)
        assert all(isinstance(report, Report) for report in reports)
        return dataclasses.replace(ending, message=repr((list(reports), finish)))

    rare = both.random.random() < 0.2
    return lambda e: e.storage.finish_trial(e.uid, number, attempt, settle, "the end") if rare else e.row(number)


def end_leg(both: Both, number: int, attempt: int) -> Call:
    paused, resumes = both.random.random() < 0.7, both.random.random() < 0.7
    values = both.random.choice([(1.5,), (math.inf,), (math.nan,)])
    rare = both.random.random() < 0.5

    def settle(reports: object, finish: Finish | None) -> NextLeg:
        placing = Placing(7, 5, (1, math.inf))
        return NextLeg(values, paused, {"epochs": repr(finish)[:20]}, resumes, both.clock.now % 2, placing)

    return lambda e: e.storage.finish_trial(e.uid, number, attempt, settle, None) if rare else e.row(number)


def promote(both: Both, number: int, attempt: int) -> Call:
    offered = both.random.random() < 0.3
    return lambda e: sorted(e.storage.promote(e.uid, {number: attempt, 99: 1}, offered).items())


def delete(both: Both, number: int, attempt: int) -> Call:
    if both.random.random() < 0.97:
        return lambda e: None
    return lambda e: e.storage.delete_study(e.uid)


MOVES = {
    create: 2,
    record: 8,
    start: 1,
    report: 16,
    word: 2,
    look: 1,
    stop: 2,
    decide: 3,
    lose: 2,
    claim: 3,
    save: 3,
    finish: 4,
    delete: 1,
    end_leg: 2,
    promote: 2,
}


@pytest.mark.parametrize("seed", range(8))
def test_both_say_and_hold_the_same(postgres_url: str, seed: int) -> None:
    clock = Clock()
    real = postgres.PostgresStorage(postgres_url, clock=clock)
    storages: tuple[Storage, Storage] = (memory.MemoryStorage(clock), real)
    for storage in storages:
        storage.acquire("test")
    uid, name = f"equivalence-{seed}", f"equivalence-{seed}"
    first, second = (Experiment(storage, uid=uid, name=name) for storage in storages)
    both = Both((first, second), clock, random.Random(seed))
    for experiment in (first, second):
        experiment.create(0, 1, 2, recorded=False)
    for index in range(STEPS):
        move, ours, theirs = both.step()
        assert repr(ours) == repr(theirs), (index, move)
        assert both.everything(first) == both.everything(second), (index, move)
    assert any(row.last_seq for row in first.storage.load_trials(uid))  # it did go somewhere
    real.close()
