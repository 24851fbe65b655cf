"""Stages: what a spec may say, how a space is narrowed, and how one follows the other, over any restart."""

import dataclasses
import itertools
import math
from typing import Any

import pytest

from kubetune.api import spec as api
from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, InvalidSpec, Parameter
from kubetune.api.stages import Around, Stage
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import samplers, stages, steering
from kubetune.engine.around import around
from kubetune.engine.check import check
from kubetune.engine.engine import Engine
from kubetune.engine.history import History, Past
from kubetune.engine.sampling.child import Process
from kubetune.engine.sampling.pool import COMMAND
from kubetune.engine.sampling.wire import Request
from kubetune.storage.base import Fenced, Steer
from kubetune.storage.memory import MemoryStorage
from tests.unit.engine_objects import LOSS, MIXED, Trials, spec

SPACE: dict[str, Parameter] = {"x": Double(0.0, 1.0), "lr": Double(1e-4, 1.0, log=True)}
COARSE = Stage("coarse", Algorithm("grid", {"points": 3}), 20)
FINE = Stage("fine", Algorithm("grid", {"points": 5}), 100, Around(1, 0.5))
LEARN = Stage("learn", Algorithm("tpe", {"nStartupTrials": 1}), 6, Around(2, 0.25))


def staged(*those: Stage, **changes: Any) -> ExperimentSpec:
    given = {"parameters": SPACE, "seed": 1, "max_trials": sum(each.max_trials for each in those), **changes}
    return spec(stages=those, sampler=those[0].sampler, **given)


class World:
    """An engine on a database in memory, with trials whose loss is a function of their parameters."""

    def __init__(self, made: ExperimentSpec) -> None:
        ticks = itertools.count(1000)
        self.spec = made
        self.storage = MemoryStorage(lambda: float(next(ticks)))
        self.begin()

    def begin(self) -> None:
        self.storage.acquire("test")
        self.engine = Engine(self.spec, self.storage, self.storage.clock)
        self.side = Trials(self.spec, self.storage)

    def run(self, count: int) -> list[dict[str, Any]]:
        """So many at once, to their end; those that there were."""
        rows = self.side.start(self.engine, count)
        for row in rows:
            self.end(row.number)
        return [dict(row.params) for row in rows]

    def end(self, number: int) -> None:
        row = self.engine.running[number]
        x, lr = float(row.params["x"]), float(row.params["lr"])
        self.side.report(row, [(x - 0.6) ** 2 + (math.log10(lr) + 1) ** 2])
        self.engine.tail()
        self.engine.finish(number, row.attempt, None, "")

    def records(self) -> list[dict[str, Any]]:
        return [each.detail for each in self.storage.steering("uid-1") if each.kind == stages.STAGE]


FORM: dict[str, Any] = {"name": "coarse", "sampler": {"name": "grid", "settings": {"points": 3}}, "maxTrials": 9}


