"""The race of replicates, and the noise between the runs of one trial."""

import math
import random
import statistics

import numpy as np
import pytest
from scipy import stats

from kubetune.engine.courses import noise, race


def known(deviation: float = 1.0, most: int = 3, maximize: bool = True, least: int = 1) -> race.Race:
    """A race whose best has the mean 10 (-10 when minimizing), and where two trials had all their runs."""
    made = race.Race(maximize, least, most)
    for mean in (10.0, 4.0):
        runs = [mean + deviation * z for z in np.linspace(-1, 1, most)]
        made.ended([run if maximize else -run for run in runs])
    return made


def test_until_the_noise_is_known_every_trial_has_all_its_runs() -> None:
    made = race.Race(True, 1, 3)
    assert made.behind([-1e9]) is None
    made.ended([1.0, 2.0, 3.0])
    assert made.behind([-1e9]) is None
    made.ended([1.0, 2.0, 3.0])
    assert made.behind([-1e9]) == 1e9 + 2


@pytest.mark.parametrize("maximize", [True, False])
def test_who_may_still_be_the_best_goes_on(maximize: bool) -> None:
    made, sign = known(maximize=maximize), 1 if maximize else -1
    assert made.behind([sign * 11.0]) is None
    assert made.behind([sign * 9.0]) is None
    assert made.behind([sign * 1.0]) == 9.0
    assert made.behind([sign * 9.0, sign * 9.2]) is None
    assert made.behind([sign * 1.0, sign * 1.2]) == pytest.approx(8.9)


def test_it_is_students_test_with_the_variance_of_all_trials() -> None:
    """Against scipy: the chance of being so far behind, were both means equal, is below P or it is not."""
    dice = random.Random(1)
    for _ in range(200):
        trials = [[dice.gauss(mean, 0.5) for _ in range(4)] for mean in (1.0, 0.5, 0.0)]
        mine = [dice.gauss(0.6, 0.5) for _ in range(dice.randint(1, 3))]
        made = race.Race(True, 1, 4)
        for runs in trials:
            made.ended(runs)
        every = [*trials, mine]
        freedom = sum(len(runs) - 1 for runs in every)
        variance = sum((len(runs) - 1) * statistics.variance(runs) for runs in every if len(runs) > 1) / freedom
        distance = max(map(statistics.fmean, trials)) - statistics.fmean(mine)
        p = float(stats.t.sf(distance / math.sqrt(variance * (1 / len(mine) + 1 / 4)), freedom))
        assert (made.behind(mine) is not None) == (p < race.P)


def test_a_trial_has_at_least_and_at_most_so_many_runs() -> None:
    made = known(most=4, least=2)
    assert made.behind([-1e9]) is None
    assert made.behind([-1e9, -1e9]) is not None
    assert made.behind([-1e9] * 4) is None


def test_only_feasible_trials_with_all_their_runs_are_raced_against() -> None:
    made = known()
    made.ended([100.0, 100.0, 100.0], feasible=False)
    made.ended([100.0])
    assert made.behind([9.0]) is None


def test_infinite_runs_and_runs_that_all_agree() -> None:
    made = known()
    assert made.behind([-math.inf]) == math.inf
    assert made.behind([math.inf]) is None
    made.ended([math.inf, math.inf, math.inf])
    assert made.behind([1e9]) == math.inf
    same = known(deviation=0.0)
    assert same.behind([10.0]) is None
    assert same.behind([9.999]) == pytest.approx(0.001)


def search(seed: int, deviation: float, most: int, races: bool) -> tuple[int, float]:
    """Sixty trials one after the other, their true values normal with deviation 1: how many runs they took, and by how
    much the winner is truly worse than the best."""
    generator = np.random.default_rng(seed)
    truths = generator.normal(0, 1, 60)
    made, found = race.Race(True, 1, most), []
    for truth in truths:
        runs: list[float] = []
        while len(runs) < most and not (races and runs and made.behind(runs) is not None):
            runs.append(float(generator.normal(truth, deviation)))
        made.ended(runs)
        found.append(runs)
    winner = max(range(60), key=lambda number: statistics.fmean(found[number]))
    assert len(found[winner]) == most
    return sum(map(len, found)), float(max(truths) - truths[winner])


@pytest.mark.parametrize(("deviation", "most", "runs"), [(0.2, 3, 0.45), (0.5, 5, 0.35), (1.0, 5, 0.45)])
def test_racing_spends_far_fewer_runs_and_finds_as_good_a_winner(deviation: float, most: int, runs: float) -> None:
    raced = np.array([search(seed, deviation, most, True) for seed in range(200)])
    whole = np.array([search(seed, deviation, most, False) for seed in range(200)])
    assert (whole[:, 0] == 60 * most).all()
    assert raced[:, 0].mean() < runs * 60 * most
    assert raced[:, 1].mean() < whole[:, 1].mean() + 0.02  # of the deviation between trials


# ---- noise


def test_the_noise_is_what_is_left_when_trials_and_folds_are_taken_away() -> None:
    """Against the residual of the two-way table, computed whole."""
    table = np.random.default_rng(2).normal(0, 1, (7, 5)) + np.arange(5)  # folds differ by 1
    runs = noise.Runs(5)
    for row in table:
        runs.add(row.tolist())
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    found = runs.noise
    assert found
    assert found.freedom == 6 * 4
    assert found.deviation == pytest.approx(math.sqrt((residual**2).sum() / 24))


def test_without_folds_each_run_is_compared_with_its_trials_mean() -> None:
    runs = noise.Runs(1)
    runs.add([1.0, 3.0])
    runs.add([10.0, 10.0, 10.0])
    found = runs.noise
    assert found
    assert found.freedom == 3
    assert found.deviation == pytest.approx(math.sqrt(2 / 3))


def test_single_and_infinite_runs_say_nothing() -> None:
    runs = noise.Runs(1)
    runs.add([1.0])
    runs.add([1.0, math.inf])
    assert runs.noise is None


def test_of_repeated_folds_the_first_round_counts() -> None:
    runs = noise.Runs(2)
    runs.add([1.0, 2.0, 50.0, 70.0])
    runs.add([1.0, 4.0])
    runs.add([1.0])
    found = runs.noise
    assert found
    assert found.freedom == 1
    assert found.deviation == pytest.approx(1.0)
