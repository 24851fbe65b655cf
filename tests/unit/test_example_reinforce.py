"""The plug-in of examples/reinforce: its answers are trials, the same record gives the same ones, and it learns."""

import pathlib
import sys
from typing import Any

import pytest

from kubetune.api.parameters import Categorical, Double, Int, Parameter
from kubetune.api.searcher import Study, Told
from kubetune.api.space import Space
from kubetune.api.spec import Objective

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "reinforce"
SPACE: dict[str, Parameter] = {
    "momentum": Double(0.5, 0.99, when=(("optimizer", ("sgd",)),)),
    "optimizer": Categorical(("adam", "sgd")),
    "lr": Double(1e-4, 1.0, log=True),
    "layers": Int(1, 3),
    "units": Int(1, 1024, log=True),
    "width": Int(16, 256, step=16),
    "rate": Double(0.0, 1.0, step=0.25),
}


@pytest.fixture
def reinforce(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "reinforce", raising=False)
    import reinforce

    return reinforce


def study(direction: Any = "maximize", parameters: dict[str, Parameter] = SPACE, seed: int = 1) -> Study:
    return Study("team-a", "digits", "u", seed, parameters, (Objective("score", direction),))


def test_every_answer_can_be_a_trial_and_every_value_comes(reinforce: Any) -> None:
    made, space = reinforce.make(study()), Space(SPACE)
    answers = [made.ask(number, {}) for number in range(300)]
    assert [space.problem(answer) for answer in answers] == [None] * 300
    seen = {name: {answer[name] for answer in answers if name in answer} for name in SPACE}
    assert seen["optimizer"] == {"adam", "sgd"}
    assert seen["layers"] == {1, 2, 3}
    assert seen["rate"] == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert {min(seen["lr"]), max(seen["lr"])} == {1e-4, 1.0}
    assert {min(seen["units"]), max(seen["units"])} == {1, 1024}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_is_better_becomes_probable(reinforce: Any, direction: Any) -> None:
    made = reinforce.make(study(direction))
    sign = 1.0 if direction == "maximize" else -1.0
    for number in range(200):
        params = made.ask(number, {})
        good = (params["optimizer"] == "sgd") + (params["layers"] == 2)
        made.tell([Told(number, "COMPLETE", params, (sign * good,))])
    assert made.probabilities("optimizer")[1] > 0.9
    assert made.probabilities("layers")[1] > 0.9
    assert max(made.probabilities("rate")) < 0.9  # it has no effect


def test_the_same_record_gives_the_same_parameters(reinforce: Any) -> None:
    one, other = reinforce.make(study()), reinforce.make(study())
    told = [Told(number, "COMPLETE", one.ask(number, {}), (number % 3,)) for number in range(20)]
    told.append(Told(20, "FAIL", {"optimizer": "adam"}, None))
    for trial in told:
        one.tell([trial])
    other.tell(told)
    assert [one.ask(number, {}) for number in range(21, 30)] == [other.ask(number, {}) for number in range(21, 30)]
    assert reinforce.make(study(seed=2)).ask(0, {}) != reinforce.make(study(seed=1)).ask(0, {})


def test_values_of_others_count_as_the_nearest_of_its_own(reinforce: Any) -> None:
    space: dict[str, Parameter] = {"x": Double(0.0, 7.0)}
    made = reinforce.make(study(parameters=space))
    made.tell([Told(0, "COMPLETE", {"x": 0.1}, (0.0,)), Told(1, "COMPLETE", {"x": 6.8}, (1.0,))])
    assert max(made.probabilities("x")) == made.probabilities("x")[7]
