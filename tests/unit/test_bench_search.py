"""The proof's own proof: best values that are said to be known are reached and never passed, all who search get the
same budget, noise and lengths, and figures are what they are said to be."""

import dataclasses
import json
import math
import pathlib
import random
import xml.etree.ElementTree
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from dev.bench.search import cluster, fidelity, heats, picture, race, report, score, standard
from dev.bench.search.entrants import BASELINE, Entrant, entrants
from dev.bench.search.problem import Outcome, Problem, doubles, seed_in
from dev.bench.search.race import Run
from dev.bench.search.sides import Unsuited, from_cube, numbers_only, ours
from kubetune.api.spec import Algorithm, Categorical, Double, Int, Parameter, ParamValue, parse
from kubetune.engine import samplers
from kubetune.engine.history import History, View

MINIMA: dict[str, Sequence[float]] = {  # where the least values are
    "branin": (math.pi, 2.275),
    "camel": (0.08984201, -0.71265640),
    "goldstein-price": (0.0, -1.0),
    "hartmann3": (0.114614, 0.555649, 0.852547),
    "hartmann6": (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573),
    "rosenbrock": (1.0,) * 4,
    "ackley": (0.0,) * 5,
    "rastrigin": (0.0,) * 4,
    "levy": (1.0,) * 5,
    "griewank": (0.0,) * 6,
    "styblinski-tang": (-2.903534,) * 5,
    "michalewicz": (2.202906, 1.570796, 1.284992, 1.923058, 1.720470),
    "gardner1": (4.62264094, 5.84933457),
    "gardner2": (4.71238898, 1.25323590),
    "bird": (-3.1302468, -1.5821422),
    "townsend": (2.0052938, 1.1944509),
    "spring": (0.05168911, 0.35671886, 11.28889987),
}
NAMED: dict[str, dict[str, ParamValue]] = {
    "branches": {"branch": "hartmann3", "shift": 0.3, "h0": 0.114614, "h1": 0.555649, "h2": 0.852547},
    "layers": {"layers": 3, "rate": 1e-2, "width1": 128, "width2": 64, "width3": 32},
}
FUNCTIONS = [*standard.single(), *standard.constrained(), *standard.conditional()]


class TestWhatIsKnown:
    @pytest.mark.parametrize("problem", FUNCTIONS, ids=lambda problem: problem.name)
    def test_the_least_value_is_there(self, problem: Problem) -> None:
        params = NAMED.get(problem.name) or {f"x{place}": x for place, x in enumerate(MINIMA[problem.name])}
        outcome = problem.evaluate(params, random.Random(0))
        assert problem.least is not None
        assert outcome.values[0] == pytest.approx(problem.least, abs=2e-4)
        assert all(excess < 1e-4 for excess in outcome.excess)

    @pytest.mark.parametrize("problem", FUNCTIONS, ids=lambda problem: problem.name)
    def test_and_nothing_that_keeps_the_constraints_is_below_it(self, problem: Problem) -> None:
        sampler = samplers.build(dataclasses.replace(problem.spec(1), sampler=Algorithm("random")))
        view = nothing(problem)
        assert problem.least is not None
        for number in range(300):
            outcome = problem.evaluate(sampler.choose(view, number), random.Random(0))
            assert problem.broken(outcome) > 0 or outcome.values[0] >= problem.least - 1e-6

    @pytest.mark.parametrize("problem", standard.multi(), ids=lambda problem: problem.name)
    def test_a_fine_front_has_nearly_the_hypervolume_that_is_known_and_no_more(self, problem: Problem) -> None:
        assert problem.least is not None
        values = [problem.evaluate(params, random.Random(0)).values for params in front(problem)]
        volume = compute_hypervolume(np.array(values), np.array(problem.corner))
        assert 0.98 * problem.least < volume < problem.least
        if len(problem.corner) == 2:
            assert volume > 0.999 * problem.least

    def test_noise_is_beside_the_exact_value(self) -> None:
        for problem in standard.noisy():
            params = {f"x{place}": 0.5 for place in range(len(problem.parameters))}
            seen = [problem.evaluate(params, problem.noise(0, number)) for number in range(400)]
            assert len({outcome.exact for outcome in seen}) == 1
            errors = [outcome.values[0] - (outcome.exact or 0.0) for outcome in seen]
            assert np.std(errors) == pytest.approx(standard.NOISE[problem.name.removesuffix("-noise")], rel=0.15)

    def test_steps_end_at_the_functions_value(self) -> None:
        for late in (False, True):
            curves = fidelity.made_up("any", late)
            best = {f"x{place}": x for place, x in enumerate(MINIMA["hartmann6"])}
            worse = dict.fromkeys(best, 0.9)
            for params in (best, worse):
                curve = curves.curve(params)
                assert len(curve) == fidelity.STEPS
                assert curve[-1] == standard.BY_NAME["hartmann6"].value(list(params.values()))
            late_start = curves.curve(best)[0] - curves.least
            assert (late_start > 1.9) is late  # the best one begins worst, or not much above


