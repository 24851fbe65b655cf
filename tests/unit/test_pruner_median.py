"""The median stopping rule: each clause, and decision for decision what Optuna's MedianPruner decides."""

import math
import random
import warnings
from collections.abc import Mapping
from typing import Literal

import hypothesis
import optuna
import pytest
from hypothesis import strategies

from kubetune.api.spec import Algorithm, InvalidSpec
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import pruners
from kubetune.engine.curve import Curve
from kubetune.storage.base import Mark
from tests.unit.engine_objects import ACCURACY, LOSS, spec
from tests.unit.pruner_objects import Kept, build, curve

NAN = math.nan
DEFAULTS = {"nStartupTrials": 0}
DONE = Mark(0, Reason.COMPLETED, None, None)


def fed(series: list[dict[int, float]], **settings: int) -> "Asked":
    made = Asked(build("median", {**DEFAULTS, **settings}))
    for each in series:
        made.completed(each)
    return made


class Asked:
    """A pruner, asked for whether it stops rather than for why."""

    def __init__(self, pruner: pruners.Pruner) -> None:
        self.pruner = pruner

    def completed(self, series: Mapping[int, float]) -> None:
        self.pruner.ended(Curve(False), TrialState.COMPLETE, series, DONE)

    def prune(self, curve: Curve) -> bool:
        return self.pruner.prune(curve) is not None


THREE = [{0: 1.0, 1: 1.0, 2: 1.0}, {0: 2.0, 1: 2.0, 2: 2.0}, {0: 9.0, 1: 9.0, 2: 9.0}]


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ({0: 2.1}, True),  # worse than the median, which is 2; the mean is 4
        ({0: 2.0}, False),  # as good as the median
        ({0: 1.0}, False),
        ({0: 1.0, 1: 50.0}, False),  # the best so far counts, not the last
        ({0: 50.0, 1: 2.5}, True),
        ({0: NAN}, True),  # nothing but NaN
        ({0: NAN, 1: 1.5}, False),
        ({3: 99.0}, False),  # no trial to compare with at this step
        ({}, False),
    ],
)
def test_compares_the_best_so_far_with_the_median_at_the_step(values: dict[int, float], stops: bool) -> None:
    assert fed(THREE).prune(curve(values)) is stops


def test_more_is_better_when_maximizing() -> None:
    assert fed(THREE).prune(curve({0: 1.9}, maximize=True))
    assert not fed(THREE).prune(curve({0: 2.0}, maximize=True))


def test_an_even_number_has_the_middle_of_two_as_median() -> None:
    assert fed(THREE[:2]).prune(curve({0: 1.6}))
    assert not fed(THREE[:2]).prune(curve({0: 1.4}))


@pytest.mark.parametrize(("completed", "stops"), [(0, False), (2, False), (3, True)])
def test_waits_for_startup_trials(completed: int, stops: bool) -> None:
    assert fed(THREE[:completed], nStartupTrials=3).prune(curve({0: 99.0})) is stops


def test_five_startup_trials_are_the_default() -> None:
    made = Asked(build("median"))
    decisions = []
    for _ in range(6):
        decisions.append(made.prune(curve({0: 99.0})))
        made.completed({0: 1.0})
    assert decisions == [False] * 5 + [True]


def test_waits_for_the_warm_up_and_then_decides_at_every_report() -> None:
    made = fed(THREE, nWarmupSteps=1)
    assert [made.prune(curve(dict.fromkeys(range(steps), 99.0))) for steps in (1, 2, 3)] == [False, True, True]


def test_decides_once_per_interval() -> None:
    long = [dict.fromkeys(range(7), 1.0)]
    made = fed(long, intervalSteps=3)
    assert [made.prune(curve(dict.fromkeys(range(steps), 99.0))) for steps in range(1, 8)] == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert made.prune(curve({0: 99.0, 4: 99.0}))  # the report at 3 is missing: the first one after it


def test_needs_a_minimum_of_trials_at_the_step() -> None:
    short = [{0: 1.0, 1: 1.0}, {0: 1.0}, {0: 1.0}]
    made = fed(short, nMinTrials=2)
    assert made.prune(curve({0: 9.0}))
    assert not made.prune(curve({0: 9.0, 1: 9.0}))


def test_nan_of_completed_trials_counts_as_a_report_but_not_in_the_median() -> None:
    made = fed([{0: NAN}, {0: NAN}, {0: 2.0}], nMinTrials=3)
    assert made.prune(curve({0: 3.0}))
    assert not fed([{0: NAN}]).prune(curve({0: 3.0}))


def test_infinite_values_are_ranked_like_others() -> None:
    made = fed([{0: math.inf}, {0: math.inf}, {0: 1.0}])
    assert not made.prune(curve({0: 1e300}))
    assert fed([{0: -math.inf}, {0: -math.inf}, {0: 1.0}]).prune(curve({0: -1e300}))
    assert not fed([{0: -math.inf}, {0: math.inf}]).prune(curve({0: 1.0}))


def test_a_second_report_of_a_step_replaces_the_first() -> None:
    made = curve({0: 1.0, 1: 5.0})
    made.add(0, 7.0)
    assert (made.best, made.last_step, made.step_before) == (5.0, 1, 0)
    made.add(1, NAN)
    assert made.best == 7.0


VALUES = strategies.one_of(strategies.integers(0, 6).map(float), strategies.just(NAN))
SERIES = strategies.dictionaries(strategies.integers(0, 8), VALUES, max_size=8)


