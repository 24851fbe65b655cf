"""Sampler processes: the same suggestions as without them; deaths, hangs and slow samplers cost nobody else."""

import dataclasses
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from kubetune.api.searcher import SamplerFailed
from kubetune.api.spec import Algorithm, ExperimentSpec
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.engine import Engine
from kubetune.engine.history import History, Past
from kubetune.engine.sampling import pool as pools
from kubetune.engine.sampling import wire
from kubetune.engine.sampling.pasts import Missing, Pasts
from kubetune.engine.sampling.pool import Pool, Ticket
from kubetune.engine.sampling.wire import Request
from kubetune.storage.memory import MemoryStorage
from tests.unit import sampler_process
from tests.unit.clock import Time
from tests.unit.engine_objects import SPACE, Trials, spec

COMMAND = (sys.executable, "-m", "tests.unit.sampler_process")
TPE = spec(sampler=Algorithm("tpe"), seed=3)
PATIENCE = 100.0  # seconds: a machine may be slow

Make = Callable[..., Pool]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[Pool] = []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))

    def build(size: int = 1, **settings: Any) -> Pool:
        made.append(Pool(size, command=COMMAND, **settings))
        return made[-1]

    yield build
    for each in made:
        each.close()


def odd(uid: str = "uid-1", **settings: Any) -> ExperimentSpec:
    return spec(sampler=Algorithm("odd", settings), uid=uid, name=uid)


def past(made: ExperimentSpec, ended: int, running: int = 0) -> History:
    """Random trials with some loss."""
    history = History(made.objectives, made.parameters)
    grow(history, ended, TrialState.COMPLETE)
    grow(history, running, TrialState.RUNNING)
    return history


def grow(history: History, count: int, state: TrialState) -> None:
    draw = samplers.build(spec(seed=9))
    for number in range(len(history), len(history) + count):
        params = draw.suggest(history, number)
        history.add(Past(number, state, params, (float(number),) if state is TrialState.COMPLETE else None))


def request(made: ExperimentSpec, count: int = 1, seconds: float = 60.0, history: History | None = None) -> Request:
    history = history or past(made, 0)
    sight = samplers.build(made).sight if made.sampler.name != "odd" else sampler_process.Odd.sight
    return Request(made, history.view(*dataclasses.astuple(sight)), len(history), count, seconds)


def ask(pool: Pool, what: Request) -> Ticket:
    return pool.submit(what, lambda: None)


def answered(ticket: Ticket) -> list[dict[str, Any]]:
    answer = ticket.wait(PATIENCE)
    assert answer is not None
    return list(answer)


def test_a_process_suggests_what_the_sampler_does_here_one_after_the_other(make: Make) -> None:
    """Each with those before it running, though the history has not been told of them."""
    history = past(TPE, 30, 4)
    suggested = answered(ask(make(), request(TPE, 5, history=history)))
    here = samplers.build(TPE)
    for number, params in enumerate(suggested, 34):
        assert params == here.suggest(history, number)
        history.add(Past(number, TrialState.RUNNING, params))
    assert len(suggested) == 5


def test_time_that_is_up_cuts_an_answer_short_but_never_to_nothing(make: Make) -> None:
    assert len(answered(ask(make(), request(TPE, 5, seconds=0.0, history=past(TPE, 30))))) == 1


def test_who_asked_is_woken_once_the_answer_is_there(make: Make) -> None:
    woken = threading.Event()
    ticket = make().submit(request(odd()), woken.set)
    assert woken.wait(PATIENCE)
    assert ticket.wait(0.0) is not None


def test_a_process_that_was_killed_is_replaced_and_the_ask_repeated(make: Make, tmp_path: pathlib.Path) -> None:
    restarts: list[None] = []
    pool = make(on_restart=lambda: restarts.append(None))
    first = answered(ask(pool, request(odd())))
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    assert answered(ask(pool, request(odd()))) == first
    (tmp_path / "fatal").touch()
    assert answered(ask(pool, request(odd(fatal=str(tmp_path / "fatal"), once=True)))) == first
    assert len(restarts) == 2
    assert pid not in pool.pids