def nothing(problem: Problem) -> View:
    """What a sampler sees before the first trial."""
    spec = problem.spec(1)
    return History(spec.objectives, spec.parameters, [each.name for each in spec.constraints]).view(0, 0, 0)


def front(problem: Problem) -> list[dict[str, ParamValue]]:
    """Points of the true front, evenly."""

    def point(*first: float) -> dict[str, ParamValue]:
        rest = 0.0 if len(problem.corner) == 2 else 0.5
        return {f"x{place}": value for place, value in enumerate([*first, *[rest] * (6 - len(first))])}

    if len(problem.corner) == 2:
        return [point(place / 20_000) for place in range(20_001)]
    grid = [place / 20 for place in range(21)]
    return [point(one, two) for one in grid for two in grid]


def small(problem: Problem, trials: int = 14) -> Problem:
    return dataclasses.replace(problem, trials=trials)


class TestFairness:
    def test_all_get_the_same_noise_and_lengths(self) -> None:
        problem = standard.noisy()[0]
        assert problem.noise(3, 7).random() == problem.noise(3, 7).random() != problem.noise(4, 7).random()
        assert problem.lengths(3, 7) == problem.lengths(3, 7) != problem.lengths(3, 8)

    def test_the_luck_of_a_seed_is_another_in_each_problem(self) -> None:
        """Else all problems of six parameters would begin at the same points, and one bad beginning count for each."""
        one, other = standard.multi()[:2]
        assert one.parameters == other.parameters
        assert seed_in(one.name, 0) == seed_in(one.name, 0) != seed_in(one.name, 1)
        begun: list[list[tuple[float, ...]]] = []
        for problem in (one, other):
            seen: list[tuple[float, ...]] = []

            def evaluate(params: Any, noise: random.Random, seen: list[tuple[float, ...]] = seen) -> Outcome:
                seen.append(tuple(params.values()))
                return Outcome((0.0, 0.0))

            race.run(dataclasses.replace(small(problem), evaluate=evaluate), "random", ours("random"), 0)
            begun.append(seen)
        assert not set(begun[0]) & set(begun[1])

    @pytest.mark.parametrize("family", ["single", "noisy", "multi", "constrained", "conditional"])
    def test_each_spends_the_whole_budget_and_no_more_and_is_the_same_again(self, family: str) -> None:
        made = {
            "single": standard.single()[0],
            "noisy": standard.noisy()[0],
            "multi": standard.multi()[0],
            "constrained": standard.constrained()[0],
            "conditional": standard.conditional()[1],
        }[family]
        evaluated: list[int] = []

        def counted(params: Any, noise: random.Random) -> Outcome:
            evaluated.append(1)
            return made.evaluate(params, noise)

        problem = dataclasses.replace(small(made), evaluate=counted)
        for entrant in entrants():
            if family not in entrant.families or entrant.name == "gp":
                continue
            evaluated.clear()
            first = entrant.run(problem, 0)
            if first is None:
                continue
            assert (entrant.name, len(evaluated)) == (entrant.name, problem.trials)
            again = entrant.run(problem, 0)
            assert again is not None
            assert first.reached == again.reached
            assert all(later <= before for before, later in zip(first.reached, first.reached[1:], strict=False)) or (
                family == "noisy"  # what looks better may be worse
            )

    def test_who_does_not_search_such_a_space_does_not_take_part(self) -> None:
        by_name = {entrant.name: entrant for entrant in entrants()}
        assert by_name["cmaes"].run(standard.multi()[0], 0) is None
        assert by_name["gradient"].run(standard.conditional()[0], 0) is None
        with pytest.raises(Unsuited):
            numbers_only(standard.conditional()[0])

    def test_each_of_kubetunes_searchers_takes_part_but_those_for_lists_for_others_and_for_populations(self) -> None:
        taking = {entrant.name for entrant in entrants()}
        assert samplers.SAMPLERS.keys() - taking == {"bruteForce", "external", "grid", "pbt", "schedule"}

    def test_every_reference_names_one_that_takes_part(self) -> None:
        names = {entrant.name for entrant in entrants()} | {name for name, *_ in fidelity.ENTRANTS}
        assert set(report.references().values()) <= names

    def test_trials_run_on_a_few_slots_at_once(self) -> None:
        """The one that is asked for fifth is asked when the first of four has ended, and not before."""
        problem, seen = small(standard.single()[0], 8), []

        class Watching:
            def ask(self) -> dict[str, ParamValue]:
                seen.append("ask")
                return {"x0": 1.0, "x1": 1.0}

            def tell(self, number: int, outcome: Outcome, now: float) -> None:
                seen.append("tell")

        race.run(problem, "watching", lambda problem, seed: Watching(), 0)  # type: ignore[arg-type,return-value]
        assert seen == ["ask"] * 4 + ["tell", "ask"] * 4

    def test_steps_are_what_pruners_are_given_the_same_of(self) -> None:
        reports: list[int] = []

        class Counting:
            def ask(self) -> dict[str, ParamValue]:
                return {f"x{place}": 0.5 for place in range(6)}

            def report(self, number: int, step: int, value: float) -> bool:
                reports.append(step)
                return number % 2 == 1 and step == 3

            def end(self, number: int, pruned: bool, now: float) -> None:
                assert pruned is (number % 2 == 1)

        run = fidelity.run(fidelity.made_up("any", False), "counting", Counting(), 0)  # type: ignore[arg-type]
        assert len(reports) == fidelity.WHOLE * fidelity.STEPS
        assert len(run.reached) == fidelity.WHOLE
        assert math.isinf(run.reached[0])
        assert math.isfinite(run.reached[-1])