@hypothesis.settings(deadline=None, max_examples=150, derandomize=True)
@hypothesis.given(
    completed=strategies.lists(SERIES, max_size=7),
    reported=strategies.lists(strategies.tuples(strategies.integers(0, 8), VALUES), max_size=8),
    direction=strategies.sampled_from(["minimize", "maximize"]),
    startup=strategies.integers(0, 4),
    warmup=strategies.integers(0, 4),
    interval=strategies.integers(1, 4),
    minimum=strategies.integers(1, 3),
)
def test_decides_as_optuna_does(
    completed: list[dict[int, float]],
    reported: list[tuple[int, float]],
    direction: Literal["minimize", "maximize"],
    startup: int,
    warmup: int,
    interval: int,
    minimum: int,
) -> None:
    theirs = optuna.pruners.MedianPruner(startup, warmup, interval, n_min_trials=minimum)
    study = optuna.create_study(direction=direction, pruner=theirs)
    for series in completed:
        study.add_trial(optuna.trial.create_trial(value=0.0, intermediate_values=series))
    trial = study.ask()
    ours = fed(completed, nStartupTrials=startup, nWarmupSteps=warmup, intervalSteps=interval, nMinTrials=minimum)
    so_far = Curve(direction == "maximize")
    for step, value in dict(reported).items():
        trial.report(value, step)
        so_far.add(step, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns where all values are NaN
            assert ours.prune(so_far) is bool(trial.should_prune())


def test_decides_as_optuna_does_on_long_series_of_any_value() -> None:
    draw = random.Random(7)
    completed = [{step: draw.gauss(0, 1) / (step + 1) for step in range(draw.randint(1, 40))} for _ in range(60)]
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(5, 3, 2))
    for series in completed:
        study.add_trial(optuna.trial.create_trial(value=0.0, intermediate_values=series))
    ours = fed(completed, nStartupTrials=5, nWarmupSteps=3, intervalSteps=2)
    decisions = []
    for _ in range(30):
        trial, so_far, offset = study.ask(), Curve(False), draw.gauss(0, 1)
        for step in range(40):
            value = offset + draw.gauss(0, 1) / (step + 1)
            trial.report(value, step)
            so_far.add(step, value)
            decisions.append(ours.prune(so_far))
            assert decisions[-1] is bool(trial.should_prune())
    assert 100 < sum(decisions) < len(decisions) - 100  # both kinds were seen


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (
            Algorithm("mean"),
            "pruner.name: there is no pruner 'mean'; there are asha, bandit, hyperband, median, none, patience, "
            "percentile, plateau, successiveHalving, threshold, truncation, wilcoxon",
        ),
        (
            Algorithm("median", {"warmup": 3}),
            "pruner.settings.warmup: median has no such setting; its settings are "
            "intervalSteps, nMinTrials, nStartupTrials, nWarmupSteps",
        ),
        (
            Algorithm("median", {"intervalSteps": 0}),
            "pruner.settings.intervalSteps: needs a whole number of at least 1, but is 0",
        ),
        (
            Algorithm("median", {"nWarmupSteps": 1.5}),
            "pruner.settings.nWarmupSteps: needs a whole number of at least 0, but is 1.5",
        ),
        (
            Algorithm("median", {"nMinTrials": True}),
            "pruner.settings.nMinTrials: needs a whole number of at least 1, but is True",
        ),
        (Algorithm("none", {"nWarmupSteps": 1}), "pruner.settings.nWarmupSteps: none has no such setting; "),
    ],
)
def test_refuses_what_it_does_not_know(algorithm: Algorithm, message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        pruners.build(spec(pruner=algorithm))
    assert str(error.value).startswith(message)


def test_refuses_several_objectives_and_says_what_to_do() -> None:
    several = (LOSS, ACCURACY)
    with pytest.raises(InvalidSpec) as error:
        pruners.build(spec(objectives=several, pruner=Algorithm("median")))
    assert str(error.value) == (
        "pruner: median stops trials by one metric, but there are 2 objectives; "
        "write pruner: {name: none}, or keep one objective"
    )
    assert pruners.build(spec(objectives=several)).prune(curve({0: NAN})) is None


@pytest.mark.parametrize("seed", range(5))
def test_loading_many_at_once_is_the_same_as_one_by_one(seed: int) -> None:
    draw = random.Random(seed)
    values = [NAN, math.inf, -math.inf, 0.0, -0.0, *(draw.gauss(0, 1) for _ in range(20))]
    all_series = [
        {step: draw.choice(values) for step in sorted(draw.sample(range(12), draw.randint(0, 9)))} for _ in range(60)
    ]
    cut = draw.randint(0, 60)
    at_once, kept = fed([], nMinTrials=3), Kept(pieces=4)
    for number, series in enumerate(all_series[:cut]):
        kept.trials[number] = (TrialState.COMPLETE, DONE, series)
    at_once.pruner.load(kept)
    for each in all_series[cut:]:
        at_once.completed(each)
    one_by_one = fed(all_series, nMinTrials=3)
    for _ in range(200):
        shown = {step: draw.choice(values) for step in range(draw.randint(0, 12))}
        running = curve(shown, draw.random() < 0.5)
        assert at_once.prune(running) is one_by_one.prune(running)


def test_the_curve_keeps_the_last_value_of_each_step_in_any_order() -> None:
    draw = random.Random(2)
    for _ in range(100):
        made, known = Curve(maximize=False), {}
        for _ in range(draw.randint(0, 30)):
            step, value = draw.randint(-2, 9), draw.choice([NAN, draw.gauss(0, 1)])
            made.add(step, value)
            known[step] = value
        assert repr(made.series()) == repr(dict(sorted(known.items())))
        assert repr(made.last) == repr((max(known), known[max(known)]) if known else None)
        numbers = [value for value in known.values() if not math.isnan(value)]
        assert repr(made.best) == repr(min(numbers, default=NAN))
