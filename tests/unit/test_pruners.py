"""Pruners without a reference in Optuna, what all of them say and refuse, and what a lost attempt leaves."""

import math
import random
from typing import Any

import pytest

from kubetune.api.spec import InvalidSpec
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import pruners
from tests.unit.pruner_objects import World, build, curve

NAN = math.nan


def flat(value: float, steps: int = 10) -> dict[int, float]:
    return dict.fromkeys(range(1, steps + 1), value)


@pytest.mark.parametrize(
    ("values", "settings", "stops"),
    [
        ([5.0, 4.0, 3.0, 2.0], {"patience": 2}, False),
        ([5.0, 4.0, 4.0, 4.0], {"patience": 2}, True),
        ([5.0, 4.0, 4.0, 4.0], {"patience": 3}, False),  # 4.0 came within the last three
        ([5.0, 4.0, 9.0, 3.9], {"patience": 2}, False),
        ([5.0, 4.0, 9.0, 3.9], {"patience": 2, "minDelta": 0.5}, True),
        ([5.0, 4.0, 9.0, 3.9], {"patience": 2, "minDelta": 0.5, "nWarmupSteps": 4}, False),
        ([NAN, NAN, NAN], {"patience": 2}, True),
        ([NAN, NAN, 1.0], {"patience": 2}, False),
        ([1.0, NAN, NAN], {"patience": 2}, True),
        ([1.0], {"patience": 1}, False),
    ],
)
@pytest.mark.parametrize("maximize", [False, True])
def test_plateau_stops_what_does_not_improve(values: list[float], settings: Any, stops: bool, maximize: bool) -> None:
    signed = {step: -value if maximize else value for step, value in enumerate(values)}
    assert (build("plateau", settings, maximize).prune(curve(signed, maximize)) is not None) is stops


@pytest.mark.parametrize(
    ("maximize", "settings", "best", "value", "stops"),
    [
        # The example of Azure's page: 0.8 is the best at interval 10, slack_factor 0.2: below 0.66 it stops.
        (True, {"slackFactor": 0.2}, 0.8, 0.66, True),
        (True, {"slackFactor": 0.2}, 0.8, 0.67, False),
        (True, {"slackAmount": 0.2}, 0.8, 0.59, True),
        (True, {"slackAmount": 0.2}, 0.8, 0.61, False),
        (True, {"slackFactor": 0.0}, 0.8, 0.8, False),
        (True, {"slackFactor": 0.0}, 0.8, 0.79, True),
        (True, {"slackFactor": 0.2}, -1.0, -1.1, False),  # below zero, too, a share of its size
        (True, {"slackFactor": 0.2}, -1.0, -1.3, True),
        (False, {"slackFactor": 0.2}, 1.0, 1.1, False),
        (False, {"slackFactor": 0.2}, 1.0, 1.3, True),
        (False, {"slackFactor": 0.2}, -1.2, -1.1, False),
        (False, {"slackFactor": 0.2}, -1.2, -0.9, True),
        (False, {"slackAmount": 0.2}, 1.0, 1.3, True),
        (False, {"slackFactor": 0.2}, 1.0, NAN, True),
    ],
)
def test_bandit_allows_a_slack(maximize: bool, settings: Any, best: float, value: float, stops: bool) -> None:
    world = World("bandit", {**settings, "delayEvaluation": 5, "evaluationInterval": 5}, maximize)
    assert world.run(flat(best)) is None
    assert (world.run(flat(value)) is not None) is stops


def test_bandit_decides_at_intervals_and_compares_the_best_until_then() -> None:
    world = World("bandit", {"slackAmount": 0.1, "evaluationInterval": 4, "delayEvaluation": 6}, maximize=True)
    world.begin(0)
    for step in range(16):
        world.report(0, step, 0.9)
    world.begin(1)  # trial 0 runs on, and counts
    told = [world.report(1, step, 0.5) for step in range(8)]
    assert told[:7] == [None] * 7
    assert told[7] == "at report 8: 0.5 at best is worse than 0.8, which the slack allows with 0.9 as the best of 2"
    world.begin(2)
    assert [world.report(2, step, 0.85 if step == 0 else 0.1) for step in range(8)] == [None] * 8


def test_truncation_stops_the_worst_share() -> None:
    world = World("truncation", {"truncationPercentage": 25}, maximize=True)
    told = [world.run({0: value}) for value in (0.1, 0.2, 0.3, 0.05, 0.05, 0.4, 0.4, 0.04)]
    assert [why is not None for why in told] == [False, False, False, True, False, False, False, True]
    assert told[3] == "at report 1: 0.05 at best is among the worst 25 % of 4"


def test_truncation_stops_none_of_equals() -> None:
    world = World("truncation", {"truncationPercentage": 50})
    assert [world.run({0: 0.5}) for _ in range(9)] == [None] * 9


