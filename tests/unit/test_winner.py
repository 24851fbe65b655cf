"""The winner by fresh runs: mean, interval and tests as scipy.stats has them; who may win; what is said."""

import math
import random

import pytest
from scipy import stats

from kubetune.engine.winner import Finalist, judge, paired, welch


def finalist(trial: int, *values: float, broken: bool = False) -> Finalist:
    return Finalist(trial, {"lr": 0.1 * trial}, dict(enumerate(values)), broken)


def drawn(seed: int, count: int, mean: float = 0.0) -> list[float]:
    dice = random.Random(seed)
    return [dice.gauss(mean, 1.0) for _ in range(count)]


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_the_interval_is_students(count: int) -> None:
    values = drawn(count, count)
    found = judge([finalist(0, *values)], True, "accuracy")
    assert found is not None
    low, high = stats.t.interval(0.95, count - 1, loc=sum(values) / count, scale=stats.sem(values))
    assert found.interval == pytest.approx((low, high), rel=1e-9)
    assert found.mean == pytest.approx(sum(values) / count)
    assert found.runs == count


@pytest.mark.parametrize("seed", range(10))
def test_the_paired_test_is_scipys(seed: int) -> None:
    one, other = drawn(seed, 5, 0.5), drawn(seed + 100, 5)
    assert paired(one, other) == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_welchs_test_is_scipys(seed: int) -> None:
    one, other = drawn(seed, 4, 0.5), drawn(seed + 100, 7)
    assert welch(one, other) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue, rel=1e-9)


def test_what_a_seed_does_to_both_cancels_out() -> None:
    """Seeds differ by far more than the two do; pair by pair the first is better each time."""
    seeds = [0.1, 0.5, 0.3, 0.9, 0.7]
    first = [seed + 0.02 + 0.001 * place for place, seed in enumerate(seeds)]
    found = judge([finalist(3, *first), finalist(8, *seeds)], True, "accuracy")
    assert found is not None
    assert (found.trial, found.runner_up, found.distinguishable) == (3, 8, True)
    assert welch(first, seeds) > 0.5
    assert "it is better than trial 8" in found.sentence


def test_one_that_cannot_be_told_from_the_next_says_so() -> None:
    found = judge([finalist(1, 0.90, 0.94, 0.92), finalist(2, 0.93, 0.90, 0.92)], True, "accuracy")
    assert found is not None
    assert (found.trial, found.distinguishable) == (1, False)
    assert "cannot be told from trial 2" in found.sentence


def test_the_smaller_mean_wins_where_less_is_better_and_the_earlier_of_equals() -> None:
    found = judge([finalist(4, 2.0, 3.0), finalist(9, 1.0, 1.0), finalist(2, 1.0, 1.0)], False, "loss")
    assert found is not None
    assert (found.trial, found.runner_up, found.p, found.distinguishable) == (2, 9, 1.0, False)


def test_one_run_each_tells_nothing() -> None:
    found = judge([finalist(1, 0.9), finalist(2, 0.1)], True, "accuracy")
    assert found is not None
    assert (found.trial, found.interval, found.p, found.distinguishable) == (1, None, None, False)
    assert "one run each" in found.sentence


def test_seeds_that_are_not_common_are_compared_by_welch() -> None:
    one, other = {0: 1.0, 1: 1.1, 2: 1.2}, {3: 0.1, 4: 0.3}
    found = judge([Finalist(1, {}, one), Finalist(2, {}, other)], True, "accuracy")
    assert found is not None
    expected = stats.ttest_ind(list(one.values()), list(other.values()), equal_var=False).pvalue
    assert found.p == pytest.approx(expected, rel=1e-9)


def test_who_mostly_failed_or_breaks_a_constraint_does_not_win() -> None:
    lucky, broken, sound = finalist(1, 0.99), finalist(2, 0.95, 0.95, 0.95, broken=True), finalist(3, 0.9, 0.91, 0.92)
    found = judge([lucky, broken, sound], True, "accuracy")
    assert found is not None
    assert (found.trial, found.runner_up, found.distinguishable) == (3, None, None)
    all_broken = judge([broken], True, "accuracy")
    assert all_broken is not None
    assert all_broken.trial == 2


def test_no_run_no_winner() -> None:
    assert judge([finalist(1)], True, "accuracy") is None
    assert judge([], True, "accuracy") is None


def test_an_infinite_value_has_no_interval_and_is_told_from_nothing() -> None:
    found = judge([finalist(1, math.inf, 1.0), finalist(2, 0.0, 0.5)], True, "accuracy")
    assert found is not None
    assert (found.interval, found.p) == (None, 1.0)
