"""What pairs explain together, against Optuna's trees and known Sobol' indices; what changing one parameter did."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from kubetune.api.spec import Categorical, Double, ExperimentSpec, Int, Objective, Parameter
from kubetune.engine.columns import Floats
from kubetune.engine.insight.effects import effects, told
from kubetune.engine.insight.interactions import interactions, leaves, shares_of
from tests.unit.engine_objects import ACCURACY, spec


def drawn(
    parameters: dict[str, Parameter], count: int, value: Callable[[Floats], Floats], seed: int = 0
) -> tuple[ExperimentSpec, Floats, Floats]:
    """Uniform on each parameter's scale; ``value`` of the columns by name, sorted."""
    dice, columns = np.random.default_rng(seed), []
    for _, each in sorted(parameters.items()):
        if isinstance(each, Categorical):
            columns.append(dice.integers(0, len(each.choices), count).astype(float))
        elif isinstance(each, Int):
            columns.append(dice.integers(each.low, each.high + 1, count).astype(float))
        else:
            low, high = (math.log(each.low), math.log(each.high)) if each.log else (each.low, each.high)
            place = dice.uniform(low, high, count)
            columns.append(np.exp(place) if each.log else place)
    params = np.column_stack(columns)
    return spec(parameters=parameters), params, value(params)


class TestInteractions:
    @pytest.fixture(autouse=True)
    def needs(self) -> None:
        pytest.importorskip("sklearn")

    def test_a_trees_variances_are_those_of_optunas(self) -> None:
        from optuna.importance._fanova._tree import _FanovaTree
        from sklearn.tree import DecisionTreeRegressor

        dice = np.random.default_rng(1)
        points = dice.random((80, 3))
        values = points[:, 0] * points[:, 1] + np.sin(5 * points[:, 2])
        tree = DecisionTreeRegressor(max_leaf_nodes=20, random_state=0).fit(points, values).tree_
        theirs = _FanovaTree(tree, np.array([[0.0, 1.0]] * 3))
        low, high, heights = leaves(tree, 3)
        assert (high - low).prod(axis=1).sum() == pytest.approx(1.0)
        assert all(
            heights[((low < x) & (x <= high)).all(axis=1)] == tree.value[leaf].item()
            for x, leaf in zip(points, tree.apply(points.astype(np.float32)), strict=True)
        )
        pairs = list(itertools.combinations(range(3), 2))
        alone = [theirs.get_marginal_variance(np.array([axis])) for axis in range(3)]
        expected = [
            max(theirs.get_marginal_variance(np.array(pair)) - alone[pair[0]] - alone[pair[1]], 0.0) / theirs.variance
            for pair in pairs
        ]
        assert shares_of(tree, 3, pairs) == pytest.approx(expected)
        constant = DecisionTreeRegressor().fit(points, np.ones(80)).tree_
        assert shares_of(constant, 3, pairs) is None

    def test_the_sobol_indices_of_ishigami(self) -> None:
        """sin a + 7 sin² b + 0.1 c⁴ sin a: of the variance a and c explain 0.244 together only; no other pair any."""
        box: dict[str, Parameter] = {name: Double(-math.pi, math.pi) for name in "abc"}

        def ishigami(x: Floats) -> Floats:
            return np.asarray(np.sin(x[:, 0]) * (1 + 0.1 * x[:, 2] ** 4) + 7 * np.sin(x[:, 1]) ** 2)

        found = interactions(*drawn(box, 1000, ishigami))
        assert found[0][:2] == ("a", "c")
        assert found[0][2] == pytest.approx(0.244, abs=0.06)
        assert all(share < 0.05 for *_, share in found[1:])

    def test_scales_and_choices(self) -> None:
        """The optimizer decides which learning rate is good: neither says much alone. Depth adds its own."""
        space: dict[str, Parameter] = {
            "lr": Double(1e-4, 1.0, log=True),
            "depth": Int(1, 8),
            "opt": Categorical(("adam", "sgd")),
        }

        def value(x: Floats) -> Floats:
            away = np.log10(x[:, 1]) + 2  # -2 to 2
            return np.where(x[:, 2] == 0, away, -away) + 0.1 * x[:, 0]

        found = interactions(*drawn(space, 500, value))
        assert set(found[0][:2]) == {"lr", "opt"}
        assert found[0][2] > 0.8
        assert all(share < 0.08 for *_, share in found[1:])

    def test_what_not_every_trial_has_is_left_out(self) -> None:
        made, params, values = drawn({name: Double(0.0, 1.0) for name in "abc"}, 60, lambda x: x[:, 0] * x[:, 1])
        params[::2, 2] = np.nan
        assert [pair[:2] for pair in interactions(made, params, values)] == [("a", "b")]
        assert interactions(made, params, np.ones(60)) == []
        assert interactions(made, params[:, :1].repeat(3, axis=1) * 0 + 0.5, values) == []


