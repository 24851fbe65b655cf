"""Population-based training: the paper's and Ray's rules, any member at any time, the same after a restart; it learns
what no fixed parameters reach."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubetune.api import spec as api
from kubetune.api.fidelity import Fidelity
from kubetune.api.spec import (
    Algorithm,
    Categorical,
    Double,
    ExperimentSpec,
    Given,
    Int,
    InvalidSpec,
    Parameter,
    ParamValue,
)
from kubetune.api.trial import Segment, TrialState
from kubetune.engine import check, samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.pbt import perturbed
from kubetune.storage import space
from tests.unit.engine_objects import ACCURACY, LOSS, MIXED, spec

LR: dict[str, Parameter] = {"lr": Double(1e-4, 1.0, log=True), "decay": Double(0.0, 1.0)}
COMPLETE, RUNNING, FAIL, PRUNED = TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL, TrialState.PRUNED

Params = Mapping[str, ParamValue]
Train = Callable[[Any, Params], tuple[Any, float | None]]  # state and parameters → state after, value (None: it failed)


def of(given: Mapping[str, Any] | None = None, **changes: Any) -> ExperimentSpec:
    plain = {"parameters": LR, "seed": 3, "parallelism": 4, "objectives": (ACCURACY,)}
    return spec(sampler=Algorithm("pbt", {"populationSize": 4, **(given or {})}), **{**plain, **changes})


@dataclasses.dataclass
class Record:
    """A recorded population: its trials, and what became of them."""

    history: History
    segments: dict[int, Segment] = dataclasses.field(default_factory=dict)
    times: dict[int, float] = dataclasses.field(default_factory=dict)
    states: dict[int, Any] = dataclasses.field(default_factory=dict)  # what a trial's checkpoint holds

    def pasts(self) -> list[Past]:
        return [dataclasses.replace(trial, ended=self.times.get(trial.number, 0.0)) for trial in self.history]

    def best(self) -> float:
        return max(trial.values[0] for trial in self.history if trial.values)

    def schedule(self, number: int) -> list[dict[str, ParamValue]]:
        line = [number]
        while (parent := self.segments[line[-1]].parent) is not None:
            line.append(parent)
        return [dict(self.history[each].params) for each in reversed(line)]


def ask(sampler: samplers.Sampler, record: Record) -> int:
    number = len(record.history)
    made = sampler.propose(record.history, number)
    assert made.segment is not None
    record.segments[number] = made.segment
    record.history.add(Past(number, RUNNING, made.params, member=made.segment.member))
    return number


def end(record: Record, number: int, state: TrialState, value: float | None = None) -> None:
    trial = record.history[number]
    record.times[number] = float(len(record.times) + 1)
    values = None if value is None else (value,)
    record.history.replace(dataclasses.replace(trial, state=state, values=values, ended=record.times[number]))


def run(
    made: ExperimentSpec, count: int, train: Train, begin: Any = None, parallel: int = 4, slow: int | None = None
) -> Record:
    """So many trials, as many at once, of which each time one ends that is drawn at random; a ``slow`` member's never
    while others run."""
    sampler, record = samplers.build(made), Record(History(made.objectives, made.parameters))
    dice, under_way = np.random.default_rng(made.seed), list[int]()
    while len(record.times) < count:
        while len(under_way) < parallel and len(record.history) < count:
            under_way.append(ask(sampler, record))
        ready = [number for number in under_way if record.segments[number].member != slow] or under_way
        number = ready[int(dice.integers(len(ready)))]
        under_way.remove(number)
        segment, params = record.segments[number], record.history[number].params
        state = begin if segment.parent is None else record.states[segment.parent]
        record.states[number], value = train(state, params)
        end(record, number, FAIL if value is None else COMPLETE, value)
    return record


def constant(state: Any, params: Params) -> tuple[Any, float]:
    return state, float(params["decay"])


# ---- Ray's rules


def rays_quantiles(scores: Sequence[tuple[int, float]], fraction: float) -> tuple[list[int], list[int]]:
    """Members that are cloned over, and that are cloned. ``scores``: (member, latest score), in order of member."""
    if len(scores) <= 1:
        return [], []
    ordered = [member for member, _ in sorted(scores, key=lambda each: each[1])]
    count = math.ceil(len(ordered) * fraction)
    if count > len(ordered) / 2:
        count = math.floor(len(ordered) / 2)
    return ordered[:count], ordered[len(ordered) - count :]


@dataclasses.dataclass
class Reference:
    """The population by its definition: everything worked out again from the list of what happened."""

    size: int
    fraction: float
    ended: list[tuple[int, int, float | None]] = dataclasses.field(default_factory=list)  # member, trial, score

    def latest(self) -> dict[int, tuple[int, float]]:
        return {member: (trial, score) for member, trial, score in self.ended if score is not None}

    def next(self, busy: set[int]) -> int:
        counts = [sum(member == each for member, _, _ in self.ended) for each in range(self.size)]
        return min((count, member) for member, count in enumerate(counts) if member not in busy)[1]

    def parents(self, member: int) -> tuple[set[int | None], bool]:
        """Which trials the member may go on from; whether its parameters change."""
        latest = self.latest()
        low, high = rays_quantiles([(each, latest[each][1]) for each in sorted(latest)], self.fraction)
        if member in low:
            return {latest[each][0] for each in high}, True
        own = [score for each, _, score in self.ended if each == member]
        return {latest[member][0] if member in latest else None}, bool(own) and own[-1] is None


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(2, 9),
    fraction=st.floats(0.0, 0.5),
    seed=st.integers(0, 1000),
    parallel=st.integers(1, 9),
    scores=st.lists(
        st.one_of(st.none(), st.sampled_from([0.0, 0.5, 0.5, 1.0, math.inf]), st.floats(-1, 1)), max_size=40
    ),
    direction=st.sampled_from([ACCURACY, LOSS]),
)
def test_every_segment_is_as_rays_rules_say(
    size: int, fraction: float, seed: int, parallel: int, scores: list[float | None], direction: api.Objective
) -> None:
    parallel = min(parallel, size)
    made = of(
        {"populationSize": size, "quantileFraction": fraction},
        seed=seed,
        parallelism=parallel,
        objectives=(direction,),
    )
    sign = 1.0 if direction is ACCURACY else -1.0
    sampler, record, reference = samplers.build(made), Record(History(made.objectives, LR)), Reference(size, fraction)
    dice, under_way = np.random.default_rng(seed), list[int]()
    for score in scores:
        while len(under_way) < parallel:
            member = reference.next({record.segments[each].member for each in under_way})
            allowed, changes = reference.parents(member)
            number = ask(sampler, record)
            under_way.append(number)
            segment, params = record.segments[number], record.history[number].params
            assert segment.member == member
            assert segment.parent in allowed
            if segment.parent is not None:
                before = record.history[segment.parent].params
                assert (params != before) == changes
        number = under_way.pop(int(dice.integers(len(under_way))))
        end(record, number, COMPLETE if score is not None else FAIL, score)
        reference.ended.append((record.segments[number].member, number, None if score is None else sign * score))


@given(
    value=st.floats(1e-4, 1.0),
    seed=st.integers(0, 1000),
    factors=st.lists(st.floats(0.5, 2.0), min_size=1, max_size=3, unique=True),
)
@settings(max_examples=40, deadline=None)
def test_what_is_not_drawn_again_is_multiplied(value: float, seed: int, factors: list[float]) -> None:
    made = of({"resampleProbability": 0.0, "perturbationFactors": factors}, seed=seed)
    sampler, record = samplers.build(made), Record(History(made.objectives, LR))
    for number in range(4):
        record.history.add(Past(number, RUNNING, {"lr": value, "decay": 0.5}, member=number))
        end(record, number, COMPLETE, float(number))
    chosen = sampler.propose(record.history, 4)
    assert chosen.segment == Segment(0, 3)
    assert chosen.params["lr"] in [min(max(value * factor, 1e-4), 1.0) for factor in factors]
    assert chosen.params["decay"] in [min(0.5 * factor, 1.0) for factor in factors]


def test_as_many_parameters_are_drawn_again_as_asked_for() -> None:
    wide: dict[str, Parameter] = {f"x{place}": Double(1.0, 1000.0) for place in range(50)}
    drawn = 0
    for seed in range(20):
        made = of({"resampleProbability": 0.25}, seed=seed, parameters=wide)
        record = Record(History(made.objectives, wide))
        for number in range(4):
            record.history.add(Past(number, RUNNING, dict.fromkeys(wide, 500.0), member=number))
            end(record, number, COMPLETE, float(number))
        drawn += sum(value not in (400.0, 600.0) for value in samplers.build(made).suggest(record.history, 4).values())
    assert 0.2 < drawn / 1000 < 0.3  # 3.6 standard deviations


@pytest.mark.parametrize(
    ("parameter", "value", "factor", "expected"),
    [
        (Double(0.0, 1.0), 0.5, 1.2, 0.6),
        (Double(0.0, 1.0), 0.9, 1.2, 1.0),
        (Double(0.1, 1.0, log=True), 0.11, 0.8, 0.1),
        (Double(-1.0, 1.0), -0.5, 1.2, -0.6),
        (Double(0.0, 1.0), 0.0, 1.2, 0.2),  # no factor moves a zero
        (Double(0.0, 1.0), 0.0, 0.8, 0.0),
        (Double(0.0, 2.0, step=0.25), 1.0, 1.2, 1.25),
        (Double(0.0, 2.0, step=0.25), 0.25, 1.2, 0.5),  # at least one step
        (Double(0.0, 2.0, step=0.25), 0.25, 0.8, 0.0),
        (Double(0.0, 1.1, step=0.25), 1.0, 1.2, 1.0),  # the last step
        (Int(1, 64), 10, 1.2, 12),
        (Int(1, 64), 1, 1.2, 2),
        (Int(1, 64), 2, 0.8, 1),
        (Int(1, 64), 1, 0.8, 1),
        (Int(8, 512, log=True), 100, 0.8, 80),
        (Int(10, 100, step=10), 50, 1.2, 60),
        (Categorical(("S", "M", "L"), ordered=True), "M", 1.2, "L"),
        (Categorical(("S", "M", "L"), ordered=True), "M", 0.8, "S"),
        (Categorical(("S", "M", "L"), ordered=True), "L", 1.2, "L"),
        (Categorical(("adam", "sgd")), "sgd", 1.2, "sgd"),
    ],
)
def test_a_perturbed_value_is_one_of_the_parameters(
    parameter: Parameter, value: ParamValue, factor: float, expected: ParamValue
) -> None:
    got = perturbed(parameter, value, factor)
    assert type(got) is type(expected)
    assert got == pytest.approx(expected)


def test_values_are_within_the_space_and_plain_python() -> None:
    known = space.distributions_of(dict(sorted(MIXED.items())))
    changed = set()
    for trial in run(of(parameters=MIXED), 200, lambda state, params: (None, float(params["a"]))).history:
        assert trial.params.keys() == MIXED.keys()
        for key, value in trial.params.items():
            assert known[key]._contains(known[key].to_internal_repr(value)), (key, value)
            assert type(value) in (float, int, str, bool)
            changed.add((key, value))
    assert all(sum(name == key for name, _ in changed) > 1 for key in MIXED if key != "one")


def test_conditions_hold_of_what_is_changed() -> None:
    parameters: dict[str, Parameter] = {
        "optimizer": Categorical(("adam", "sgd")),
        "momentum": Double(0.5, 0.99, when=(("optimizer", ("sgd",)),)),
        "lr": Double(0.0, 1.0),
        "decay": Double(0.0, 1.0),
    }
    made = of({"resampleProbability": 0.5}, parameters=parameters, where=("decay < lr",))
    check.check(made)
    record = run(made, 200, constant)
    crossed = 0
    for trial in record.history:
        assert made.space.problem(trial.params) is None
        assert made.space.holds(trial.params)
        parent = record.segments[trial.number].parent
        crossed += parent is not None and record.history[parent].params["optimizer"] != trial.params["optimizer"]
    assert crossed


# ---- members


def test_no_member_waits_for_a_slow_one() -> None:
    record = run(of(), 60, constant, slow=2)
    segments = [segment.member for segment in record.segments.values()]
    assert segments.count(2) == 1
    assert min(segments.count(member) for member in (0, 1, 3)) >= 10


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_with_fewer_slots_than_members_all_get_their_turn(parallel: int) -> None:
    record = run(of(parallelism=parallel), 40, constant, parallel=parallel)
    members = [segment.member for segment in record.segments.values()]
    assert sorted(members[:4]) == [0, 1, 2, 3]
    assert all(abs(members.count(member) - 10) <= parallel for member in range(4))


def test_one_slot_trains_generation_by_generation() -> None:
    record = run(of(parallelism=1), 20, constant, parallel=1)
    assert [segment.member for segment in record.segments.values()] == [0, 1, 2, 3] * 5


def test_a_segment_that_fails_is_not_gone_on_from_and_the_next_one_is_another() -> None:
    record = Record(History([ACCURACY], LR))
    sampler = samplers.build(of({"quantileFraction": 0.0}))
    for value in (0.1, 0.2, 0.3, 0.4):
        end(record, ask(sampler, record), COMPLETE, value)
    failed, pruned, good = (ask(sampler, record) for _ in range(3))
    end(record, failed, FAIL)
    end(record, pruned, PRUNED, 0.9)
    end(record, good, COMPLETE, 0.0)
    ask(sampler, record)  # the fourth member's
    again, other, on = (ask(sampler, record) for _ in range(3))
    assert [record.segments[each] for each in (again, other, on)] == [Segment(0, 0), Segment(1, 1), Segment(2, good)]
    assert record.history[again].params != record.history[0].params == record.history[failed].params
    assert record.history[other].params != record.history[1].params
    assert record.history[on].params == record.history[good].params


def test_a_member_that_never_came_to_anything_begins_anew() -> None:
    record, sampler = Record(History([ACCURACY], LR)), samplers.build(of())
    for value in (None, 0.2, 0.3, 0.4):
        end(record, ask(sampler, record), FAIL if value is None else COMPLETE, value)
    first = ask(sampler, record)
    assert record.segments[first] == Segment(0, None)
    assert record.history[first].params != record.history[0].params


def test_who_breaks_constraints_ranks_last() -> None:
    made = of(constraints=(api.Constraint("latency", "max", 1.0),))
    record, sampler = Record(History(made.objectives, LR, ["latency.max"])), samplers.build(made)
    for value, excess in ((0.9, 2.0), (0.2, -1.0), (0.8, 0.5), (0.1, 0.0)):
        number = ask(sampler, record)
        broken = dataclasses.replace(record.history[number], constraints={"latency.max": excess})
        record.history.replace(dataclasses.replace(broken, state=COMPLETE, values=(value,), ended=float(number)))
    assert record.segments[ask(sampler, record)] == Segment(0, 1)


def test_the_checkpoints_that_are_needed_are_the_latest_good_ones() -> None:
    record, sampler = Record(History([ACCURACY], LR)), samplers.build(of())
    for value in (0.1, 0.2, None, 0.4, 0.5):
        end(record, ask(sampler, record), FAIL if value is None else COMPLETE, value)
    ask(sampler, record)
    assert [record.segments[number].member for number in range(6)] == [0, 1, 2, 3, 0, 1]
    assert sampler.needed(record.history) == {4, 1, 3}


def test_burn_in_lets_a_member_be() -> None:
    for burn_in, parent in ((0, 3), (1, 3), (2, 0)):
        record, sampler = Record(History([ACCURACY], LR)), samplers.build(of({"burnIn": burn_in}))
        for value in (0.1, 0.2, 0.3, 0.4):
            end(record, ask(sampler, record), COMPLETE, value)
        ask(sampler, record)
        assert record.segments[4] == Segment(0, parent)


def test_a_restart_in_the_middle_asks_the_same() -> None:
    made = of(parameters=MIXED, parallelism=3)
    sampler, record, under_way = samplers.build(made), Record(History(made.objectives, MIXED)), list[int]()
    for number in range(80):
        if number % 7 == 6:
            loaded = History(made.objectives, MIXED)
            loaded.load(record.pasts())
            expected = sampler.propose(record.history, number)
            assert samplers.build(made).propose(loaded, number) == expected
            assert sampler.propose(record.history, number) == expected
        under_way.append(ask(sampler, record))
        if len(under_way) == 3:
            over = under_way.pop(number % 3)
            end(record, over, FAIL if over % 11 == 5 else COMPLETE, None if over % 11 == 5 else math.sin(over))


def test_trials_of_another_sampler_and_of_a_larger_population_are_left_out() -> None:
    record = Record(History([ACCURACY], LR))
    for number, member in enumerate((None, 7)):
        record.history.add(Past(number, RUNNING, {"lr": 0.1, "decay": 0.1}, member=member))
        end(record, number, COMPLETE, 1.0)
    sampler = samplers.build(of())
    assert [record.segments[ask(sampler, record)] for _ in range(4)] == [Segment(each, None) for each in range(4)]
    with pytest.raises(RuntimeError, match="all 4 members of the population train"):
        ask(sampler, record)


# ---- what is refused


@pytest.mark.parametrize(
    ("given", "changes", "field"),
    [
        ({"populationSize": 1}, {}, "sampler.settings.populationSize"),
        ({"quantileFraction": 0.6}, {}, "sampler.settings.quantileFraction"),
        ({"resampleProbability": -0.1}, {}, "sampler.settings.resampleProbability"),
        ({"perturbationFactors": []}, {}, "sampler.settings.perturbationFactors"),
        ({"perturbationFactors": [0.8, 0.8]}, {}, "sampler.settings.perturbationFactors"),
        ({"perturbationFactors": [-1.0]}, {}, "sampler.settings.perturbationFactors"),
        ({"perturbationFactors": 1.2}, {}, "sampler.settings.perturbationFactors"),
        ({"perturbationInterval": 5}, {}, "sampler.settings.perturbationInterval"),
        ({}, {"parallelism": 5}, "parallelism.max"),
        ({}, {"objectives": (ACCURACY, LOSS)}, "sampler.name"),
        ({}, {"parameters": {"one": Categorical(("same",))}}, "parameters"),
        ({}, {"fidelity": Fidelity("epochs", 1, 9)}, "fidelity"),
        ({}, {"narrow": {"lr": Double(1e-3, 1e-2, log=True)}}, "narrow"),
        ({}, {"warm_start": ("other",)}, "warmStart"),
    ],
)
def test_a_spec_that_cannot_run_says_what_to_change(
    given: Mapping[str, Any], changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidSpec) as refused:
        check.check(of(given, **changes))
    assert refused.value.field == field


# ---- the paper's toy problem (figure 2)


AXIS: dict[str, Parameter] = {"axis": Categorical(("x", "y"))}
WEIGHTS: dict[str, Parameter] = {"h0": Double(0.0, 1.0), "h1": Double(0.0, 1.0)}
RATE, STEPS, TOP = 0.01, 4, 1.2
BEGIN = (0.9, 0.9)


def climbed(state: tuple[float, float], params: Params) -> tuple[tuple[float, float], float]:
    """Steps along the slope of the surrogate; the value is the true one, 1.2 - x² - y²."""
    h = (float(params["axis"] == "x"), float(params["axis"] == "y")) if "axis" in params else None
    h0, h1 = h or (float(params["h0"]), float(params["h1"]))
    x, y = (place * (1 - 2 * RATE * weight) ** STEPS for place, weight in zip(state, (h0, h1), strict=True))
    return (x, y), TOP - x * x - y * y


def fixed(made: ExperimentSpec, trials: int, segments: int) -> float:
    """The best of random search, each trial as long as so many segments."""
    sampler, history, best = samplers.build(made), History(made.objectives, made.parameters), -math.inf
    for number in range(trials):
        params, state = sampler.suggest(history, number), BEGIN
        history.add(Past(number, RUNNING, params))
        for _ in range(segments):
            state, value = climbed(state, params)
        best = max(best, value)
    return best


@pytest.mark.parametrize("seed", range(5))
def test_no_fixed_surrogate_reaches_what_pbt_does(seed: int) -> None:
    """A surrogate sees one of the two axes: whoever keeps to it stays below 1.2 - 0.9². PBT changes between them."""
    made = of({"populationSize": 4}, parameters=AXIS, seed=seed)
    record = run(made, 4 * 100, climbed, begin=BEGIN)
    random = fixed(spec(parameters=AXIS, objectives=(ACCURACY,), seed=seed), 4, 100)
    assert random < TOP - 0.81
    assert record.best() > 1.15
    best = max((trial.values[0], trial.number) for trial in record.history if trial.values)[1]
    assert {params["axis"] for params in record.schedule(best)} == {"x", "y"}


def test_with_weights_that_can_be_learned_pbt_is_better_at_equal_steps() -> None:
    found, random = list[float](), list[float]()
    for seed in range(10):
        found.append(run(of({"populationSize": 4}, parameters=WEIGHTS, seed=seed), 4 * 30, climbed, begin=BEGIN).best())
        random.append(fixed(spec(parameters=WEIGHTS, objectives=(ACCURACY,), seed=seed), 4, 30))
    assert statistics.median(found) > statistics.median(random)
    assert sum(one > other for one, other in zip(found, random, strict=True)) >= 7


# ---- a schedule trained again


def replayed(segments: Sequence[Params], **changes: Any) -> ExperimentSpec:
    plain = {"parameters": LR, "seed": 3, "objectives": (ACCURACY,)}
    return spec(sampler=Algorithm("schedule", {"segments": [dict(each) for each in segments]}), **{**plain, **changes})


def test_the_winners_schedule_trained_again_comes_to_the_same() -> None:
    record = run(of({"populationSize": 4}, parameters=AXIS), 4 * 30, climbed, begin=BEGIN)
    value, best = max((trial.values[0], trial.number) for trial in record.history if trial.values)
    schedule = record.schedule(best)
    made = replayed(schedule, parameters=AXIS)
    check.check(made)
    again = run(made, len(schedule), climbed, begin=BEGIN, parallel=1)
    assert again.history[len(schedule) - 1].values == (value,)
    assert again.schedule(len(schedule) - 1) == schedule
    assert samplers.build(made).over(again.history)


def test_a_failed_segment_of_a_schedule_is_tried_again() -> None:
    segments = [{"lr": 0.1, "decay": 0.0}, {"lr": 0.01, "decay": 0.5}]
    made = replayed(segments)
    sampler, record = samplers.build(made), Record(History(made.objectives, LR))
    for state in (COMPLETE, FAIL, COMPLETE):
        assert not sampler.over(record.history)
        end(record, ask(sampler, record), state, 0.5 if state is COMPLETE else None)
    assert [dict(trial.params) for trial in record.history] == [segments[0], segments[1], segments[1]]
    assert [segment.parent for segment in record.segments.values()] == [None, 0, 0]
    assert sampler.over(record.history)
    loaded = History(made.objectives, LR)
    loaded.load(record.pasts())
    assert samplers.build(made).over(loaded)


@pytest.mark.parametrize(
    ("settings", "changes", "field"),
    [
        ({}, {}, "sampler.settings.segments"),
        ({"segments": []}, {}, "sampler.settings.segments"),
        ({"segments": [1]}, {}, "sampler.settings.segments[0]"),
        ({"segments": [{"lr": 0.1}]}, {}, "sampler.settings.segments[0].decay"),
        ({"segments": [{"lr": 0.1, "decay": 2}]}, {}, "sampler.settings.segments[0].decay"),
        ({"segments": [{"lr": 0.1, "decay": 0, "x": 1}]}, {}, "sampler.settings.segments[0].x"),
        ({"segments": [{"lr": 0.1, "decay": 0}], "size": 1}, {}, "sampler.settings.size"),
        ({"segments": [{"lr": 0.1, "decay": 0}]}, {"parallelism": 2}, "parallelism.max"),
        ({"segments": [{"lr": 0.1, "decay": 0}]}, {"given": (Given("initial/0", "initial[0]", {}),)}, "initial"),
    ],
)
def test_a_schedule_that_cannot_be_trained_says_what_to_change(
    settings: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidSpec) as refused:
        check.check(dataclasses.replace(replayed([]), sampler=Algorithm("schedule", settings), **changes))
    assert refused.value.field == field


@pytest.mark.parametrize("name", ["pbt", "schedule"])
def test_segments_are_not_pruned_unless_somebody_asks_for_it(name: str) -> None:
    assert api.default_pruner({"sampler": {"name": name}}) == "none"
    assert api.default_pruner({"sampler": {"name": "tpe"}}) == "median"