def test_truncation_may_compare_with_running_trials_only() -> None:
    world = World("truncation", {"truncationPercentage": 50, "excludeFinishedJobs": True})
    for value in (1.0, 2.0, 3.0):
        assert world.run({0: value}) is None  # each alone
    world.begin(3)
    world.report(3, 0, 1.0)
    world.restart()
    world.begin(4)
    assert world.report(4, 0, 2.0) == "at report 1: 2 at best is among the worst 50 % of 2"


@pytest.mark.parametrize(
    ("name", "settings", "before", "last", "why"),
    [
        (
            "median",
            {"nStartupTrials": 3},
            [1, 2, 3],
            2.5,
            "at step 1: 2.5 at best is worse than 2, the median of 3 complete trials",
        ),
        (
            "percentile",
            {"percentile": 25, "nStartupTrials": 5},
            [1, 2, 3, 4, 5],
            2.5,
            "at step 1: 2.5 at best is worse than 2, which the best 25 % of 5 complete trials reach",
        ),
        ("threshold", {"upper": 2}, [], 2.5, "at step 1: 2.5 is above upper, 2"),
        ("threshold", {"lower": 3}, [], 2.5, "at step 1: 2.5 is below lower, 3"),
        ("threshold", {"lower": 3}, [], NAN, "at step 1: it is not a number"),
        ("asha", {"reductionFactor": 3}, [1, 1, 1], 2.5, "at rung 1: 2.5 is not in the best third of 4"),
        ("asha", {"reductionFactor": 9}, [1, 1, 1], 2.5, "at rung 1: 2.5 is not in the best 1/9 of 4"),
        ("asha", {}, [1, 1, 1], NAN, "at rung 1: it is not a number"),
        (
            "successiveHalving",
            {"bootstrapCount": 3},
            [],
            2.5,
            "at rung 1: the first 3 to come to it stop there (bootstrapCount)",
        ),
    ],
)
def test_says_why(name: str, settings: Any, before: list[float], last: float, why: str) -> None:
    world = World(name, settings)
    for value in before:
        world.run(flat(value))
    assert world.run(flat(last)) == why


def test_wilcoxon_says_which_trial_is_better_on_the_same_folds() -> None:
    world = World("wilcoxon", {"pThreshold": 0.1}, maximize=True)
    assert world.run({fold: 0.9 + fold / 100 for fold in range(5)}) is None
    world.restart()
    world.begin(1)
    told = [world.report(1, fold, 0.7 + fold / 90) for fold in range(5)]
    assert told[:3] == [None] * 3
    assert told[3] == (
        "at step 3: worse than trial 0 on 4 steps that both have (0.716667 and 0.92 in the mean; Wilcoxon's p = 0.062)"
    )


def test_patience_says_what_both_say() -> None:
    world = World("patience", {"patience": 1, "pruner": {"name": "median", "settings": {"nStartupTrials": 1}}})
    world.run(flat(1.0))
    why = world.run({1: 2.0, 2: 3.0, 3: 3.0})
    assert why == (
        "at step 3: 2 at best is worse than 1, the median of 1 complete trials; "
        "3 at best in the last 2 reports, 2 before"
    )
    alone = World("patience", {"patience": 1}).run({1: 2.0, 2: 3.0, 3: 3.0})
    assert alone == "at step 3: 3 at best in the last 2 reports, 2 before"