SPACE: dict[str, Parameter] = {"lr": Double(1e-4, 1e-1, log=True), "opt": Categorical(("adam", "sgd", "lion"))}


class TestEffects:
    def test_from_the_worst_to_the_best_in_the_metrics_own_unit(self) -> None:
        made, params, values = drawn(SPACE, 300, lambda x: 0.1 * np.log10(x[:, 0]) + 0.5 * (x[:, 1] == 1))
        down = effects(made, params, values)
        assert (down["opt"].worst, down["opt"].best in ("adam", "lion")) == ("sgd", True)
        assert down["opt"].change == pytest.approx(-0.5, abs=0.02)
        assert down["lr"].change == pytest.approx(-0.25, abs=0.02)  # between the middles of the outer sixths
        assert float(down["lr"].worst) > 0.03 > 0.0003 > float(down["lr"].best)
        up = told(spec(parameters=SPACE, objectives=(ACCURACY,)), params, values[:, None])
        assert "→ sgd: accuracy +0.4" in up["opt"]

    def test_what_goes_along_with_another_gets_none_of_its_effect(self) -> None:
        """A search that tries its good values together: the mean by batch alone would differ by 0.8."""
        space: dict[str, Parameter] = {"batch": Categorical((16, 32)), "good": Categorical((False, True))}
        dice = np.random.default_rng(4)
        good = dice.random(400) < 0.5
        batch = np.where(dice.random(400) < 0.9, good, ~good)
        params, values = np.column_stack([batch, good]).astype(float), good + dice.normal(0, 0.05, 400)
        found = effects(spec(parameters=space, objectives=(ACCURACY,)), params, values)
        assert found["good"].change == pytest.approx(1.0, abs=0.05)
        assert abs(found["batch"].change) < 0.05

    def test_one_that_diverged_does_not_decide(self) -> None:
        made, params, values = drawn(SPACE, 120, lambda x: np.log10(x[:, 0]))
        plain = effects(made, params, values)["lr"].change
        values[5], values[6] = 1e12, np.inf
        assert effects(made, params, values)["lr"].change == pytest.approx(plain, rel=0.3)

    def test_few_trials_and_one_way_only_are_not_spoken_of(self) -> None:
        made, params, values = drawn(SPACE, 60, lambda x: x[:, 0])
        params[:, 1] = 0.0
        params[:3, 1] = 1.0
        assert "opt" not in effects(made, params, values)
        assert effects(made, params, np.ones(60)) == {}
        assert effects(made, params[:0], values[:0]) == {}
        two = spec(parameters=SPACE, objectives=(ACCURACY, Objective("size", "minimize")))
        assert told(two, params, np.column_stack([values, values])) == {}

    def test_a_parameter_with_a_condition_counts_where_it_is(self) -> None:
        made, params, values = drawn(SPACE, 200, lambda x: x[:, 1] + np.log10(x[:, 0]))
        params[params[:, 1] == 2, 0] = np.nan
        found = effects(made, params, np.where(np.isnan(params[:, 0]), 0.0, values))
        assert found["lr"].change < -1.5
