"""The spec as parsed from the custom resource: what becomes of good ones, and what is said of bad ones; and names."""

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from kubetune.api import names, spec
from kubetune.api.spec import Algorithm, Categorical, Double, InvalidSpec, Metrics, Objective

UID = "3f2a91c0-1111-2222-3333-444444444444"
TRIAL = {"name": "trial", "image": "digits:1"}
FIRST: dict[str, Any] = {
    "objective": {"metric": "accuracy", "direction": "maximize"},
    "parameters": {
        "lr": {"double": [1.0e-4, 1.0e-1], "scale": "log"},
        "layers": {"int": [1, 4]},
        "activation": {"choice": ["relu", "tanh"]},
    },
    "template": {
        "spec": {"containers": [{**TRIAL, "args": ["--lr=$(lr)", "--layers=$(layers)", "--activation=$(activation)"]}]}
    },
}


def resource(**changes: Any) -> dict[str, Any]:
    """The first example with fields of its spec replaced; None takes one out."""
    merged = {**copy.deepcopy(FIRST), **changes}
    return {
        "metadata": {"namespace": "team-a", "name": "digits", "uid": UID, "generation": 3},
        "spec": {name: value for name, value in merged.items() if value is not None},
    }


def with_container(**fields: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [{**TRIAL, **fields}]}}}


def test_the_first_example_is_all_that_a_beginner_writes() -> None:
    made = spec.parse(resource())
    assert made == spec.ExperimentSpec(
        namespace="team-a",
        name="digits",
        uid=UID,
        generation=3,
        objectives=(Objective("accuracy", "maximize"),),
        parameters={
            "lr": Double(1e-4, 1e-1, log=True),
            "layers": spec.Int(1, 4),
            "activation": Categorical(("relu", "tanh")),
        },
        template=FIRST["template"],
    )
    assert made.key == "team-a/digits"
    assert (made.sampler, made.pruner, made.metrics) == (Algorithm("tpe"), Algorithm("median"), Metrics("push"))
    assert (made.max_trials, made.max_failed_trials, made.parallelism, made.suspend, made.seed) == (
        100,
        10,
        1,
        False,
        None,
    )


def test_everything_that_can_be_said() -> None:
    made = spec.parse(
        resource(
            objective=None,
            objectives=[
                {"metric": "accuracy", "direction": "maximize", "target": 0.99, "value": "best"},
                {"metric": "size", "direction": "minimize", "value": "mean", "window": 3},
            ],
            metrics={"from": "log", "pattern": "(?P<metric>a)(?P<value>b)", "step": "round"},
            sampler={"name": "tpe", "settings": {"nStartupTrials": 20}},
            pruner={"name": "none"},
            maxTrials=500,
            maxFailedTrials=20,
            parallelism={"max": 64},
            deadline={"trial": "1h", "experiment": "1d12h"},
            suspend=True,
            seed=7,
            stopTrials=[3, 5, 3],
        )
    )
    assert made.objectives == (
        Objective("accuracy", "maximize", 0.99, "best"),
        Objective("size", "minimize", None, "mean", 3),
    )
    assert made.metrics == Metrics("log", "(?P<metric>a)(?P<value>b)", "round")
    assert spec.parse(resource(metrics={"from": "log", "format": "json"})).metrics.format == "json"
    assert (made.sampler, made.pruner) == (Algorithm("tpe", {"nStartupTrials": 20}), Algorithm("none"))
    assert (made.max_trials, made.max_failed_trials, made.parallelism) == (500, 20, 64)
    assert (made.trial_deadline, made.experiment_deadline) == (3600.0, 129600.0)
    assert (made.suspend, made.seed, made.stop_trials) == (True, 7, frozenset({3, 5}))


def test_several_objectives_have_no_pruner_unless_one_is_named() -> None:
    several = [{"metric": "a", "direction": "maximize"}, {"metric": "b", "direction": "minimize"}]
    assert spec.parse(resource(objective=None, objectives=several)).pruner == Algorithm("none")
    assert spec.parse(resource(objective=None, objectives=several[:1])).pruner == Algorithm("median")


def test_a_parallelism_of_none_at_all_is_one_that_was_asked_for() -> None:
    assert spec.parse(resource(parallelism={"max": 0})).parallelism == 0