def test_a_point_of_the_cube() -> None:
    space: dict[str, Parameter] = {"a": Double(2.0, 4.0), "b": Double(1e-4, 1.0, log=True), "n": Int(1, 3)}
    assert from_cube(space, [0.5, 0.5, 0.5]) == {"a": 3.0, "b": pytest.approx(1e-2), "n": 2}
    assert from_cube(space, [1.5, -1.0, 1.0]) == {"a": 4.0, "b": pytest.approx(1e-4), "n": 3}
    counts = [from_cube({"n": Int(1, 3)}, [place / 300])["n"] for place in range(300)]
    assert [counts.count(value) for value in (1, 2, 3)] == [pytest.approx(100, abs=2)] * 3
    with pytest.raises(Unsuited):
        numbers_only(dataclasses.replace(standard.single()[0], parameters={"c": Categorical(("x", "y"))}))


def runs(**finals: list[float]) -> list[Run]:
    """By entrant: what it reached at the end, seed by seed, after twice as much half way."""
    return [
        Run("single", "p", entrant, seed, (2 * value, value), 1.0)
        for entrant, values in finals.items()
        for seed, value in enumerate(values)
    ]


class TestScore:
    def test_random_search_is_one_and_the_best_there_is_is_nought(self) -> None:
        made = runs(random=[1.0, 2.0, 3.0], good=[0.0, 0.2, 0.2], bad=[math.inf] * 3)
        scale = score.Scale(made, {"p": 0.0}, BASELINE)
        rows = {row.entrant: row for row in score.rows(made, scale)}
        assert rows["random"].regret == pytest.approx(1.0)
        assert rows["good"].regret == pytest.approx(0.4 / 2 / 3)
        assert rows["bad"].regret == score.MOST
        assert [row.entrant for row in score.rows(made, scale)] == ["good", "random", "bad"]
        assert [rows[name].rank for name in ("good", "random", "bad")] == [1.0, 2.0, 3.0]
        assert (rows["good"].reached, rows["good"].after) == (1.0, 0.5)
        assert (rows["bad"].reached, rows["bad"].after) == (0.0, math.inf)

    def test_equal_ones_share_their_place(self) -> None:
        made = runs(random=[1.0], one=[0.5], other=[0.5])
        scale = score.Scale(made, {"p": 0.0}, BASELINE)
        assert [row.rank for row in score.rows(made, scale)] == [1.5, 1.5, 3.0]

    def test_who_ran_alone_with_further_seeds_has_no_place_there(self) -> None:
        made = runs(random=[1.0], one=[0.5], other=[0.7, 0.1, 0.1], late=[0.9])
        scale = score.Scale(made, {"p": 0.0}, BASELINE)
        assert {row.entrant: (row.rank, row.runs) for row in score.rows(made, scale)} == {
            "one": (1.0, 1),
            "other": (2.0, 3),
            "late": (3.0, 1),
            "random": (4.0, 1),
        }

    def test_where_the_least_is_unknown_the_best_run_is_nought(self) -> None:
        made = runs(random=[3.0], one=[1.0])
        scale = score.Scale(made, {}, BASELINE)
        assert scale.regrets(made[1])[-1] == 0.0

    def test_where_random_search_finds_the_best_what_it_lacks_earlier_counts(self) -> None:
        made = [Run("single", "p", "random", 0, (4.0, 0.0), 1.0), Run("single", "p", "one", 0, (4.0, 2.0), 1.0)]
        scale = score.Scale(made, {"p": 0.0}, BASELINE)
        assert scale.regrets(made[1]) == [1.0, 0.5]

    def test_the_interval_of_what_does_not_vary_is_a_point_and_pairs_are_of_the_same_seed(self) -> None:
        assert score.interval([[1.0, 1.0], [3.0, 3.0]]) == (2.0, 2.0)
        assert all(map(math.isnan, score.interval([[1.0, 2.0], [3.0]])))
        made = runs(random=[2.0, 2.0], ours=[1.0, 3.0], theirs=[0.8, 2.8])
        found = score.beside(made, score.Scale(made, {"p": 0.0}, BASELINE), "ours", "theirs")
        assert found == pytest.approx((0.1, 0.1, 0.1))
        assert score.beside(made, score.Scale(made, {"p": 0.0}, BASELINE), "ours", "nobody") is None


