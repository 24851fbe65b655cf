"""What the benchmark of workers makes of the ends that it saw."""

import math
import random

import pytest

from dev.bench.workers import pace


def ends(slots: int, each: float, count: int, late: float = 0.0) -> list[float]:
    """Slots that end a trial every ``each`` seconds, having begun at random within ``late`` seconds."""
    chance = random.Random(1)
    return sorted(
        begin + each * turn for begin in (chance.random() * late for _ in range(slots)) for turn in range(count)
    )


@pytest.mark.parametrize("late", [0.0, 0.9, 4.0])
def test_the_pace_is_a_slots_whatever_their_phases(late: float) -> None:
    assert pace(ends(8, 1.1, 40, late), 8) == pytest.approx(1.1, rel=0.02)


def test_slots_that_wait_for_each_other_are_slower() -> None:
    even = [float(wave) for wave in range(1, 41) for _ in range(8)]
    waiting = [wave * 1.25 for wave in range(1, 41) for _ in range(8)]
    assert pace(waiting, 8) == pytest.approx(1.25 * pace(even, 8))


def test_a_pause_in_the_middle_counts() -> None:
    steady = ends(4, 1.0, 40)
    assert pace([end + (10 if end > 20 else 0) for end in steady], 4) > 1.2


def test_of_too_few_ends_there_is_no_pace() -> None:
    assert math.isnan(pace([], 8))
    assert math.isnan(pace(ends(8, 1.0, 2), 8))
