"""Turns for writes that can wait."""

from kubetune.controller.pace import Pace


def test_one_that_comes_now_and_then_never_waits() -> None:
    pace = Pace(0.25)
    assert [pace.turn(at) for at in (10.0, 11.0, 12.0)] == [10.0, 11.0, 12.0]


def test_many_at_once_get_turns_one_after_the_other() -> None:
    pace = Pace(0.25)
    assert [pace.turn(10.0) for _ in range(5)] == [10.0, 10.25, 10.5, 10.75, 11.0]
    assert pace.turn(10.3) == 11.25
    assert pace.turn(20.0) == 20.0


def test_a_server_that_is_slow_to_answer_is_sent_fewer() -> None:
    pace = Pace(0.25)
    for took, gap in ((0.01, 0.25), (0.5, 2.0), (60.0, 10.0), (0.02, 0.25)):
        pace.took(took)
        first = pace.turn(0.0)
        assert pace.turn(0.0) == first + gap