@pytest.mark.parametrize(
    ("form", "parameter"),
    [
        ({"double": [0, 1]}, Double(0.0, 1.0)),
        ({"double": [-1.5, 1.5], "scale": "linear"}, Double(-1.5, 1.5)),
        ({"double": [0.0, 1.0], "step": 0.25}, Double(0.0, 1.0, step=0.25)),
        ({"double": [0.0, 1.0], "step": 1}, Double(0.0, 1.0, step=1.0)),
        ({"double": [1e-9, 1], "scale": "log"}, Double(1e-9, 1.0, log=True)),
        ({"int": [1, 4]}, spec.Int(1, 4)),
        ({"int": [1.0, 4.0]}, spec.Int(1, 4)),
        ({"int": [0, 10], "step": 5}, spec.Int(0, 10, step=5)),
        ({"int": [1, 1024], "scale": "log"}, spec.Int(1, 1024, log=True)),
        ({"int": [-(2**53), 2**53]}, spec.Int(-(2**53), 2**53)),
        ({"choice": ["adam"]}, Categorical(("adam",))),
        ({"choice": ["1", "1.0", ""]}, Categorical(("1", "1.0", ""))),
        ({"values": [16, 32.5]}, Categorical((16, 32.5))),
        ({"bool": {}}, Categorical((False, True))),
    ],
)
def test_parameters(form: Mapping[str, Any], parameter: spec.Parameter) -> None:
    made = spec.parse(resource(parameters={"x": form}, **with_container())).parameters["x"]
    assert made == parameter
    assert repr(made) == repr(parameter)  # 1 and 1.0 are equal, but not the same argument


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "give exactly one of double, int, choice, values, bool"),
        ({"scale": "log"}, "give exactly one of double, int, choice, values, bool"),
        ({"double": [0, 1], "int": [0, 1]}, "give exactly one of double, int, choice, values, bool"),
        ({"double": [1, 1]}, "min must be below max, but double is [1, 1]"),
        ({"double": [2, 1]}, "min must be below max, but double is [2, 1]"),
        ({"double": [0.0, math.inf]}, "min must be below max, but double is [0.0, inf]"),
        ({"double": [math.nan, 1.0]}, "min must be below max, but double is [nan, 1.0]"),
        ({"int": [4, 1]}, "min must be below max, but int is [4, 1]"),
        ({"double": [0, 1], "scale": "log"}, "a log scale needs min > 0, but min is 0"),
        ({"int": [-1, 1], "scale": "log"}, "a log scale needs min > 0, but min is -1"),
        ({"double": [1, 2], "scale": "log", "step": 0.1}, "scale: log and step exclude each other; drop one"),
        ({"int": [1, 8], "scale": "log", "step": 1}, "scale: log and step exclude each other; drop one"),
        ({"double": [0, 1], "step": 0}, "step must be above 0 and at most max - min, but is 0"),
        ({"double": [0, 1], "step": -0.5}, "step must be above 0 and at most max - min, but is -0.5"),
        ({"int": [0, 3], "step": 4}, "step must be above 0 and at most max - min, but is 4"),
        ({"int": [0.5, 3]}, "int takes whole numbers only; use double for others"),
        ({"int": [0, 3], "step": 0.5}, "int takes whole numbers only; use double for others"),
        (
            {"int": [0, 2**53 + 1]},
            "int takes numbers up to 2**53 = 9007199254740992 (they are kept as doubles); scale it down",
        ),
        ({"choice": []}, "choice needs at least one value, each once"),
        ({"choice": ["a", "b", "a"]}, "choice needs at least one value, each once"),
        ({"values": [1, 1.0]}, "values needs at least one value, each once"),
        ({"choice": ["a"], "scale": "log"}, "choice takes neither scale nor step"),
        ({"values": [1, 2], "step": 1}, "values takes neither scale nor step"),
        ({"bool": {}, "step": 1}, "bool takes neither scale nor step"),
    ],
)
def test_bad_parameters(form: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        spec.parse(resource(parameters={"x": form}, **with_container()))
    assert str(error.value) == f"parameters.x: {message}"


GOOD_NAMES = ["lr", "_x", "batch_size", "A1", "x" * 63, "PATHS", "MY_PATH", "LD", "path", "home"]
BAD_NAMES = ["", "1x", "batch-size", "lr\n", "a.b", "a b", "x" * 64, "größe", "$(x)"]
RESERVED = [
    "PATH",
    "HOME",
    "HOSTNAME",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "KUBERNETES_SERVICE_HOST",
    "KUBETUNE_TRIAL",
    "NVIDIA_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "IFS",
    "BASH_ENV",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_of_parameters(name: str) -> None:
    assert list(spec.parse(resource(parameters={name: {"int": [1, 2]}}, **with_container())).parameters) == [name]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_of_parameters(name: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        spec.parse(resource(parameters={name: {"int": [1, 2]}}, **with_container()))
    assert error.value.field == f"parameters.{name}"
    assert error.value.message == "a name is letters, digits and _, starts with no digit, has at most 63 characters"


@pytest.mark.parametrize("name", RESERVED)
def test_names_that_the_pod_itself_needs(name: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        spec.parse(resource(parameters={name: {"int": [1, 2]}}, **with_container()))
    assert str(error.value) == (
        f"parameters.{name}: {name} is an environment variable that the pod itself needs; rename the parameter"
    )


NO_OBJECTIVE = "objective: say which metric to optimise: objective: {metric: loss, direction: minimize}"
ONE = {"metric": "a", "direction": "maximize"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": None}, "parameters: name at least one parameter to tune"),
        ({"parameters": {}}, "parameters: name at least one parameter to tune"),
        ({"objective": None}, NO_OBJECTIVE),
        ({"objective": None, "objectives": []}, NO_OBJECTIVE),
        ({"objectives": [ONE]}, "objective: give objective (one metric) or objectives (several), not both"),
        (
            {"objective": None, "objectives": [ONE, {**ONE, "direction": "minimize"}]},
            "objectives: two objectives name the same metric; name each metric once",
        ),
        ({"template": None}, "template.spec.containers: name at least one container; the first one is the trial"),
        (
            {"template": {"spec": {"containers": []}}},
            "template.spec.containers: name at least one container; the first one is the trial",
        ),
        (
            with_container(env=[{"name": "lr", "value": "1"}]),
            "template.spec.containers[0].env: lr is a parameter; it is set by kubetune, remove it from env",
        ),
        (
            with_container(args=["--lr=$(lr)", "--x=$(learning_rate)"]),
            "template.spec.containers[0].args[1]: $(learning_rate) is neither a parameter nor in env; parameters are "
            "activation, layers, lr; write $$(learning_rate) for the text itself",
        ),
        (
            with_container(command=["sh", "-c", "train $(x)"], env=[{"name": "SEED", "value": "1"}]),
            "template.spec.containers[0].command[2]: $(x) is neither a parameter nor in env; parameters are "
            "activation, layers, lr; write $$(x) for the text itself",
        ),
        (
            {"template": {"spec": {"containers": [TRIAL, {**TRIAL, "name": "side", "args": ["$(y)"]}]}}},
            "template.spec.containers[1].args[0]: $(y) is neither a parameter nor in env; parameters are "
            "activation, layers, lr; write $$(y) for the text itself",
        ),
        (
            {"deadline": {"trial": "soon"}},
            "deadline.trial: 'soon' is not a duration; write for example 90s, 15m, 1h30m or 2d",
        ),
        (
            {"deadline": {"experiment": "0s"}},
            "deadline.experiment: '0s' is no time at all; give at least 1s, or leave it out",
        ),
    ],
)
def test_bad_specs(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        spec.parse(resource(**changes))
    assert str(error.value) == message


@pytest.mark.parametrize(
    "fields",
    [
        {"args": ["--lr=$(lr)"]},
        {"args": ["--seed=$(KUBETUNE_SEED)", "$(KUBETUNE_TRIAL)"]},
        {"args": ["$(HOST)"], "env": [{"name": "HOST", "value": "h"}]},
        {"args": ["$$(anything)", "$(unclosed", "$ (x)", "costs $5"]},
        {"args": ["$(from_a_config_map)"], "envFrom": [{"configMapRef": {"name": "c"}}]},
        {"args": [5]},
    ],
)
def test_references_that_are_there(fields: Mapping[str, Any]) -> None:
    spec.parse(resource(**with_container(**fields)))


OPTIMIZERS: dict[str, Any] = {
    "optimizer": {"choice": ["adam", "sgd"]},
    "momentum": {"double": [0.5, 0.99], "when": {"optimizer": "sgd"}},
}
WHERE = "template.spec.containers[0]."


def test_a_parameter_with_a_condition() -> None:
    args = ["--optimizer=$(optimizer)", "--momentum=$(momentum)", "$(momentum)"]
    made = spec.parse(resource(parameters=OPTIMIZERS, **with_container(args=args)))
    assert made.parameters["momentum"] == Double(0.5, 0.99, when=(("optimizer", ("sgd",)),))
    assert made.space.independent == ("momentum",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"args": ["--optimizer=$(optimizer)", "--momentum", "$(momentum)"]},
            WHERE
            + "args[2]: momentum is not there in every trial, and an argument that names it is dropped whole, but "
            "--momentum before it is not; write one argument, for example --momentum=$(momentum), or read it in the "
            "program",
        ),
        (
            {"command": ["sh", "-c", "train --momentum=$(momentum)"]},
            WHERE + "command[2]: momentum is not there in every trial, and an argument that names it is dropped whole, "
            "but -c before it is not; write one argument, for example --momentum=$(momentum), or read it in the "
            "program",
        ),
        (
            {"command": ["train", "-m"], "args": ["$(M)"], "env": [{"name": "M", "value": "$(momentum)"}]},
            WHERE + "args[0]: M is not there in every trial, and an argument that names it is dropped whole, but -m "
            "before it is not; write one argument, for example --M=$(M), or read it in the program",
        ),
        (
            {"command": ["train-$(momentum)"]},
            WHERE + "command[0]: $(momentum) is not there in every trial, and the command would be dropped with it",
        ),
        (
            {"args": ["--momentum=$(momentum)"]},
            WHERE + "args: each names a parameter that is not there in every trial; add one that does not",
        ),
    ],
)
def test_arguments_that_make_no_sense_without_the_parameter(fields: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        spec.parse(resource(parameters=OPTIMIZERS, **with_container(**fields)))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("$(a)", ["a"]),
        ("x$(a)y$(b)", ["a", "b"]),
        ("$$(a)", []),
        ("$$$(a)", ["a"]),
        ("$$$$(a)", []),
        ("$(a", []),
        ("$a", []),
        ("$()", [""]),
        ("$(a)$$(b)$(c)", ["a", "c"]),
        ("$(a b)", ["a b"]),
    ],
)
def test_references_by_the_rule_of_kubernetes(text: str, found: list[str]) -> None:
    assert spec.references(text) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("1d2h3m4s", 93784), ("0h1s", 1), ("120m", 7200)],
)
def test_durations(text: str, seconds: float) -> None:
    assert spec.duration(text, "deadline.trial") == seconds