class TestReading:
    def read(self, **fields: Any) -> ExperimentSpec:
        body = {
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": {"x": {"double": [0, 1]}},
            "template": {"spec": {"containers": [{"name": "t", "image": "i"}]}},
            **fields,
        }
        return api.parse({"metadata": {"name": "e", "namespace": "n", "uid": "u"}, "spec": body})

    def test_what_is_left_out_is_filled_in(self) -> None:
        made = self.read(stages=[FORM, {"maxTrials": 30, "narrow": {}}], maxTrials=100, sampler={"name": "tpe"})
        assert made.stages == (
            Stage("coarse", Algorithm("grid", {"points": 3}), 9),
            Stage("stage-2", Algorithm("tpe"), 30, Around(3, 0.5)),
        )
        assert (made.max_trials, made.sampler.name) == (39, "grid")

    @pytest.mark.parametrize(
        ("fields", "field", "said"),
        [
            ({"stages": [{**FORM, "narrow": {}}]}, "stages[0].narrow", "nothing was found before"),
            ({"stages": [FORM, FORM]}, "stages[1].name", "coarse is there twice"),
            ({"stages": [FORM], "maxTrials": 10}, "maxTrials", "it is 10, and the stages come to 9"),
            ({"stages": [FORM], "sampler": {"name": "random"}}, "sampler", "each of the stages has its own"),
            ({"stages": [FORM, {"maxTrials": 0}]}, "stages[1].maxTrials", "say how many trials"),
            (
                {"stages": [FORM, {"maxTrials": 1, "narrow": {"to": 1.5}}]},
                "stages[1].narrow.to",
                "needs a number above",
            ),
            ({"stages": [FORM, {"maxTrials": 1, "narrow": {"best": 0}}]}, "stages[1].narrow.best", "needs a whole"),
            ({"stages": [{"maxTrials": 1_000_000}, FORM]}, "stages", "they come to 1000009 trials"),
        ],
    )
    def test_what_cannot_be_is_named(self, fields: dict[str, Any], field: str, said: str) -> None:
        with pytest.raises(InvalidSpec) as error:
            self.read(**fields)
        assert error.value.field == field
        assert said in error.value.message

    @pytest.mark.parametrize(
        ("second", "changes", "field", "said"),
        [
            (Stage("b", Algorithm("cmaes"), 5, Around()), {}, "stages[1].sampler.name", "cannot be narrowed"),
            (
                Stage("b", Algorithm("external", {"service": "x"}), 5, Around()),
                {},
                "stages[1].sampler.name",
                "cannot be narrowed",
            ),
            (Stage("b", Algorithm("tpe", {"no": 1}), 5), {}, "stages[1].sampler.settings.no", "no such setting"),
            (
                Stage("b", Algorithm("tpe"), 5),
                {"given": (api.Given("initial/0", "initial[0]", {}),)},
                "initial",
                "grid",
            ),
        ],
    )
    def test_what_a_stage_may_not_be(self, second: Stage, changes: Any, field: str, said: str) -> None:
        with pytest.raises(InvalidSpec) as error:
            check(staged(COARSE, second, **changes))
        assert error.value.field == field
        assert said in error.value.message

    def test_brute_force_is_no_stage_even_where_it_could_be(self) -> None:
        with pytest.raises(InvalidSpec, match="take grid for a stage"):
            check(staged(Stage("a", Algorithm("bruteForce"), 5), parameters={"n": Int(1, 5)}))

    @pytest.mark.parametrize("name", ["tpe", "random", "qmc", "grid", "auto"])
    def test_what_a_narrowed_stage_may_be(self, name: str) -> None:
        settings = {"points": 4} if name == "grid" else {}
        check(staged(COARSE, Stage("b", Algorithm(name, settings), 5, Around())))