class TestRecordAndPage:
    def test_a_run_comes_back_as_it_was(self, tmp_path: pathlib.Path) -> None:
        run = Run("single", "p", "tpe", 3, (math.inf, 2.5), 0.125)
        path = tmp_path / "record.jsonl"
        path.write_text(heats.dump(run) + "\n")
        assert heats.load(path) == [run]
        assert "Infinity" not in path.read_text()
        assert json.loads(path.read_text())["reached"] == [None, 2.5]
        assert heats.load(tmp_path / "none") == []

    def test_what_has_run_does_not_run_again(self) -> None:
        known = [Run("single", "branin", "tpe", 0, (1.0,), 1.0)]
        todo = heats.all_of(["single"], 1, False, known)
        assert len(todo) == 12
        assert {heat.problem: heat.known for heat in todo}["branin"] == {"tpe"}
        assert {heat.problem for heat in heats.all_of(["single"], 1, True, ())} == standard.QUICK
        without = heats.all_of(["single"], 1, False, known, frozenset({"gp"}))
        assert {heat.problem: heat.known for heat in without}["branin"] == {"tpe", "gp"}

    def test_the_page_gets_tables_and_plots_between_its_comments(self, tmp_path: pathlib.Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("before\n<!-- single -->old<!-- /single -->\nafter\n")
        made = [dataclasses.replace(run, problem="branin") for run in runs(random=[1.0, 2.0], tpe=[0.7, 0.9])]
        report.write(page, {"single": made})
        text = page.read_text()
        assert text.startswith("before\n<!-- single -->\n")
        assert text.endswith("<!-- /single -->\nafter\n")
        assert "old" not in text
        assert "| **`tpe`** | 1 | 2 |" in text
        drawn = xml.etree.ElementTree.parse(tmp_path / "figures" / "search-single.svg")
        words = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
        assert {"random", "tpe"} <= set(words)
        with pytest.raises(ValueError, match="no place for noisy"):
            report.write(page, {"noisy": [dataclasses.replace(run, family="noisy") for run in made]})

    def test_the_repositorys_page_has_a_place_for_each_family(self) -> None:
        page = pathlib.Path(__file__).parents[2] / "docs" / "search-benchmarks.md"
        for family in report.TITLES:
            assert f"<!-- {family} -->" in page.read_text()
            assert f"<!-- /{family} -->" in page.read_text()

    def test_lines_lie_in_the_frame_and_names_are_escaped(self) -> None:
        drawn = picture.svg(
            "t", "x", "y", {"a<b": [(0.0, 2.0), (1.0, 0.003)], "c": [(0.0, 1.0), (1.0, 0.0)]}, {"c": "a<b"}
        )
        root = xml.etree.ElementTree.fromstring(drawn)
        lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
        points = [tuple(map(float, pair.split(","))) for line in lines for pair in line.attrib["points"].split()]
        assert all(picture.LEFT <= x <= picture.WIDTH - picture.RIGHT for x, _ in points)
        assert all(picture.TOP - 1 <= y <= picture.HEIGHT - picture.BOTTOM + 1 for _, y in points)
        assert lines[0].attrib["stroke"] == lines[1].attrib["stroke"]


def test_an_entrants_name_is_its_own() -> None:
    names = [entrant.name for entrant in entrants()]
    assert len(set(names)) == len(names)
    assert isinstance(entrants()[0], Entrant)
    assert ours("random")(standard.single()[0], 0).ask().keys() == doubles([(0, 1)] * 2).keys()


class TestOnTheCluster:
    @staticmethod
    def trials(sampler: str) -> list[cluster.Trial]:
        side, made = ours(sampler)(cluster.problem(), cluster.SEED), []
        for number in range(15):
            params = side.ask()
            value = cluster.problem().evaluate(params, random.Random(0)).values[0]
            side.tell(number, Outcome((value,)), float(number))
            made.append(cluster.Trial(params, value))
        return made

    @pytest.mark.parametrize("sampler", cluster.SAMPLERS)
    def test_trials_as_the_sampler_asked_for_them_are_the_same_and_others_are_found(self, sampler: str) -> None:
        trials = self.trials(sampler)
        assert cluster.different(sampler, trials) == []
        trials[6] = dataclasses.replace(trials[6], params={**trials[6].params, "x0": 0.125})
        assert 6 in cluster.different(sampler, trials)

    def test_its_program_computes_the_function(self) -> None:
        lines = cluster.PROGRAM.split("kt.report")[0].replace("kubetune_trial as kt", "json").splitlines()
        scope: dict[str, Any] = {"x": {"x0": 2.5, "x1": 7.0}}
        exec("\n".join(line for line in lines if "parameters()" not in line), scope)
        assert scope["y"] == pytest.approx(standard.BY_NAME["branin"].value([2.5, 7.0]), rel=1e-12)

    def test_its_manifests_can_be_run(self) -> None:
        for sampler in cluster.SAMPLERS:
            body = cluster.manifest(sampler)
            spec = parse({**body, "metadata": {**body["metadata"], "uid": "u"}})
            assert (spec.seed, spec.parallelism) == (cluster.SEED, 1)
            assert spec.parameters == cluster.problem().parameters
            samplers.build(spec)