CASES: list[tuple[str, dict[str, Any]]] = [
    ("asha", {"reductionFactor": 2}),
    ("hyperband", {"maxResource": 9, "reductionFactor": 2}),
    ("bandit", {"slackAmount": 2.0, "evaluationInterval": 2}),
    ("truncation", {"truncationPercentage": 30, "evaluationInterval": 2}),
    ("truncation", {"truncationPercentage": 60, "excludeFinishedJobs": True}),
    ("patience", {"patience": 1, "pruner": {"name": "asha", "settings": {"reductionFactor": 2}}}),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_a_restart_decides_the_same(name: str, settings: dict[str, Any], seed: int) -> None:
    """Two operators with the same trials, of which one is replaced all the time; attempts are lost on the way."""
    draw = random.Random(seed)
    worlds = World(name, settings, seed % 2 == 0), World(name, settings, seed % 2 == 0)
    next_step: dict[int, int] = {}
    stopped = 0
    for begun in range(100):
        for world in worlds:
            world.begin(begun)
        next_step[begun] = draw.choice([0, 1])
        for _ in range(draw.randint(1, 5)):
            number = draw.choice(list(next_step))
            value, step = number % 7 + draw.random() * 3, next_step[number]
            first, second = (world.report(number, step, value) for world in worlds)
            assert first == second
            next_step[number] += draw.choice([1, 1, 2, 5])
            stopped += first is not None
            event = (
                "ends"
                if first is not None or next_step[number] > 12
                else draw.choice(["", "", "", "", "lost", "fails", "ends"])
            )
            for world in worlds:
                if event == "lost":
                    world.lose(number)
                elif event:
                    state = TrialState.PRUNED if first else TrialState.FAIL if event == "fails" else TrialState.COMPLETE
                    world.end(number, state)
            if event == "lost":
                next_step[number] = 0
            elif event:
                del next_step[number]
            if not next_step:
                break
            assert not any(worlds[1].restart().values())
    assert stopped > 3


def test_reports_after_a_stop_do_not_bring_a_loser_to_the_next_rung() -> None:
    world = World("asha", {"reductionFactor": 2})
    for number in range(4):
        world.run(flat(float(number)))
    world.begin(4)
    assert world.report(4, 1, 9.0) is not None
    for step in range(2, 9):  # it takes a while to obey
        world.running[4].add(step, 0.0)
    world.end(4, TrialState.PRUNED)
    world.restart()
    best = World("asha", {"reductionFactor": 2})
    for number in range(4):
        best.run(flat(float(number)))
    best.begin(4)
    best.report(4, 1, 9.0)
    best.end(4, TrialState.PRUNED)
    for each in (world, best):
        each.begin(5)
        assert [each.report(5, step, 0.5) for step in (1, 2)] == [None, "at rung 2: 0.5 is not in the best half of 2"]


def test_one_stopped_by_the_user_competes_with_all_that_it_reported() -> None:
    world = World("asha", {"reductionFactor": 2})
    world.begin(0)
    for step in range(5):
        world.report(0, step, 1.0)
    world.end(0, TrialState.PRUNED, Reason.STOPPED)
    world.restart()
    assert world.run(flat(2.0)) == "at rung 1: 2 is not in the best half of 2"


def test_another_ladder_takes_over_where_the_first_one_had_judged() -> None:
    world = World("asha", {"reductionFactor": 3})
    world.begin(0)
    for step in range(10):
        world.report(0, step, 1.0)
    world._how = ("asha", {"reductionFactor": 2}, False)
    world.restart()  # judged at rung 9: it has passed 1, 2, 4 and 8
    world.begin(1)
    assert world.report(1, 1, 2.0) == "at rung 1: 2 is not in the best half of 2"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("percentile", {}, "pruner.settings.percentile: percentile needs it; it has no default"),
        ("percentile", {"percentile": 101}, "pruner.settings.percentile: needs a number from 0 to 100, but is 101"),
        ("percentile", {"percentile": NAN}, "pruner.settings.percentile: needs a number from 0 to 100, but is nan"),
        ("threshold", {}, "pruner.settings: threshold needs lower, upper, or both, for example {upper: 10.0}"),
        ("threshold", {"lower": 2, "upper": 1}, "pruner.settings.lower: must not be above upper; swap or change them"),
        ("threshold", {"lower": "a"}, "pruner.settings.lower: needs a number, but is 'a'"),
        ("patience", {}, "pruner.settings.patience: patience needs it; it has no default"),
        ("patience", {"patience": 1, "minDelta": -1}, "pruner.settings.minDelta: needs a number of at least 0, but is"),
        (
            "patience",
            {"patience": 1, "pruner": "median"},
            "pruner.settings.pruner: needs a name and maybe settings, such as {name: median}, but is 'median'",
        ),
        (
            "patience",
            {"patience": 1, "pruner": {"name": "mean"}},
            "pruner.settings.pruner.name: there is no pruner 'mean'",
        ),
        (
            "patience",
            {"patience": 1, "pruner": {"name": "asha", "settings": {"minResource": 0}}},
            "pruner.settings.pruner.settings.minResource: needs a whole number of at least 1, but is 0",
        ),
        ("plateau", {"patience": 0}, "pruner.settings.patience: needs a whole number of at least 1, but is 0"),
        ("asha", {"bootstrapCount": 1}, "pruner.settings.bootstrapCount: asha has no such setting; its settings are "),
        ("wilcoxon", {"pThreshold": 2}, "pruner.settings.pThreshold: needs a number from 0 to 1, but is 2"),
        ("asha", {"minResource": "auto"}, "pruner.settings.minResource: needs a whole number of at least 1, but is"),
        ("hyperband", {}, "pruner.settings.maxResource: hyperband needs it; it has no default"),
        (
            "hyperband",
            {"minResource": 9, "maxResource": 3},
            "pruner.settings.maxResource: must not be below minResource, 9",
        ),
        ("bandit", {}, "pruner.settings: bandit needs one of slackFactor and slackAmount, for example"),
        ("bandit", {"slackFactor": 1, "slackAmount": 1}, "pruner.settings: bandit needs one of slackFactor and"),
        (
            "truncation",
            {"truncationPercentage": 0},
            "pruner.settings.truncationPercentage: needs a number from 1 to 99",
        ),
    ],
)
def test_refuses_what_it_cannot_do(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        build(name, settings)
    assert str(error.value).startswith(message)


def test_the_names_are_those_of_the_resource() -> None:
    assert list(pruners.PRUNERS) == sorted(pruners.PRUNERS)