class TestAround:
    def one(self, parameter: Parameter, to: float, *values: Any, now: Parameter | None = None) -> Parameter:
        return around({"p": parameter}, {"p": now or parameter}, [{"p": value} for value in values], to)["p"]

    def test_ranges_are_narrowed_on_their_own_scale(self) -> None:
        assert self.one(Double(0.0, 8.0), 0.25, 4.0) == Double(3.0, 5.0)
        log = self.one(Double(1e-4, 1.0, log=True), 0.5, 1e-2)
        assert isinstance(log, Double)
        assert (log.low, log.high) == pytest.approx((1e-3, 1e-1))

    def test_at_the_edge_the_interval_is_moved_and_not_cut(self) -> None:
        assert self.one(Double(0.0, 8.0), 0.25, 7.9) == Double(6.0, 8.0)
        assert self.one(Int(1, 9), 0.25, 1) == Int(1, 3)

    def test_all_of_the_best_lie_within(self) -> None:
        assert self.one(Double(0.0, 8.0), 0.1, 1.0, 5.0, 2.0) == Double(1.0, 5.0)
        third = 1 / 3
        found = self.one(Double(0.0, 1.0), 0.01, third, third)
        assert isinstance(found, Double)
        assert found.low <= third <= found.high

    def test_steps_are_kept_and_reached_outwards(self) -> None:
        assert self.one(Double(0.0, 1.0, step=0.1), 0.25, 0.5) == Double(0.3, 0.7, step=0.1)
        assert self.one(Int(1, 21, step=5), 0.1, 11) == Int(6, 16, step=5)
        assert self.one(Int(1, 1000, log=True), 0.01, 10) == Int(9, 11, log=True)

    def test_the_next_narrowing_begins_from_the_last_and_may_leave_it(self) -> None:
        assert self.one(Double(0.0, 8.0), 0.5, 5.0, now=Double(3.0, 5.0)) == Double(4.5, 5.5)

    def test_choices_are_those_among_the_best(self) -> None:
        assert self.one(Categorical(("a", "b", "c")), 0.5, "c", "a", "c") == Categorical(("a", "c"))
        assert self.one(Categorical((False, True)), 0.5, True) == Categorical((True,))
        assert self.one(Categorical((False, True)), 0.5, True, False) == Categorical((False, True))

    def test_choices_with_an_order_are_an_interval(self) -> None:
        sizes = Categorical(("XS", "S", "M", "L", "XL"), ordered=True)
        assert self.one(sizes, 0.5, "M") == dataclasses.replace(sizes, choices=("S", "M", "L"))
        assert self.one(sizes, 0.01, "S", "L") == dataclasses.replace(sizes, choices=("S", "M", "L"))

    def test_what_no_best_trial_has_stays_as_it_is(self) -> None:
        when = (("kind", ("a",)),)
        space: dict[str, Parameter] = {"kind": Categorical(("a", "b")), "m": Double(0.0, 1.0, when=when)}
        now: dict[str, Parameter] = {**space, "m": Double(0.2, 0.4, when=when)}
        found = around(space, now, [{"kind": "b"}], 0.5)
        assert found == {"kind": Categorical(("b",)), "m": now["m"]}

    def test_whatever_was_best_lies_in_a_space_of_the_declared_kind(self) -> None:
        made = spec(parameters=MIXED, seed=3)
        draws = [samplers.build(made).suggest(History([LOSS], MIXED), number) for number in range(300)]
        for first, to in itertools.product(range(0, 300, 3), (0.02, 0.3, 1.0)):
            best = draws[first : first + 3]
            narrower = dataclasses.replace(made, parameters=around(MIXED, MIXED, best, to))
            assert [narrower.space.problem(params) for params in best] == [None] * 3


class TestGridPoints:
    def cells(self, parameters: dict[str, Parameter], points: int) -> list[dict[str, Any]]:
        made = spec(parameters=parameters, sampler=Algorithm("grid", {"points": points, "shuffle": False}))
        sampler = samplers.build(made)
        nothing = History([LOSS], parameters)
        found = [sampler.suggest(nothing, number) for number in range(sampler.capacity() or 0)]
        assert all(made.space.problem(params) is None for params in found)
        return found

    @pytest.mark.parametrize(
        ("parameter", "points", "expected"),
        [
            (Double(0.0, 1.0), 3, [0.0, 0.5, 1.0]),
            (Double(1e-4, 1e-1, log=True), 4, [1e-4, 1e-3, 1e-2, 1e-1]),
            (Double(0.0, 1.0, step=0.3), 3, [0.0, 0.6, 0.9]),
            (Int(1, 4), 9, [1, 2, 3, 4]),
            (Int(1, 100, log=True), 3, [1, 10, 100]),
            (Categorical(("a", "b")), 2, ["a", "b"]),
        ],
    )
    def test_evenly_on_the_scale(self, parameter: Parameter, points: int, expected: list[Any]) -> None:
        assert [cell["p"] for cell in self.cells({"p": parameter}, points)] == expected

    def test_of_a_space_of_every_kind(self) -> None:
        assert len(self.cells(MIXED, 2)) == 2**5 * 3 * 2 * 4