@pytest.mark.parametrize("text", ["", "5", "1.5h", "-1h", "1h ", "1m1h", "1w", "h", "1H", "1h30"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        spec.duration(text, "deadline.trial")
    assert str(error.value) == (f"deadline.trial: {text!r} is not a duration; write for example 90s, 15m, 1h30m or 2d")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("accuracy=0.91", [("accuracy", "0.91")]),
        ("epoch 3: loss=1e-3 val/acc: .5", [("loss", "1e-3"), ("val/acc", ".5")]),
        ("loss = nan", [("loss", "nan")]),
        ("loss=-Infinity", [("loss", "-Infinity")]),
        ("loss=+2.", [("loss", "+2.")]),
        ("nothing here", []),
    ],
)
def test_the_default_pattern_finds_metrics_in_a_line(line: str, found: list[tuple[str, str]]) -> None:
    assert [(match["metric"], match["value"]) for match in re.finditer(spec.DEFAULT_PATTERN, line)] == found


@pytest.mark.parametrize(
    ("name", "number", "attempt", "expected"),
    [
        ("digits", 17, 1, "digits-4b0d6cd6-17-1"),
        ("a.b", 0, 12, "a-b-4b0d6cd6-0-12"),
        ("x" * 63, 99999, 20, "x" * 45 + "-4b0d6cd6-99999-20"),
        ("x" * 44 + "-.-" + "y" * 10, 99999, 20, "x" * 44 + "-4b0d6cd6-99999-20"),
    ],
)
def test_name_of_a_job(name: str, number: int, attempt: int, expected: str) -> None:
    assert names.job_name(name, UID, number, attempt) == expected


DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = strategies.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,80}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?){0,3}", fullmatch=True
)


@hypothesis.settings(deadline=None, derandomize=True)
@hypothesis.given(DNS_SUBDOMAIN, strategies.uuids().map(str), strategies.integers(0, 10**9), strategies.integers(1, 99))
def test_name_of_a_job_is_a_dns_label_of_this_attempt_only(name: str, uid: str, number: int, attempt: int) -> None:
    job = names.job_name(name, uid, number, attempt)
    assert DNS_LABEL.fullmatch(job)
    assert len(job) <= 63
    assert job.endswith(f"-{number}-{attempt}")
    others = [names.job_name(name, uid, number, attempt + 1), names.job_name(name, uid, number + 1, attempt)]
    assert job not in [*others, names.job_name(name, uid + "x", number, attempt)]


def test_an_experiment_made_again_has_another_study() -> None:
    assert names.study_name("team-a", "digits", UID) == "team-a/digits-4b0d6cd6"
    assert names.study_name("team-a", "digits", "other") != names.study_name("team-a", "digits", UID)
