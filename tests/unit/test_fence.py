"""How often the database is asked whether this operator still leads."""

import pytest

from kubetune.controller.fence import Recently
from kubetune.storage.base import Fenced
from tests.unit.clock import Time


def test_a_good_answer_holds_for_its_time_and_no_longer() -> None:
    asked: list[float] = []
    time = Time(100.0)
    confirm = Recently(lambda: asked.append(time()), 1.0, time)
    for now in (100.0, 100.5, 101.0, 101.1, 101.2, 103.0):
        time.now = now
        confirm()
    assert asked == [100.0, 101.1, 103.0]


def test_a_bad_answer_is_asked_for_again() -> None:
    answers = [Fenced("another"), Fenced("another")]

    def ask() -> None:
        raise answers.pop()

    confirm = Recently(ask, 1.0, Time(100.0))
    for _ in range(2):
        with pytest.raises(Fenced):
            confirm()
    assert not answers