class TestOneAfterTheOther:
    def test_a_coarse_grid_and_then_a_fine_one_around_its_best(self) -> None:
        world = World(staged(COARSE, FINE))
        coarse = world.run(4) + world.run(50)
        assert sorted((cell["x"], cell["lr"]) for cell in coarse) == sorted(
            itertools.product((0.0, 0.5, 1.0), (1e-4, 1e-2, 1.0))
        )
        fine = world.run(3) + world.run(50)
        assert len(fine) == 25
        best = min(
            range(9), key=lambda number: (coarse[number]["x"] - 0.6) ** 2 + (math.log10(coarse[number]["lr"]) + 1) ** 2
        )
        assert {cell["x"] for cell in fine} == {0.25, 0.375, 0.5, 0.625, 0.75}
        assert world.records()[1]["best"] == [best]
        assert world.records()[1]["first"] == 9
        assert world.run(5) == []
        assert world.engine.counts.complete == 34
        assert world.engine.exhausted

    def test_the_next_begins_when_all_of_the_last_have_ended(self) -> None:
        world = World(staged(COARSE, LEARN))
        rows = world.side.start(world.engine, 50)
        assert len(rows) == 9
        assert world.engine.askable == 0
        for row in rows[:-1]:
            world.end(row.number)
            assert world.engine.askable == 0
            assert world.engine.ask(3) == []
        world.end(rows[-1].number)
        assert world.engine.askable == 6
        assert len(world.records()) == 1
        world.side.start(world.engine, 1)
        assert len(world.records()) == 2
        assert world.engine.askable == 5

    def test_all_that_is_asked_lies_in_the_stages_space(self) -> None:
        world = World(staged(COARSE, LEARN))
        world.run(9)
        asked = world.run(6)
        current = world.engine.stage
        assert current is not None
        assert (current.name, current.number, current.first, current.sampler) == ("learn", 2, 9, "tpe")
        within = dataclasses.replace(world.spec, parameters={**SPACE, **current.space}).space
        assert [within.problem(params) for params in asked] == [None] * 6
        assert current.space["x"] == Double(0.375, 0.625)

    @pytest.mark.parametrize("second", [FINE, LEARN, dataclasses.replace(LEARN, sampler=Algorithm("qmc"))])
    def test_a_restart_at_any_trial_changes_nothing(self, second: Stage) -> None:
        made = staged(COARSE, second, Stage("last", Algorithm("random"), 3, Around(1, 0.1)))
        one, other = World(made), World(made)
        first = [params for _ in range(40) for params in one.run(1)]
        again = []
        for _ in range(40):
            other.begin()
            again += other.run(1)
        assert first == again
        assert one.records() == other.records()
        assert len(first) == 9 + min(second.max_trials, 25) + 3

    def test_a_crash_between_record_and_ask_begins_nothing_twice(self) -> None:
        world = World(staged(COARSE, LEARN))
        world.run(9)
        create = world.storage.create_trials
        world.storage.create_trials = _fails  # type: ignore[method-assign, assignment]
        with pytest.raises(Fenced):
            world.engine.ask(2)
        world.storage.create_trials = create  # type: ignore[method-assign]
        world.begin()
        assert len(world.run(2)) == 2
        assert [each["first"] for each in world.records()] == [0, 9]

    def test_without_a_complete_trial_the_space_stays(self) -> None:
        world = World(staged(COARSE, LEARN))
        for row in world.side.start(world.engine, 9):
            world.engine.finish(row.number, row.attempt, Reason.EXIT_CODE, "")
        world.run(1)
        assert world.records()[1]["narrow"] == {}
        assert world.records()[1]["best"] == []

    def test_a_stage_without_narrow_searches_the_whole_space(self) -> None:
        world = World(staged(COARSE, LEARN, Stage("all", Algorithm("random"), 3)))
        world.run(9)
        world.run(6)
        world.run(1)
        assert world.records()[2]["narrow"] == {}

    def test_what_a_person_narrows_goes_before_and_a_grid_keeps_its_cells(self) -> None:
        narrow: dict[str, Parameter] = {"x": Double(0.9, 1.0)}
        world = World(staged(COARSE, LEARN))
        world.run(1)
        world.spec = dataclasses.replace(world.spec, narrow=narrow)
        world.engine.update(world.spec)
        assert {params["x"] for params in world.run(8)} >= {0.0, 0.5}
        asked = world.run(3)
        assert all(0.9 <= params["x"] <= 1.0 for params in asked)
        assert all(params["lr"] != 1.0 for params in asked)
        world.begin()
        assert all(0.9 <= params["x"] <= 1.0 for params in world.run(3))

    def test_a_grid_within_what_a_person_narrowed_before(self) -> None:
        narrow: dict[str, Parameter] = {"x": Double(0.5, 1.0)}
        world = World(staged(COARSE, FINE, narrow=narrow))
        assert {params["x"] for params in world.run(20)} == {0.5, 0.75, 1.0}
        assert min(params["x"] for params in world.run(40)) == 0.5

    def test_where_nothing_is_left_the_space_is_not_narrowed(self) -> None:
        parameters: dict[str, Parameter] = {"a": Int(0, 8), "b": Int(0, 8)}
        second = Stage("b", Algorithm("grid", {"points": 2}), 20, Around(1, 0.3))
        made = staged(
            Stage("a", Algorithm("grid"), 100), second, parameters=parameters, where=("a + b != 3", "a + b != 9")
        )
        past = History([LOSS], parameters)
        past.add(Past(0, TrialState.COMPLETE, {"a": 4, "b": 4}, (0.0,)))
        begun = stages.Begun(0, 0, {})
        assert stages.begin(made, begun, past).detail["narrow"] == {
            "a": {"min": 2, "max": 6},
            "b": {"min": 2, "max": 6},
        }
        nothing = dataclasses.replace(made, where=("a + b == 8 or a + b == 16", "a != 2", "a != 6"))
        decided = stages.begin(nothing, begun, past).detail
        assert (decided["narrow"], decided["best"]) == ({}, [])

    def test_stages_cannot_change(self) -> None:
        world = World(staged(COARSE, LEARN))
        with pytest.raises(InvalidSpec, match="stages cannot change once started"):
            world.engine.update(staged(COARSE, FINE))

    def test_what_began_is_told_once(self) -> None:
        world = World(staged(COARSE, LEARN))
        assert list(world.engine.update(world.spec)) == []
        world.run(9)
        world.run(1)
        told = [steering.words(each) for each in world.engine.update(world.spec)]
        assert [reason for reason, _ in told] == ["StageBegan", "StageBegan"]
        assert told[0][1] == "stage 1, coarse, begins with trial 0: grid, at most 20 trials, in the whole space"
        assert told[1][1].startswith("stage 2, learn, begins with trial 9: tpe, at most 6 trials, around trials ")
        assert told[1][1].endswith("x = 0.375 to 0.625, lr = 0.01 to 1")
        assert list(world.engine.update(world.spec)) == []

    def test_a_sampler_process_asks_the_same(self) -> None:
        world = World(staged(COARSE, dataclasses.replace(LEARN, sampler=Algorithm("qmc"))))
        world.run(9)
        world.run(1)
        made = stages.asked(world.spec, stages.latest(world.storage.steering("uid-1")))
        history = world.engine._history
        here = samplers.build(made).suggest(history, 10)
        process = Process(COMMAND)
        try:
            process.greet()
            view = history.view(0, 0, 0)
            answer = process.ask(Request(made, view, 10, 1, 1.0), 10, 60, lambda: None)
        finally:
            process.close()
        assert list(answer.params) == [here]


def _fails(*_: Any) -> Any:
    raise Fenced("another operator")


def test_the_latest_record_is_the_stage_under_way() -> None:
    one = Steer(stages.STAGE, "a", {"stage": 1, "first": 0, "narrow": {}})
    two = Steer(stages.STAGE, "b", {"stage": 2, "first": 7, "narrow": {"x": {"min": 0, "max": 1}}})
    assert stages.latest([one, Steer("stop", "3", {}), two, Steer("narrow", "", {})]) == stages.Begun(
        1, 7, {"x": {"min": 0, "max": 1}}
    )
    assert stages.latest([]) is None
