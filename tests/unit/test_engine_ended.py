"""The order in which trials ended: kept up as they do, the same when loaded, and never moved."""

import dataclasses

import pytest

from kubetune.api.spec import ParamValue
from kubetune.api.trial import TrialState
from kubetune.engine.ended import Ended, Log
from kubetune.engine.history import History, Past
from tests.unit.engine_objects import LOSS, SPACE

PARAMS: dict[str, ParamValue] = {"lr": 0.01, "momentum": 0.1, "layers": 2, "optimizer": "sgd"}


def running(count: int) -> History:
    history = History([LOSS], SPACE)
    for number in range(count):
        history.add(Past(number, TrialState.RUNNING, PARAMS))
    return history


def end(history: History, number: int, ended: float, state: TrialState = TrialState.COMPLETE) -> None:
    values = (float(number),) if state is TrialState.COMPLETE else None
    history.replace(Past(number, state, PARAMS, values, (3, number + 0.5), ended))


def seen(history: History) -> Ended:
    past = history.view(0, 0, 0, whole=True).past
    assert past is not None
    return past


def test_trials_are_seen_in_the_order_in_which_they_ended_and_of_one_moment_by_number() -> None:
    history = running(8)
    end(history, 5, 10.0)
    end(history, 2, 11.0, TrialState.FAIL)
    assert seen(history).numbers.tolist() == [5, 2]
    end(history, 7, 12.0, TrialState.PRUNED)
    end(history, 1, 12.0)
    past = seen(history)
    assert past.numbers.tolist() == [5, 2, 1, 7]
    assert past.lasts.tolist() == [5.5, 2.5, 1.5, 7.5]
    assert past.values[:, 0].tolist()[::2] == [5.0, 1.0]
    assert past.values[:, 0].tolist()[1] != past.values[:, 0].tolist()[1]


def test_what_was_seen_stays_while_more_end_and_is_the_beginning_of_what_is_seen_then() -> None:
    history = running(300)
    before = []
    for number in range(300):
        end(history, 299 - number, 10.0 + number // 3)
        if number % 3 == 2:
            before.append((seen(history), seen(history).numbers.tolist()))
    for past, numbers in before:
        assert past.key == seen(history).key
        assert past.numbers.tolist() == numbers
        assert seen(history).numbers.tolist()[: len(past)] == numbers


def test_the_same_order_is_seen_by_who_loads_the_trials() -> None:
    history, loaded = running(20), History([LOSS], SPACE)
    for number in range(0, 20, 2):
        end(history, number, 50.0 - number % 7)
        seen(history)
    loaded.load(
        Past(t.number, t.state, t.params, t.values, t.last, 50.0 - t.number % 7 if t.number % 2 == 0 else 0.0)
        for t in history
    )
    assert seen(loaded).numbers.tolist() == seen(history).numbers.tolist()
    assert seen(loaded).key != seen(history).key


def test_an_end_before_those_known_begins_another_log() -> None:
    """A new leader's clock may be behind."""
    history = running(4)
    end(history, 0, 10.0)
    first = seen(history)
    end(history, 1, 9.0)
    assert seen(history).numbers.tolist() == [1, 0]
    assert seen(history).key != first.key
    assert first.numbers.tolist() == [0]


def test_a_log_takes_in_what_it_does_not_have_and_refuses_a_gap() -> None:
    history = running(40)
    for number in range(30):
        end(history, number, float(number))
    past = seen(history)
    log = Log(past.rows(0, 10), past.key)
    log.extend(past.rows(4, 25))
    log.extend(past.rows(0, 3))
    assert log.upto(len(log)).numbers.tolist() == list(range(25))
    with pytest.raises(ValueError, match="trials 25 to 25 in the order of ending are missing"):
        log.extend(past.rows(26, 30))
    with pytest.raises(ValueError, match="first 2 trials are missing"):
        Log(past.rows(2, 4))
    assert dataclasses.astuple(past.rows(7, 9))[:2] == (past.key, 7)
