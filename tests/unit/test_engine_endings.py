"""How long nothing got better: by a plain count over the sorted ends, at any moment, in any order of arrival."""

import math
import random

import pytest

from kubetune.engine.endings import Endings

NAN = math.nan


def longest(values: list[float], delta: float = 0.0) -> int:
    """To maximize, ended one after the other; NaN: pruned."""
    made = Endings()
    for number, value in enumerate(values):
        made.add(float(number), number, value)
    return made.longest(True, delta)


@pytest.mark.parametrize(
    ("values", "delta", "expected"),
    [
        ([], 0.0, 0),
        ([1.0], 0.0, 0),
        ([1.0, 1.0, 0.5], 0.0, 2),  # as good is no improvement
        ([1.0, 0.5, 0.7, 2.0, 3.0], 0.0, 2),  # it stays, though something better came
        ([1.0, NAN, NAN, NAN], 0.0, 3),  # pruned ones are no improvement
        ([NAN, NAN, NAN, 1.0], 0.0, 0),  # nothing to improve on yet
        ([1.0, 1.05, 1.09, 1.2], 0.1, 2),  # small steps add up: counted from the last improvement
        ([-math.inf, 0.0, math.inf, math.inf], 0.0, 1),
    ],
)
def test_the_longest_run_without_an_improvement(values: list[float], delta: float, expected: int) -> None:
    assert longest(values, delta) == expected


def test_less_is_better_when_minimizing() -> None:
    made = Endings()
    for number, value in enumerate([3.0, 2.0, 1.0, 5.0]):
        made.add(0.0, number, value)
    assert made.longest(False, 0.0) == 1


@pytest.mark.parametrize("seed", range(6))
def test_whenever_it_is_asked_it_says_what_a_count_over_all_says(seed: int) -> None:
    draw = random.Random(seed)
    made, ends = Endings(), []
    for number in range(150):
        late = draw.random() < 0.1  # a clock that was set back
        ends.append((number - (draw.randint(0, 5) if late else 0), number, draw.choice([NAN, draw.gauss(0, 1)])))
        made.add(*ends[-1])
        if draw.random() < 0.3:
            delta = draw.choice([0.0, 0.0, 0.0, 0.2])
            assert made.longest(True, delta) == longest([value for _, _, value in sorted(ends)], delta)