def test_a_sampler_that_takes_its_process_down_twice_is_told(make: Make, tmp_path: pathlib.Path) -> None:
    (tmp_path / "fatal").touch()
    pool = make()
    ticket = ask(pool, request(odd(fatal=str(tmp_path / "fatal"))))
    with pytest.raises(SamplerFailed, match="ended 2 times without an answer: exit code 7"):
        ticket.wait(PATIENCE)
    assert answered(ask(pool, request(odd("other"))))


def test_a_samplers_error_is_told_with_its_place_and_leaves_the_process_alone(make: Make) -> None:
    pool = make()
    answered(ask(pool, request(odd("other"))))
    before = pool.pids
    ticket = ask(pool, request(odd(fails=True)))
    with pytest.raises(SamplerFailed, match=r"(?s)in choose.*ZeroDivisionError: no way"):
        ticket.wait(PATIENCE)
    answered(ask(pool, request(odd("other"))))
    assert pool.pids == before


def test_a_sampler_that_hangs_is_ended(make: Make, tmp_path: pathlib.Path) -> None:
    restarts: list[None] = []
    pool = make(limit=1.0, slow=0.5, on_restart=lambda: restarts.append(None))
    ticket = ask(pool, request(odd(until=str(tmp_path / "never"))))
    with pytest.raises(SamplerFailed, match="gave no answer in 1 s and was ended"):
        ticket.wait(PATIENCE)
    assert len(restarts) == 1


def test_slow_samplers_wait_for_each_other_and_others_do_not_wait_for_them(make: Make, tmp_path: pathlib.Path) -> None:
    """One process: a slow ask that nobody expected gets another beside it, and that one no slow ask may take."""
    pool, now = make(slow=0.2), tmp_path / "now"
    one, two = odd("one", until=str(now)), odd("two", until=str(now))
    unexpected = ask(pool, request(one))
    for name in ("a", "b", "c"):  # each new: on a busy machine any of them may turn out slow
        assert answered(ask(pool, request(odd(name))))
    also = ask(pool, request(two))  # not known to be slow: takes the second process, and would have both held
    delayed = ask(pool, request(odd("d")))
    assert answered(delayed)  # once `two` turned out slow its process was ended, and it waits
    assert [ticket.wait(0.0) for ticket in (unexpected, also)] == [None, None]
    now.touch()
    for ticket in (unexpected, also):
        assert answered(ticket)
    now.unlink()
    expected = [ask(pool, request(one)), ask(pool, request(two))]
    for name in ("e", "f", "g"):
        assert answered(ask(pool, request(odd(name))))
    assert [ticket.wait(0.0) for ticket in expected] == [None, None]
    now.touch()
    for ticket in expected:
        assert answered(ticket)
    assert len(pool.pids) <= 2


def test_what_a_trial_waits_for_comes_before_a_regret_bound(make: Make, tmp_path: pathlib.Path) -> None:
    pool, now = make(slow=PATIENCE), tmp_path / "now"
    answers: list[str] = []
    first = pool.submit(request(odd("one", until=str(now))), lambda: answers.append("first"))
    none = np.empty((0, len(SPACE)))
    bound = pool.submit(wire.Doubt(spec(), none, none[:, 0], none[:, 0]), lambda: answers.append("bound"))
    asked = pool.submit(request(odd("two")), lambda: answers.append("asked"))
    now.touch()
    assert answered(first)
    assert answered(asked)
    found = bound.answer(PATIENCE)
    assert found is not None
    assert found.bound is not None
    assert found.bound.why.startswith("too few complete trials")
    assert answers[:2] == ["first", "asked"]


