"""Whole studies, trials at the same time and restarts between: every decision is the one that Optuna's pruner makes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import hypothesis
import optuna
import pytest
from hypothesis import strategies
from optuna import pruners as reference

from kubetune.api.trial import TrialState
from tests.unit.pruner_objects import Duel

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
optuna.logging.set_verbosity(optuna.logging.WARNING)
NAN = math.nan
STATES = {True: optuna.trial.TrialState.PRUNED, False: optuna.trial.TrialState.COMPLETE}
VALUES = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
DISTINCT = [place * 0.618 % 1 for place in range(2000)]
Pair = tuple[Mapping[str, Any], reference.BasePruner]


def percentile(pick: Callable[[int, int], int]) -> Pair:
    share, startup, warmup, interval = pick(0, 100), pick(0, 3), pick(0, 3), pick(1, 3)
    ours = {"percentile": share, "nStartupTrials": startup, "nWarmupSteps": warmup, "intervalSteps": interval}
    return {**ours, "nMinTrials": 2}, reference.PercentilePruner(share, startup, warmup, interval, n_min_trials=2)


def median(pick: Callable[[int, int], int]) -> Pair:
    startup, warmup = pick(0, 3), pick(0, 3)
    return {"nStartupTrials": startup, "nWarmupSteps": warmup}, reference.MedianPruner(startup, warmup)


def threshold(pick: Callable[[int, int], int]) -> Pair:
    lower, upper, warmup, interval = pick(0, 2), pick(3, 6), pick(0, 3), pick(1, 3)
    ours = {"lower": lower, "upper": upper, "nWarmupSteps": warmup, "intervalSteps": interval}
    return ours, reference.ThresholdPruner(lower, upper, warmup, interval)


def only_upper(pick: Callable[[int, int], int]) -> Pair:
    upper = pick(3, 6)
    return {"upper": upper + 0.5}, reference.ThresholdPruner(upper=upper + 0.5)


def patience(pick: Callable[[int, int], int]) -> Pair:
    borne, delta = pick(0, 4), pick(0, 2)
    return {"patience": borne, "minDelta": delta}, reference.PatientPruner(None, borne, delta)


def patient_median(pick: Callable[[int, int], int]) -> Pair:
    borne, startup = pick(0, 3), pick(0, 2)
    inner = {"name": "median", "settings": {"nStartupTrials": startup}}
    theirs = reference.PatientPruner(reference.MedianPruner(startup), borne)
    return {"patience": borne, "pruner": inner}, theirs


def halving(pick: Callable[[int, int], int]) -> Pair:
    resource, factor, rate, bootstrap = pick(1, 3), pick(2, 4), pick(0, 2), pick(0, 2)
    ours = {"minResource": resource, "reductionFactor": factor, "minEarlyStoppingRate": rate}
    theirs = reference.SuccessiveHalvingPruner(resource, factor, rate, bootstrap)
    return {**ours, "bootstrapCount": bootstrap}, theirs


def asha(pick: Callable[[int, int], int]) -> Pair:
    factor = pick(2, 4)
    return {"reductionFactor": factor}, reference.SuccessiveHalvingPruner(1, factor)


def hyperband(pick: Callable[[int, int], int]) -> Pair:
    least, most, factor, bootstrap = pick(1, 2), pick(5, 30), pick(2, 4), pick(0, 1)
    ours = {"minResource": least, "maxResource": most, "reductionFactor": factor, "bootstrapCount": bootstrap}
    return ours, reference.HyperbandPruner(least, most, factor, bootstrap)


def wilcoxon(pick: Callable[[int, int], int]) -> Pair:
    threshold, startup = pick(1, 5) / 10, pick(0, 4)
    theirs = reference.WilcoxonPruner(p_threshold=threshold, n_startup_steps=startup)
    return {"pThreshold": threshold, "nStartupSteps": startup}, theirs


NAMES: Mapping[str, tuple[str, Callable[[Callable[[int, int], int]], Pair]]] = {
    "median": ("median", median),
    "percentile": ("percentile", percentile),
    "threshold": ("threshold", threshold),
    "threshold-upper": ("threshold", only_upper),
    "patience": ("patience", patience),
    "patience-median": ("patience", patient_median),
    "successiveHalving": ("successiveHalving", halving),
    "asha": ("asha", asha),
    "hyperband": ("hyperband", hyperband),
    "wilcoxon": ("wilcoxon", wilcoxon),
}


@pytest.mark.parametrize("case", NAMES)
@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
@hypothesis.given(data=strategies.data())
def test_decides_as_optuna_does(case: str, data: strategies.DataObject) -> None:
    name, make = NAMES[case]
    settings, theirs = make(lambda low, high: data.draw(strategies.integers(low, high)))
    duel = Duel(name, settings, theirs, maximize=data.draw(strategies.booleans()))
    known = DISTINCT if name == "wilcoxon" else VALUES  # of equal ones Optuna takes whichever ended first as the best
    values = [*known, NAN] if data.draw(strategies.booleans()) else known
    # Optuna knows of a restart only what is in its storage; so do we.
    duel.play(data.draw(strategies.integers(0, 2**32)), 12, range(30), values, restarts=0.1)


@pytest.mark.parametrize("case", NAMES)
def test_both_kinds_of_decision_are_seen(case: str) -> None:
    name, make = NAMES[case]
    seen = []
    for seed in range(4):
        settings, theirs = make(lambda low, high: low + min(1, high - low))
        duel = Duel(name, settings, theirs, maximize=seed % 2 == 0)
        duel.play(seed, 40, range(30), DISTINCT if name == "wilcoxon" else VALUES, restarts=0.02)
        seen += duel.decisions
    assert 5 < sum(seen) < len(seen) - 5


@pytest.mark.parametrize("case", ["successiveHalving", "hyperband"])
def test_a_trial_that_failed_still_competes(case: str) -> None:
    settings, theirs = NAMES[case][1](lambda low, high: low)
    duel = Duel(case, settings, theirs)
    for number in range(12):
        duel.begin(number)
        for step in range(9):
            if duel.report(number, step, number + step / 10) is not None:
                break
        duel.end(number, TrialState.FAIL if number % 2 else TrialState.PRUNED)
        duel.restart()
    assert any(duel.decisions)


def test_optunas_tpe_sees_the_trials_of_all_brackets_as_ours_does() -> None:
    """If this fails, Optuna has begun to do what it says of Hyperband: see docs/decisions/0110-pruners.md."""

    class Apart(reference.BasePruner):
        """Hyperband under another type, for which Optuna filters nothing."""

        def __init__(self) -> None:
            self._inner = reference.HyperbandPruner(1, 27, 3)

        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return self._inner.prune(study, trial)

    drawn: list[list[float]] = []
    for pruner in (reference.HyperbandPruner(1, 27, 3), Apart()):
        sampler = optuna.samplers.TPESampler(n_startup_trials=5, seed=1)
        study = optuna.create_study(study_name="both", sampler=sampler, pruner=pruner)
        drawn.append([])
        for _ in range(40):
            trial = study.ask()
            drawn[-1].append(trial.suggest_float("x", 0, 1))
            trial.report(drawn[-1][-1], 1)
            pruned = trial.should_prune()
            study.tell(trial, None if pruned else drawn[-1][-1], state=STATES[pruned])
    assert drawn[0] == drawn[1]