def noted(notes: pathlib.Path) -> list[tuple[int, int]]:
    """(process, trials in the past) of each suggestion, in order."""
    pairs = [line.split() for line in notes.read_text(encoding="ascii").splitlines()]
    return [(int(pid), int(past)) for pid, past in pairs]


def test_an_experiment_goes_back_to_the_process_that_answered_it_last(make: Make, tmp_path: pathlib.Path) -> None:
    pool, names = make(size=3, slow=PATIENCE), ("one", "two", "three")
    notes = {name: tmp_path / name for name in names}
    now = tmp_path / "now"
    started = [ask(pool, request(odd(name, notes=str(notes[name]), until=str(now)))) for name in names]
    now.touch()  # only now: each has a process of its own
    for ticket in started:
        assert answered(ticket)
    for _ in range(4):
        for name in reversed(names):
            assert answered(ask(pool, request(odd(name, notes=str(notes[name])))))
    pids = {name: {pid for pid, _ in noted(path)} for name, path in notes.items()}
    assert all(len(each) == 1 for each in pids.values())
    assert len(set.union(*pids.values())) == 3


def test_it_does_not_wait_for_that_process_when_another_is_free(make: Make, tmp_path: pathlib.Path) -> None:
    pool, notes, now = make(size=2, slow=PATIENCE), tmp_path / "notes", tmp_path / "now"
    held = ask(pool, request(odd("one", until=str(now))))
    assert answered(ask(pool, request(odd("two", notes=str(notes)))))
    now.touch()
    assert answered(held)
    now.unlink()
    home = noted(notes)[0][0]
    busy = ask(pool, request(odd("two", until=str(now))))  # as another request of the same experiment would be
    assert answered(ask(pool, request(odd("two", notes=str(notes)))))
    assert noted(notes)[1][0] != home
    now.touch()
    assert answered(busy)


def test_of_a_whole_past_a_process_is_sent_what_is_new(
    make: Make, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And all of it again where it was not, or is no more; the suggestions are those made here throughout."""
    sent: list[tuple[int, int]] = []
    send = wire.send

    def counted(end: Any, message: Request) -> None:
        assert message.view.past is not None
        sent.append((message.view.past.first, len(message.view.past)))
        send(end, message)

    monkeypatch.setattr("kubetune.engine.sampling.child.send", counted)
    pool, made = make(), odd(notes=str(tmp_path / "notes"))
    history, here = past(made, 30), sampler_process.Odd(odd())
    for _ in range(3):
        (params,) = answered(ask(pool, request(made, history=history)))
        assert params == here.suggest(history, len(history))
        grow(history, 5, TrialState.COMPLETE)
        grow(history, 1, TrialState.RUNNING)
    assert sent == [(0, 30), (30, 35), (35, 40)]
    os.kill(pool.pids[0], signal.SIGKILL)
    assert answered(ask(pool, request(made, history=history))) == [here.suggest(history, len(history))]
    assert sent[-1] == (0, 45)
    assert [count for _, count in noted(tmp_path / "notes")] == [30, 35, 40, 45]


def test_a_process_that_has_forgotten_a_past_is_sent_all_of_it() -> None:
    made = odd()
    history, pasts = past(made, 30), Pasts(rows=40)
    whole = request(made, history=history).view
    assert len(pasts.whole("one", whole).past or ()) == 30
    grow(history, 4, TrialState.COMPLETE)
    later = request(made, history=history)
    seen = pasts.whole("one", later.but(30).view).past
    assert seen is not None
    assert later.view.past is not None
    assert seen.values.tolist() == later.view.past.values.tolist()
    assert seen.numbers.tolist() == later.view.past.numbers.tolist()
    pasts.whole("two", request(made, history=past(made, 20)).view)  # too much together: the first one goes
    with pytest.raises(Missing):
        pasts.whole("one", later.but(34).view)
    with pytest.raises(Missing):  # another history of the experiment, as after a clock was set back
        pasts.whole("two", later.but(10).view)
    assert len(pasts.whole("one", later.view).past or ()) == 34


def test_closing_ends_the_processes(make: Make) -> None:
    pool = make()
    answered(ask(pool, request(odd())))
    (pid,) = pool.pids
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# ---- as the engine uses it


class Woken:
    """An engine on a pool, and whether it was woken."""

    def __init__(self, made: ExperimentSpec, pool: Pool | None) -> None:
        self.event = threading.Event()
        clock = Time()
        storage = MemoryStorage(clock)
        storage.acquire("test")
        self.engine = Engine(made, storage, clock, pool, self.event.set)
        self.trials = Trials(made, storage)

    def grown(self, count: int) -> "Woken":
        for number in range(count):
            self.trials.run(self.engine, float(number % 7))
        return self


@pytest.fixture
def odd_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "SAMPLERS", sampler_process.ODD)


@pytest.mark.parametrize("name", ["tpe", "cmaes", "nsgaii"])
def test_an_engine_asks_the_same_with_processes_as_without(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("kubetune.engine.sampling.asking.PATIENCE", PATIENCE)
    made = spec(sampler=Algorithm(name, {"populationSize": 5} if name == "nsgaii" else {}), seed=3)
    apart, here = Woken(made, make()).grown(14), Woken(made, None).grown(14)
    rows = here.engine.ask(3)
    asked = apart.engine.ask(3)
    while len(asked) < 3:  # a request brings what is made in its time
        asked += apart.engine.ask(3 - len(asked))
    assert [row.params for row in asked] == [row.params for row in rows]


def test_an_engine_whose_sampler_is_at_work_gives_nothing_and_is_woken(
    make: Make, odd_ones: None, tmp_path: pathlib.Path
) -> None:
    world = Woken(odd(until=str(tmp_path / "now")), make())
    assert world.engine.ask(4) == []
    assert world.engine.ask(4) == []
    assert not world.event.is_set()
    (tmp_path / "now").touch()
    assert world.event.wait(PATIENCE)
    assert [row.number for row in world.engine.ask(4)][:1] == [0]  # and as many more as were made in its time


def test_no_more_is_taken_than_there_are_slots_for_and_the_rest_is_made_anew(
    make: Make, odd_ones: None, tmp_path: pathlib.Path
) -> None:
    world = Woken(odd(until=str(tmp_path / "now")), make())
    assert world.engine.ask(4) == []
    (tmp_path / "now").touch()
    assert world.event.wait(PATIENCE)
    assert [row.number for row in world.engine.ask(1)] == [0]
    (tmp_path / "now").unlink()
    assert world.engine.ask(3) == []
    assert world.engine.counts.total == 1


def test_suggestions_that_nobody_took_for_long_are_made_anew(
    make: Make, odd_ones: None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Woken(odd(until=str(tmp_path / "now")), make())
    assert world.engine.ask(1) == []
    (tmp_path / "now").touch()
    assert world.event.wait(PATIENCE)
    (tmp_path / "now").unlink()
    monkeypatch.setattr(pools, "STALE", -1.0)
    assert world.engine.ask(1) == []


def test_a_samplers_failure_comes_out_of_the_engine(make: Make, odd_ones: None) -> None:
    world = Woken(odd(fails=True), make())
    with pytest.raises(SamplerFailed, match="no way"):
        next(rows for rows in iter(lambda: world.engine.ask(1), None) if rows)


def test_what_takes_no_time_is_asked_here(make: Make) -> None:
    """Random search, a grid, and TPE as long as it draws at random: no process is started for them."""
    pool = make()
    for name in ("random", "tpe"):
        assert len(Woken(spec(sampler=Algorithm(name)), pool).engine.ask(20)) == 20
    discrete = {name: SPACE[name] for name in ("layers", "optimizer")}
    assert len(Woken(spec(sampler=Algorithm("grid"), parameters=discrete), pool).engine.ask(20)) == 8
    assert pool.pids == []
