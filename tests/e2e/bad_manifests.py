"""A hundred and more ways to write an Experiment wrong, each a small change of a good one, and what is then said.

``ADMISSION``: the API server refuses it. ``INVALID``: only the operator can see it; it becomes condition Invalid and
nothing is created.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
ADMISSION = "admission"
INVALID = "Invalid"
DROP = object()  # in place of a value: the field is left out

GOOD: Json = {
    "apiVersion": "kubetune.dev/v1alpha1",
    "kind": "Experiment",
    "metadata": {"name": "good"},
    "spec": {
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "parameters": {
            "lr": {"double": [0.0001, 0.1], "scale": "log"},
            "layers": {"int": [1, 4]},
            "activation": {"choice": ["relu", "tanh"]},
        },
        "maxTrials": 40,
        "parallelism": {"max": 4},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "trial",
                        "image": "digits:1",
                        "args": ["--lr=$(lr)", "--layers=$(layers)", "--activation=$(activation)"],
                    }
                ]
            }
        },
    },
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One mistake. ``changes``: path below ``spec`` (``/`` between its parts) → value or `DROP`."""

    id: str
    changes: Mapping[str, Any]
    kind: str
    expected: str  # a part of what is said

    def manifest(self) -> Json:
        body = copy.deepcopy(GOOD)
        body["metadata"]["name"] = self.id
        for path, value in self.changes.items():
            _put(body, ["metadata", "name"] if path == "metadata.name" else ["spec", *path.split("/")], value)
        return body


def _put(body: Any, path: list[str], value: Any) -> None:
    *parents, last = [int(part) if part.isdigit() else part for part in path]
    for part in parents:
        body = body[part] if isinstance(part, int) else body.setdefault(part, {})
    if value is DROP:
        del body[last]
    else:
        body[last] = copy.deepcopy(value)


CONTAINER = "template/spec/containers/0"
TWO = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "loss", "direction": "minimize"}]
NAMED = "letters, digits and _"
DURATION = "for example 90s, 15m, 1h30m or 2d"


def _admission(prefix: str, *cases: tuple[str, Mapping[str, Any], str]) -> list[Case]:
    return [Case(f"{prefix}-{name}", changes, ADMISSION, expected) for name, changes, expected in cases]


def _invalid(prefix: str, *cases: tuple[str, Mapping[str, Any], str]) -> list[Case]:
    return [Case(f"{prefix}-{name}", changes, INVALID, expected) for name, changes, expected in cases]


_SHAPE = _admission(
    "shape",
    ("no-template", {"template": DROP}, "spec.template: Required value"),
    ("no-parameters", {"parameters": DROP}, "spec.parameters: Required value"),
    ("empty-parameters", {"parameters": {}}, "spec.parameters in body should have at least 1 properties"),
    ("typo-max-trial", {"maxTrial": 10}, 'unknown field "spec.maxTrial"'),
    ("typo-parallel", {"parallelism": {"maximum": 3}}, 'unknown field "spec.parallelism.maximum"'),
    ("typo-objective", {"objective/goal": 0.9}, 'unknown field "spec.objective.goal"'),
    ("typo-parameter", {"parameters/lr/log": True}, 'unknown field "spec.parameters.lr.log"'),
    ("typo-metrics", {"metrics": {"source": "log"}}, 'unknown field "spec.metrics.source"'),
    ("typo-deadline", {"deadline": {"trials": "1h"}}, 'unknown field "spec.deadline.trials"'),
    ("not-yet-budget", {"budget": {"gpuHours": 4}}, 'unknown field "spec.budget"'),
    ("parallelism-number", {"parallelism": 4}, "spec.parallelism: Invalid value"),
    ("suspend-text", {"suspend": "no"}, "spec.suspend in body must be of type boolean"),
    ("parameters-list", {"parameters": ["lr"]}, "spec.parameters in body must be of type object"),
    ("name-too-long", {"metadata.name": "n" * 64}, "at most 63 characters"),
)
_OBJECTIVES = _admission(
    "objective",
    ("none", {"objective": DROP}, "give exactly one of spec.objective"),
    ("both", {"objectives": TWO}, "give exactly one of spec.objective"),
    ("no-metric", {"objective": {"direction": "maximize"}}, "spec.objective.metric: Required value"),
    ("empty-metric", {"objective/metric": ""}, "spec.objective.metric in body should be at least 1 chars long"),
    ("long-metric", {"objective/metric": "m" * 129}, "spec.objective.metric: Too long"),
    ("no-direction", {"objective": {"metric": "accuracy"}}, "spec.objective.direction: Required value"),
    ("direction", {"objective/direction": "max"}, 'supported values: "maximize", "minimize"'),
    ("value", {"objective/value": "first"}, 'supported values: "last", "best", "mean", "min", "max"'),
    ("target-text", {"objective/target": "high"}, "spec.objective.target in body must be of type number"),
    ("window-alone", {"objective/window": 3}, "set value: mean"),
    ("window-best", {"objective/window": 3, "objective/value": "best"}, "window goes with value: mean only"),
    ("window-zero", {"objective/window": 0, "objective/value": "mean"}, "greater than or equal to 1"),
    ("window-huge", {"objective/window": 1001, "objective/value": "mean"}, "less than or equal to 1000"),
    ("empty-list", {"objective": DROP, "objectives": []}, "spec.objectives in body should have at least 1 items"),
    ("twice", {"objective": DROP, "objectives": [TWO[0], TWO[0]]}, "spec.objectives[1]: Duplicate value"),
    (
        "too-many",
        {"objective": DROP, "objectives": [{"metric": f"m{n}", "direction": "minimize"} for n in range(9)]},
        "spec.objectives: Too many",
    ),
    (
        "list-direction",
        {"objective": DROP, "objectives": [TWO[0], {"metric": "loss", "direction": "down"}]},
        "spec.objectives[1].direction: Unsupported value",
    ),
    (
        "pruner-with-two",
        {"objective": DROP, "objectives": TWO, "pruner": {"name": "median"}},
        "with several objectives use pruner: {name: none}",
    ),
)
_RANGES = _admission(
    "range",
    ("double-reversed", {"parameters/lr/double": [0.1, 0.001]}, "double: [min, max] needs min below max"),
    ("double-equal", {"parameters/lr/double": [0.1, 0.1]}, "double: [min, max] needs min below max"),
    ("double-one", {"parameters/lr/double": [0.1]}, "spec.parameters.lr.double in body should have at least 2 items"),
    ("double-three", {"parameters/lr/double": [0.1, 0.2, 0.3]}, "spec.parameters.lr.double: Too many"),
    (
        "double-text",
        {"parameters/lr/double": ["0.1", "1"]},
        "spec.parameters.lr.double[0] in body must be of type number",
    ),
    ("double-huge", {"parameters/lr": {"double": [0, 1e301]}}, "must lie within -1e300 and 1e300"),
    ("int-reversed", {"parameters/layers/int": [4, 1]}, "int: [min, max] needs min below max"),
    ("int-equal", {"parameters/layers/int": [4, 4]}, "int: [min, max] needs min below max"),
    (
        "int-fraction",
        {"parameters/layers/int": [1, 4.5]},
        "spec.parameters.layers.int[1] in body must be of type integer",
    ),
    ("int-empty", {"parameters/layers/int": []}, "spec.parameters.layers.int in body should have at least 2 items"),
    ("int-huge", {"parameters/layers/int": [0, 2**60]}, "less than or equal to 9007199254740992"),
    ("log-zero", {"parameters/lr/double": [0, 0.1]}, "scale: log needs min > 0"),
    ("log-negative", {"parameters/lr/double": [-1, 0.1]}, "scale: log needs min > 0"),
    ("log-int-zero", {"parameters/layers": {"int": [0, 4], "scale": "log"}}, "scale: log needs min > 0"),
    ("log-step", {"parameters/lr/step": 0.01}, "scale: log and step exclude each other"),
    ("log-int-step", {"parameters/layers": {"int": [1, 8], "scale": "log", "step": 2}}, "exclude each other"),
    ("scale", {"parameters/lr/scale": "logarithmic"}, 'supported values: "linear", "log"'),
    ("step-zero", {"parameters/lr": {"double": [0, 1], "step": 0}}, "step must be above 0"),
    ("step-negative", {"parameters/layers/step": -1}, "step must be above 0"),
    ("step-wide", {"parameters/lr": {"double": [0, 1], "step": 1.5}}, "step must be at most max - min"),
    ("step-wide-int", {"parameters/layers/step": 4}, "step must be at most max - min"),
    ("step-fraction", {"parameters/layers/step": 0.5}, "step of an int must be a whole number"),
    ("step-text", {"parameters/layers/step": "2"}, "spec.parameters.layers.step in body must be of type number"),
)
_CHOICES = _admission(
    "choice",
    ("empty", {"parameters/activation/choice": []}, "spec.parameters.activation.choice in body should have at least 1"),
    ("twice", {"parameters/activation/choice": ["relu", "relu"]}, "choice[1]: Duplicate value"),
    ("numbers", {"parameters/activation/choice": [1, 2]}, "choice[0] in body must be of type string"),
    ("too-many", {"parameters/activation/choice": [f"c{n}" for n in range(257)]}, "choice: Too many"),
    ("too-long", {"parameters/activation/choice": ["c" * 1025]}, "choice[0]: Too long"),
    ("where-text", {"where": "lr < 1"}, "spec.where in body must be of type array"),
    ("where-many", {"where": [f"lr < {n}" for n in range(17)]}, "spec.where: Too many"),
    ("where-long", {"where": ["lr < 1" + " " * 256]}, "spec.where[0]: Too long"),
    ("ordered-double", {"parameters/lr/ordered": True}, "ordered is for choice and values"),
    ("ordered-bool", {"parameters/b": {"bool": {}, "ordered": True}}, "ordered is for choice and values"),
    ("weights-int", {"parameters/layers/weights": [1, 2]}, "weights are for choice, values and bool"),
    ("weights-few", {"parameters/activation/weights": [1]}, "weights needs one number for each value"),
    ("weights-bool", {"parameters/b": {"bool": {}, "weights": [1, 2, 3]}}, "weights needs one number for each value"),
    ("weights-values", {"parameters/b": {"values": [1, 2], "weights": [1]}}, "weights needs one number for each value"),
    (
        "weights-zero",
        {"parameters/activation/weights": [1, 0]},
        "spec.parameters.activation.weights[1] in body should be",
    ),
    (
        "weights-ordered",
        {"parameters/activation": {"choice": ["a", "b"], "weights": [1, 2], "ordered": True}},
        "ordered and weights exclude each other",
    ),
    ("prior-choice", {"parameters/activation/prior": {"normal": {"mean": 0, "std": 1}}}, "prior is for double and int"),
    (
        "prior-scale",
        {"parameters/lr/prior": {"normal": {"mean": 0.01, "std": 1}}},
        "prior: normal goes with scale: linear, logNormal with scale: log",
    ),
    (
        "prior-scale-int",
        {"parameters/layers/prior": {"logNormal": {"median": 2, "factor": 2}}},
        "prior: normal goes with scale: linear, logNormal with scale: log",
    ),
    (
        "prior-outside",
        {"parameters/layers/prior": {"normal": {"mean": 4.5, "std": 1}}},
        "prior: mean must lie within min and max",
    ),
    (
        "prior-outside-log",
        {"parameters/lr/prior": {"logNormal": {"median": 1, "factor": 2}}},
        "prior: median must lie within min and max",
    ),
    (
        "prior-two",
        {"parameters/lr/prior": {"normal": {"mean": 0.01, "std": 1}, "logNormal": {"median": 0.01, "factor": 2}}},
        "spec.parameters.lr.prior: Too many",
    ),
    (
        "prior-factor",
        {"parameters/lr/prior": {"logNormal": {"median": 0.01, "factor": 1}}},
        "spec.parameters.lr.prior.logNormal.factor in body should be greater than 1",
    ),
    (
        "prior-std",
        {"parameters/layers/prior": {"normal": {"mean": 2, "std": 0}}},
        "spec.parameters.layers.prior.normal.std in body should be greater than 0",
    ),
    ("when-empty", {"parameters/lr/when": {}}, "spec.parameters.lr.when in body should have at least 1 properties"),
    ("when-list", {"parameters/lr/when": ["relu"]}, "spec.parameters.lr.when in body must be of type object"),
    (
        "when-too-many",
        {"parameters/lr/when": {"layers": list(range(65))}},
        "spec.parameters.lr.when.layers: Too many",
    ),
    ("scale", {"parameters/activation/scale": "log"}, "scale and step are for double and int"),
    ("step", {"parameters/activation/step": 1}, "scale and step are for double and int"),
    ("values-empty", {"parameters/b": {"values": []}}, "spec.parameters.b.values in body should have at least 1 items"),
    ("values-twice", {"parameters/b": {"values": [1, 2, 1.0]}}, "values: each number once"),
    ("values-text", {"parameters/b": {"values": ["1"]}}, "spec.parameters.b.values[0] in body must be of type number"),
    ("values-step", {"parameters/b": {"values": [1, 2], "step": 1}}, "scale and step are for double and int"),
    ("values-too-many", {"parameters/b": {"values": list(range(65))}}, "spec.parameters.b.values: Too many"),
    ("bool-true", {"parameters/b": {"bool": True}}, "spec.parameters.b.bool in body must be of type object"),
    ("bool-scale", {"parameters/b": {"bool": {}, "scale": "log"}}, "scale and step are for double and int"),
)
_PARAMETERS = _admission(
    "parameter",
    ("nothing", {"parameters/b": {}}, "give exactly one of double, int, choice, values, bool"),
    ("only-scale", {"parameters/b": {"scale": "log"}}, "give exactly one of double, int, choice, values, bool"),
    ("two-kinds", {"parameters/lr/int": [1, 2]}, "give exactly one of double, int, choice, values, bool"),
    ("three-kinds", {"parameters/b": {"bool": {}, "int": [1, 2], "values": [1]}}, "give exactly one of double, int"),
    ("name-dash", {"parameters/learning-rate": {"double": [0, 1]}}, "rename learning-rate: a name is " + NAMED),
    ("name-dot", {"parameters/opt.lr": {"double": [0, 1]}}, "rename opt.lr: a name is " + NAMED),
    ("name-digit", {"parameters/2x": {"double": [0, 1]}}, "rename 2x: a name is " + NAMED),
    ("name-space", {"parameters/a b": {"double": [0, 1]}}, "rename a b: a name is " + NAMED),
    ("name-accent", {"parameters/größe": {"double": [0, 1]}}, "a name is " + NAMED),
    ("name-long", {"parameters/" + "p" * 64: {"double": [0, 1]}}, "has at most 63 characters"),
    ("name-path", {"parameters/PATH": {"double": [0, 1]}}, "rename PATH: it is an environment variable"),
    ("name-preload", {"parameters/LD_PRELOAD": {"choice": ["x"]}}, "rename LD_PRELOAD"),
    ("name-pythonpath", {"parameters/PYTHONPATH": {"choice": ["x"]}}, "rename PYTHONPATH"),
    ("name-kubernetes", {"parameters/KUBERNETES_SERVICE_HOST": {"choice": ["x"]}}, "rename KUBERNETES_SERVICE_HOST"),
    ("name-kubetune", {"parameters/KUBETUNE_TRIAL": {"int": [0, 1]}}, "rename KUBETUNE_TRIAL"),
    ("name-cuda", {"parameters/CUDA_VISIBLE_DEVICES": {"int": [0, 1]}}, "rename CUDA_VISIBLE_DEVICES"),
    ("too-many", {"parameters": {f"p{n}": {"int": [0, 1]} for n in range(65)}}, "spec.parameters: Too many"),
)
_ALGORITHMS = _admission(
    "algorithm",
    ("sampler", {"sampler": {"name": "bayes"}}, 'supported values: "tpe", '),
    ("sampler-text", {"sampler": "tpe"}, "spec.sampler: Invalid value"),
    ("sampler-settings-list", {"sampler": {"settings": ["x"]}}, "spec.sampler.settings in body must be of type object"),
    ("sampler-beside", {"sampler": {"nStartupTrials": 5}}, 'unknown field "spec.sampler.nStartupTrials"'),
    ("pruner", {"pruner": {"name": "mean"}}, 'supported values: "asha", "bandit", "hyperband", "median", "none"'),
    ("pruner-nameless", {"pruner": {"settings": {}}}, "spec.pruner.name: Required value"),
    (
        "cmaes-two",
        {"sampler": {"name": "cmaes"}, "objective": DROP, "objectives": TWO},
        "spec.sampler: cmaes, differentialEvolution and regularizedEvolution take one objective",
    ),
    (
        "cmaes-choices",
        {"sampler": {"name": "cmaes"}, "parameters/lr": DROP, "parameters/layers": DROP},
        "spec.sampler: cmaes needs a double or an int in spec.parameters",
    ),
    ("brute-double", {"sampler": {"name": "bruteForce"}}, "need a step for every double"),
    ("grid-double", {"sampler": {"name": "grid"}}, "need a step for every double"),
    (
        "grid-plain",
        {"sampler": {"name": "grid"}, "parameters/lr": {"double": [0, 1]}},
        "need a step for every double",
    ),
    ("metrics-from", {"metrics": {"from": "stdout"}}, 'supported values: "push", "log"'),
    ("metrics-push-pattern", {"metrics": {"pattern": "(?P<metric>a)(?P<value>b)"}}, "set from: log"),
    ("metrics-push-format", {"metrics": {"format": "json"}}, "set from: log"),
    ("metrics-format", {"metrics": {"from": "log", "format": "yaml"}}, 'supported values: "text", "json"'),
    (
        "metrics-json-pattern",
        {"metrics": {"from": "log", "format": "json", "pattern": "(?P<metric>a)(?P<value>b)"}},
        "metrics.pattern is for lines of text",
    ),
    ("metrics-push-step", {"metrics": {"from": "push", "step": "epoch"}}, "set from: log"),
    ("metrics-groups", {"metrics": {"from": "log", "pattern": "acc=(.*)"}}, "(?P<metric>...) and (?P<value>...)"),
    ("metrics-one-group", {"metrics": {"from": "log", "pattern": "(?P<value>.*)"}}, "needs the named groups"),
    ("metrics-empty", {"metrics": {"from": "log", "pattern": ""}}, "spec.metrics.pattern in body should be at least 1"),
)
_LIMITS = _admission(
    "limit",
    ("folds-one", {"validation": {"folds": 1}}, "spec.validation.folds in body should be greater than or equal to 2"),
    ("validation-empty", {"validation": {}}, "spec.validation in body should have at least 1 properties"),
    ("replicates-one", {"replicates": {"max": 1}}, "spec.replicates.max in body should be greater than or equal to 2"),
    (
        "folds-fidelity",
        {"validation": {"folds": 5}, "fidelity": {"name": "epochs", "max": 9}},
        "spec.fidelity goes with neither validation.folds nor replicates",
    ),
    ("replicates-order", {"replicates": {"max": 3, "min": 4}}, "replicates.min is above replicates.max"),
    (
        "replicates-pruner",
        {"replicates": {"max": 3}, "pruner": {"name": "median"}},
        "spec.pruner: with replicates a race",
    ),
    (
        "replicates-several",
        {"objective": DROP, "objectives": TWO, "replicates": {"max": 3}},
        "spec.replicates: trials race by one objective",
    ),
    ("trials-zero", {"maxTrials": 0}, "spec.maxTrials in body should be greater than or equal to 1"),
    ("trials-negative", {"maxTrials": -5}, "spec.maxTrials in body should be greater than or equal to 1"),
    ("trials-huge", {"maxTrials": 1000001}, "spec.maxTrials in body should be less than or equal to 1000000"),
    ("trials-text", {"maxTrials": "40"}, "spec.maxTrials in body must be of type integer"),
    ("trials-fraction", {"maxTrials": 4.5}, "spec.maxTrials in body must be of type integer"),
    (
        "stop-no-trials",
        {"stop": {"noImprovement": {"minDelta": 0.1}}},
        "spec.stop.noImprovement.trials: Required value",
    ),
    (
        "stop-trials",
        {"stop": {"noImprovement": {"trials": 0}}},
        "spec.stop.noImprovement.trials in body should be greater than or equal to 1",
    ),
    (
        "stop-delta",
        {"stop": {"noImprovement": {"trials": 5, "minDelta": -1}}},
        "spec.stop.noImprovement.minDelta in body should be greater than or equal to 0",
    ),
    (
        "stop-with-two",
        {"objective": DROP, "objectives": TWO, "stop": {"noImprovement": {"trials": 5}}},
        "spec.stop.noImprovement judges one objective",
    ),
    (
        "regret-of-what",
        {"stop": {"regretBound": {"minTrials": 30}}},
        "spec.stop.regretBound.below: say what gain is not worth a trial",
    ),
    (
        "regret-nothing",
        {"stop": {"regretBound": {"below": 0}}},
        "spec.stop.regretBound.below in body should be greater than 0",
    ),
    (
        "regret-at-once",
        {"stop": {"regretBound": {"below": 0.1, "minTrials": 1}}},
        "spec.stop.regretBound.minTrials in body should be greater than or equal to 2",
    ),
    (
        "regret-with-two",
        {"objective": DROP, "objectives": TWO, "stop": {"regretBound": {"below": 0.1}}},
        "spec.stop.regretBound judges one objective",
    ),
    (
        "regret-of-a-population",
        {"sampler": {"name": "pbt"}, "stop": {"regretBound": {"below": 0.1}}},
        "spec.stop.regretBound: a trial of a population goes on",
    ),
    (
        "finalists-none",
        {"finalists": {"top": 0}},
        "spec.finalists.top in body should be greater than or equal to 1",
    ),
    (
        "finalists-not-run",
        {"finalists": {"replicates": 0}},
        "spec.finalists.replicates in body should be greater than or equal to 1",
    ),
    (
        "finalists-with-two",
        {"objective": DROP, "objectives": TWO, "finalists": {"top": 2}},
        "spec.finalists: several objectives have no one winner",
    ),
    (
        "refit-name",
        {"refit": {"name": "Second Look"}},
        "lower-case letters, digits and - between them, for example second-look",
    ),
    (
        "finalists-name",
        {"finalists": {"name": "again."}},
        "lower-case letters, digits and - between them, for example second-look",
    ),
    ("refit-deadline", {"refit": {"deadline": "2 hours"}}, "write a duration above zero in days"),
    ("test-deadline", {"test": {"deadline": "0m"}}, "write a duration above zero in days"),
    (
        "test-with-two",
        {"objective": DROP, "objectives": TWO, "test": {"args": ["--score"]}},
        "spec.refit and spec.test: several objectives have no one winner",
    ),
    ("test-mount", {"test": {"volumeMounts": [{"name": "held-out"}]}}, "spec.test.volumeMounts[0].mountPath: Required"),
    ("failed-negative", {"maxFailedTrials": -1}, "spec.maxFailedTrials in body should be greater than or equal to 0"),
    (
        "parallelism-negative",
        {"parallelism/max": -1},
        "spec.parallelism.max in body should be greater than or equal to 0",
    ),
    (
        "parallelism-min-negative",
        {"parallelism/min": -1},
        "spec.parallelism.min in body should be greater than or equal",
    ),
    ("parallelism-min-above-max", {"parallelism": {"min": 5, "max": 4}}, "lower it, or leave it out"),
    ("parallelism-min-alone", {"parallelism": {"min": 2}}, "parallelism.min is above parallelism.max"),
    ("priority-high", {"priority": 11}, "spec.priority in body should be less than or equal to 10"),
    ("priority-low", {"priority": -11}, "spec.priority in body should be greater than or equal to -10"),
    ("priority-word", {"priority": "high"}, "spec.priority in body must be of type integer"),
    ("execution-unknown", {"execution": "pods"}, 'spec.execution: Unsupported value: "pods"'),
    ("workers-command", {"execution": "workers"}, "write command: [python, train.py]"),
    (
        "workers-log",
        {"execution": "workers", f"{CONTAINER}/command": ["python"], "metrics": {"from": "log"}},
        "with execution: workers report with the client",
    ),
    (
        "workers-beside",
        {
            "execution": "workers",
            f"{CONTAINER}/command": ["python"],
            "template/spec/containers": [
                {"name": "trial", "image": "digits:1", "command": ["python"]},
                {"name": "beside", "image": "digits:1"},
            ],
        },
        "leave one in spec.template.spec.containers",
    ),
    ("slots-none", {"slotsPerWorker": 0}, "spec.slotsPerWorker in body should be greater than or equal to 1"),
    ("slots-many", {"slotsPerWorker": 65}, "spec.slotsPerWorker in body should be less than or equal to 64"),
    ("parallelism-huge", {"parallelism/max": 100001}, "spec.parallelism.max in body should be less than or equal to"),
    ("parallelism-text", {"parallelism/max": "4"}, "spec.parallelism.max in body must be of type integer"),
    ("deadline-number", {"deadline": {"trial": 60}}, "spec.deadline.trial in body must be of type string"),
    ("deadline-word", {"deadline": {"trial": "1 hour"}}, DURATION),
    ("deadline-unitless", {"deadline": {"experiment": "3600"}}, DURATION),
    ("deadline-order", {"deadline": {"experiment": "30m1h"}}, DURATION),
    ("deadline-zero", {"deadline": {"trial": "0s"}}, DURATION),
    ("deadline-empty", {"deadline": {"trial": ""}}, DURATION),
    ("deadline-fraction", {"deadline": {"trial": "1.5h"}}, DURATION),
    ("seed-negative", {"seed": -1}, "spec.seed in body should be greater than or equal to 0"),
    ("seed-text", {"seed": "seven"}, "spec.seed in body must be of type integer"),
    ("seed-huge", {"seed": 2**32}, "spec.seed in body should be less than or equal to 4294967295"),
    ("checkpoints-nowhere", {"checkpoints": {"keep": 1}}, "spec.checkpoints: give claim"),
    ("checkpoints-both", {"checkpoints": {"claim": "c", "s3": {}}}, "spec.checkpoints: give claim"),
    ("checkpoints-name", {"checkpoints": {"claim": "My Claim"}}, "name a PersistentVolumeClaim"),
    ("checkpoints-outside", {"checkpoints": {"claim": "c", "path": "../x"}}, "write folders within the claim"),
    ("checkpoints-root", {"checkpoints": {"claim": "c", "path": "/x"}}, "write folders within the claim"),
    ("checkpoints-none", {"checkpoints": {"claim": "c", "keep": 0}}, "spec.checkpoints.keep in body should be greater"),
    ("checkpoints-log", {"checkpoints": {"claim": "c"}, "metrics": {"from": "log"}}, "leave metrics.from at push"),
    ("init-nowhere", {"initCheckpoint": {}}, "spec.initCheckpoint: give claim"),
    ("init-both", {"initCheckpoint": {"claim": "c", "from": {"experiment": "a"}}}, "spec.initCheckpoint: give claim"),
    (
        "init-path",
        {"initCheckpoint": {"from": {"experiment": "a"}, "path": "x"}},
        "spec.initCheckpoint.path: it is a folder on a claim",
    ),
    ("init-nobody", {"initCheckpoint": {"from": {"trial": 3}}}, "spec.initCheckpoint.from.experiment: Required value"),
    (
        "init-trial",
        {"initCheckpoint": {"from": {"experiment": "a", "trial": -1}}},
        "spec.initCheckpoint.from.trial in body should be greater",
    ),
    ("init-key", {"initCheckpoint": {"s3": {"key": "../x", "sha256": "0" * 64}}}, "write a key within the namespace"),
    ("init-sum", {"initCheckpoint": {"s3": {"key": "x.tar", "sha256": "0"}}}, "as sha256sum prints it"),
    ("init-unsummed", {"initCheckpoint": {"s3": {"key": "x"}}}, "spec.initCheckpoint.s3.sha256: Required value"),
    (
        "init-object-log",
        {"initCheckpoint": {"s3": {"key": "x", "sha256": "0" * 64}}, "metrics": {"from": "log"}},
        "leave metrics.from at push",
    ),
    ("init-outside", {"initCheckpoint": {"claim": "c", "path": "a/../b"}}, "write folders within the claim"),
    ("stop-negative", {"stopTrials": [-1]}, "spec.stopTrials[0] in body should be greater than or equal to 0"),
    ("stop-twice", {"stopTrials": [3, 3]}, "spec.stopTrials[1]: Duplicate value"),
    ("stop-text", {"stopTrials": ["3"]}, "spec.stopTrials[0] in body must be of type integer"),
)
_TEMPLATE = _admission(
    "template",
    (
        "quantity",
        {CONTAINER + "/resources": {"limits": {"memory": "lots", "cpu": "500m", "nvidia.com/gpu": 1}}},
        "spec.template.spec.containers[0].resources.limits[memory]: Invalid value",
    ),
    (
        "quantity-words",
        {CONTAINER + "/resources": {"requests": {"memory": "2 GB"}}},
        "write an amount such as 2, 500m or 512Mi",
    ),
    ("no-spec", {"template": {}}, "spec.template.spec: Required value"),
    ("no-containers", {"template/spec": {}}, "spec.template.spec.containers: Required value"),
    (
        "empty-containers",
        {"template/spec/containers": []},
        "spec.template.spec.containers in body should have at least 1",
    ),
    ("no-image", {CONTAINER + "/image": DROP}, "spec.template.spec.containers[0].image: Required value"),
    ("no-name", {CONTAINER + "/name": DROP}, "spec.template.spec.containers[0].name: Required value"),
    ("empty-image", {CONTAINER + "/image": ""}, "spec.template.spec.containers[0].image in body should be at least 1"),
    ("args-text", {CONTAINER + "/args": "--lr=$(lr)"}, "containers[0].args in body must be of type array"),
    ("args-number", {CONTAINER + "/args": ["--epochs", 3]}, "containers[0].args[1] in body must be of type string"),
    (
        "command-text",
        {CONTAINER + "/command": "python train.py"},
        "containers[0].command in body must be of type array",
    ),
    (
        "too-many",
        {"template/spec/containers": [{"name": f"c{n}", "image": "x"} for n in range(17)]},
        "spec.template.spec.containers: Too many",
    ),
)
_BEYOND = _invalid(
    "beyond",
    ("gradient-choice", {"sampler": {"name": "gradient"}}, "parameters.activation: gradient moves along continuous"),
    ("qmc-type", {"sampler": {"name": "qmc", "settings": {"qmcType": "lhs"}}}, "needs one of sobol, halton"),
    ("auto-settings", {"sampler": {"name": "auto", "settings": {"seed": 1}}}, "auto has no such setting"),
    ("unknown-reference", {CONTAINER + "/args": ["--lr=$(learning_rate)"]}, "$(learning_rate) is neither a parameter"),
    ("unknown-in-command", {CONTAINER + "/command": ["train", "$(epochs)"]}, "command[1]: $(epochs) is neither"),
    (
        "unknown-in-sidecar",
        {"template/spec/containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x", "args": ["$(z)"]}]},
        "template.spec.containers[1].args[0]: $(z)",
    ),
    (
        "env-clash",
        {CONTAINER + "/env": [{"name": "lr", "value": "0.1"}]},
        "lr is a parameter; it is set by kubetune, remove it from env",
    ),
    ("where-unknown", {"where": ["lr < 1", "width > layers"]}, "where[1]: there is no parameter width; there are"),
    ("where-code", {"where": ["__import__('os')"]}, "has something that is not in the language; write for example"),
    ("where-none", {"where": ["layers > 4"]}, "none fulfils layers > 4; correct it, or widen the ranges"),
    (
        "when-unknown",
        {"parameters/lr/when": {"optimizer": "sgd"}},
        "parameters.lr.when: there is no parameter optimizer; there are activation, layers, lr",
    ),
    (
        "when-value",
        {"parameters/lr/when": {"activation": ["relu", "gelu"]}},
        "parameters.lr.when.activation: 'gelu' is no value of activation, which is one of relu, tanh",
    ),
    (
        "when-double",
        {"parameters/layers/when": {"lr": 0.01}},
        "parameters.layers.when: lr is a double; a condition names values of a choice, values, bool or int",
    ),
    (
        "when-circle",
        {"parameters/layers/when": {"activation": "relu"}, "parameters/activation/when": {"layers": 1}},
        "conditions go in a circle: activation needs layers needs activation",
    ),
    (
        "when-never",
        {
            "parameters/layers/when": {"activation": "relu"},
            "parameters/b": {"bool": {}, "when": {"layers": 2, "activation": "tanh"}},
        },
        "parameters.b.when: no trial can have b: the conditions on the way to it ask for different values of",
    ),
    (
        "when-two-words",
        {"parameters/lr/when": {"activation": "relu"}, CONTAINER + "/args": ["--lr", "$(lr)"]},
        "an argument that names it is dropped whole, but --lr before it is not; write one argument",
    ),
    (
        "sampler-setting",
        {"sampler": {"name": "tpe", "settings": {"startupTrials": 5}}},
        "sampler.settings.startupTrials: tpe has no such setting; its settings are",
    ),
    (
        "sampler-setting-type",
        {"sampler": {"name": "tpe", "settings": {"nStartupTrials": "ten"}}},
        "sampler.settings.nStartupTrials: needs a whole number of at least 0",
    ),
    (
        "sampler-setting-bound",
        {"sampler": {"settings": {"nEiCandidates": 0}}},
        "sampler.settings.nEiCandidates: needs a whole number of at least 1",
    ),
    (
        "sampler-setting-range",
        {"sampler": {"name": "nsgaii", "settings": {"crossoverProb": 2}}},
        "sampler.settings.crossoverProb: needs a number from 0 to 1, but is 2",
    ),
    (
        "sampler-settings-apart",
        {"sampler": {"name": "cmaes", "settings": {"useSeparableCma": True, "withMargin": True}}},
        "sampler.settings.withMargin: excludes useSeparableCma",
    ),
    (
        "sampler-setting-switch",
        {"sampler": {"settings": {"multivariate": "yes"}}},
        "sampler.settings.multivariate: needs true or false",
    ),
    (
        "random-setting",
        {"sampler": {"name": "random", "settings": {"seed": 5}}},
        "sampler.settings.seed: random has no such setting; it has no settings",
    ),
    (
        "pruner-setting",
        {"pruner": {"name": "median", "settings": {"warmup": 5}}},
        "pruner.settings.warmup: median has no such setting",
    ),
    (
        "pruner-setting-bound",
        {"pruner": {"name": "median", "settings": {"intervalSteps": 0}}},
        "pruner.settings.intervalSteps: needs a whole number of at least 1",
    ),
    (
        "pruner-needs",
        {"pruner": {"name": "hyperband"}},
        "pruner.settings.maxResource: hyperband needs it; it has no default",
    ),
    (
        "pruner-one-of-two",
        {"pruner": {"name": "bandit", "settings": {"slackFactor": 0.1, "slackAmount": 0.1}}},
        "pruner.settings: bandit needs one of slackFactor and slackAmount",
    ),
    (
        "pruner-in-pruner",
        {"pruner": {"name": "patience", "settings": {"patience": 3, "pruner": {"name": "mean"}}}},
        "pruner.settings.pruner.name: there is no pruner 'mean'",
    ),
    ("none-setting", {"pruner": {"name": "none", "settings": {"a": 1}}}, "pruner.settings.a: none has no such setting"),
    (
        "pattern-broken",
        {"metrics": {"from": "log", "pattern": "(?P<metric>a=(?P<value>.*)"}},
        "metrics.pattern:",
    ),
    (
        "pattern-look-ahead",
        {"metrics": {"from": "log", "pattern": "(?=a)(?P<metric>a)=(?P<value>.*)"}},
        "it has no look-around or back-references",
    ),
    ("step-broken", {"metrics": {"from": "log", "step": "epoch|("}}, "metrics.step:"),
    ("job-container-name", {CONTAINER + "/name": "My_Trial"}, "RFC 1123"),
    (
        "job-mount",
        {CONTAINER + "/volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        "volumeMounts[0].name: Not found",
    ),
    (
        "job-resources",
        {CONTAINER + "/resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}},
        "must be less than or equal to memory limit",
    ),
    (
        "job-test-mount",
        {"test": {"volumeMounts": [{"name": "held-out", "mountPath": "/test"}]}},
        "test.volumeMounts[0]: the API server refuses its Job",
    ),
    (
        "job-test-volume",
        {"test": {"volumes": [{"name": "held-out", "configmap": {"name": "held-out"}}]}},
        'unknown field "spec.template.spec.volumes',
    ),
    (
        "job-refit-env",
        {"refit": {"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "a"}}}]}},
        "refit.env[0]: the API server refuses its Job",
    ),
)

_CONSTRAINTS = _admission(
    "constraint",
    ("empty", {"constraints": []}, "spec.constraints in body should have at least 1 items"),
    ("no-bound", {"constraints": [{"metric": "latency"}]}, "give max, min or both"),
    ("no-metric", {"constraints": [{"max": 1}]}, "spec.constraints[0].metric: Required value"),
    ("crossed", {"constraints": [{"metric": "latency", "max": 1, "min": 2}]}, "min is above max; lower it"),
    ("twice", {"constraints": [{"metric": "a", "max": 1}, {"metric": "a", "min": 0}]}, "Duplicate value"),
    (
        "text",
        {"constraints": [{"metric": "a", "max": "20ms"}]},
        "spec.constraints[0].max in body must be of type number",
    ),
)
_NARROW = [
    *_admission(
        "narrow",
        ("nothing", {"narrow": {"lr": {}}}, "spec.narrow.lr in body should have at least 1 properties"),
        ("crossed", {"narrow": {"lr": {"min": 0.01, "max": 0.001}}}, "narrow: min is above max; lower it"),
        ("mixed", {"narrow": {"lr": {"min": 0.01, "bool": True}}}, "narrow: give min and max, choice, values or bool"),
        ("list", {"narrow": {"lr": [0.01, 0.1]}}, "spec.narrow.lr in body must be of type object"),
    ),
    *_invalid(
        "narrow",
        ("unknown", {"narrow": {"rate": {"min": 1}}}, "narrow.rate: there is no such parameter"),
        ("beyond", {"narrow": {"lr": {"max": 1}}}, "narrow.lr.max: 1 is outside of what is declared"),
        ("kind", {"narrow": {"lr": {"choice": ["a"]}}}, "narrow.lr: it is 0.0001 to 0.1: give min, max or both"),
        (
            "choice",
            {"narrow": {"activation": {"choice": ["gelu"]}}},
            "narrow.activation.choice: 'gelu' is not declared",
        ),
        ("between", {"narrow": {"layers": {"min": 1.25, "max": 1.75}}}, "lies between min and max; widen them"),
        (
            "grid",
            {"narrow": {"layers": {"max": 2}}, "sampler": {"name": "grid"}, "parameters/lr": {"values": [0.1]}},
            "narrow: grid cannot be narrowed while it runs",
        ),
        (
            "cmaes",
            {"narrow": {"lr": {"max": 0.01}}, "sampler": {"name": "cmaes"}},
            "narrow: cmaes cannot be narrowed while it runs: its distribution is one of the whole box",
        ),
    ),
]
COARSE = {"maxTrials": 16, "sampler": {"name": "grid", "settings": {"points": 4}}}
_STAGES = [
    *_admission(
        "stages",
        ("none", {"stages": [], "maxTrials": DROP}, "spec.stages in body should have at least 1 items"),
        ("no-trials", {"stages": [{"name": "a"}], "maxTrials": DROP}, "spec.stages[0].maxTrials: Required value"),
        ("total", {"stages": [COARSE, {"maxTrials": 5}]}, "spec.maxTrials is the sum of the stages' maxTrials"),
        (
            "sampler",
            {"stages": [COARSE], "maxTrials": DROP, "sampler": {"name": "random"}},
            "spec.stages: each stage has its own sampler; leave spec.sampler out",
        ),
        (
            "first",
            {"stages": [{**COARSE, "narrow": {}}], "maxTrials": DROP},
            "spec.stages[0].narrow: nothing was found before the first stage",
        ),
        (
            "nowhere",
            {"stages": [COARSE, {"maxTrials": 5, "narrow": {"to": 0}}], "maxTrials": DROP},
            "spec.stages[1].narrow.to in body should be greater than 0",
        ),
        (
            "brute-force",
            {"stages": [{"maxTrials": 5, "sampler": {"name": "bruteForce"}}], "maxTrials": DROP},
            'spec.stages[0].sampler.name: Unsupported value: "bruteForce"',
        ),
    ),
    *_invalid(
        "stages",
        (
            "twice",
            {"stages": [{"name": "a", "maxTrials": 5}] * 2, "maxTrials": DROP},
            "stages[1].name: a is there twice",
        ),
        (
            "population",
            {
                "stages": [COARSE, {"maxTrials": 50, "sampler": {"name": "cmaes"}, "narrow": {}}],
                "maxTrials": DROP,
            },
            "stages[1].sampler.name: cmaes cannot be narrowed while an experiment runs",
        ),
        (
            "setting",
            {"stages": [{"maxTrials": 5, "sampler": {"name": "grid", "settings": {"points": 1}}}], "maxTrials": DROP},
            "stages[0].sampler.settings.points: needs a whole number of at least 2",
        ),
        (
            "initial",
            {"stages": [COARSE, {"maxTrials": 5}], "maxTrials": DROP, "initial": [{"layers": 1}]},
            "initial: grid tries every point of the space by itself",
        ),
    ),
]
_WARM = [
    *_admission(
        "warm",
        ("empty", {"warmStart": {"from": []}}, "spec.warmStart.from in body should have at least 1 items"),
        ("nothing", {"warmStart": {}}, "spec.warmStart.from: Required value"),
        ("studies", {"warmStart": {"from": ["a"], "studies": ["b"]}}, 'unknown field "spec.warmStart.studies"'),
        ("twice", {"warmStart": {"from": ["a", "a"]}}, "spec.warmStart.from[1]: Duplicate value"),
    ),
    *_invalid(
        "warm",
        ("unknown", {"warmStart": {"from": ["nobody"]}}, "warmStart.from[0]: there is no experiment nobody"),
        (
            "itself",
            {"warmStart": {"from": ["warm-itself"]}},
            "warmStart.from[0]: warm-itself is this experiment itself",
        ),
        (
            "random",
            {"warmStart": {"from": ["nobody"]}, "sampler": {"name": "random"}},
            "warmStart: random makes nothing of other experiments' trials",
        ),
    ),
]
_START = _invalid(
    "start",
    ("itself", {"initCheckpoint": {"from": {"experiment": "start-itself"}}}, "start-itself is this experiment itself"),
)
_GIVEN = [
    *_admission(
        "given",
        ("initial-empty", {"initial": []}, "spec.initial in body should have at least 1 items"),
        ("initial-nothing", {"initial": [{}]}, "spec.initial[0] in body should have at least 1 properties"),
        ("initial-number", {"initial": [5]}, "spec.initial[0] in body must be of type object"),
        ("initial-many", {"initial": [{"lr": 0.01}] * 1001}, "spec.initial: Too many"),
        ("enqueue-no-name", {"enqueue": [{"parameters": {"lr": 0.01}}]}, "spec.enqueue[0].name: Required value"),
        ("enqueue-no-parameters", {"enqueue": [{"name": "a"}]}, "spec.enqueue[0].parameters: Required value"),
        ("enqueue-name", {"enqueue": [{"name": "a b", "parameters": {"lr": 0.01}}]}, "enqueue names are letters"),
        (
            "enqueue-twice",
            {"enqueue": [{"name": "a", "parameters": {"lr": 0.01}}] * 2},
            "spec.enqueue[1]: Duplicate value",
        ),
    ),
    *_invalid(
        "given",
        ("initial-unknown", {"initial": [{"rate": 1}]}, "initial[0].rate: there is no such parameter"),
        ("initial-range", {"initial": [{"lr": 0.01}, {"lr": 1}]}, "initial[1].lr: 1 is no value of it"),
        ("initial-text", {"initial": [{"lr": "0.01"}]}, "initial[0].lr: '0.01' is no value of it"),
        ("initial-nested", {"initial": [{"lr": [0.01]}]}, "initial[0].lr: [0.01] is no value of it"),
        ("initial-choice", {"initial": [{"activation": "gelu"}]}, "which is one of relu, tanh"),
        ("initial-fraction", {"initial": [{"layers": 1.5}]}, "initial[0].layers: 1.5 is no value of it"),
        (
            "enqueue-range",
            {"enqueue": [{"name": "a", "parameters": {"layers": 9}}]},
            "enqueue[0].parameters.layers: 9 is no value of it, which is 1 to 4",
        ),
        (
            "initial-grid",
            {"initial": [{"layers": 1}], "sampler": {"name": "grid"}, "parameters/lr": {"values": [0.1]}},
            "initial: grid tries every point of the space by itself",
        ),
    ),
]

_PROMOTION = {"pruner": {"name": "asha", "settings": {"type": "promotion"}}}
_FIDELITY = [
    *_admission(
        "fidelity",
        ("no-max", {"fidelity": {"name": "epochs"}}, "spec.fidelity.max: Required value"),
        ("no-name", {"fidelity": {"max": 9}}, "spec.fidelity.name: Required value"),
        ("min-above-max", {"fidelity": {"name": "epochs", "min": 9, "max": 3}}, "spec.fidelity.min is above max"),
        (
            "nothing",
            {"fidelity": {"name": "epochs", "min": 0, "max": 3}},
            "spec.fidelity.min in body should be greater",
        ),
        ("a-parameter", {"fidelity": {"name": "lr", "max": 3}}, "spec.fidelity.name is a parameter too"),
        ("resume", {"fidelity": {"name": "e", "max": 3, "resume": "maybe"}}, "spec.fidelity.resume: Unsupported value"),
    ),
    *_invalid(
        "fidelity",
        ("promotion-of-what", _PROMOTION, "needs to know of what trials get more"),
        ("name", {"fidelity": {"name": "PATH", "max": 3}}, "cannot be a variable of trials"),
        ("type", {"pruner": {"name": "asha", "settings": {"type": "both"}}}, "needs one of stopping, promotion"),
    ),
]


CASES: list[Case] = [
    *_SHAPE,
    *_OBJECTIVES,
    *_RANGES,
    *_CHOICES,
    *_PARAMETERS,
    *_ALGORITHMS,
    *_LIMITS,
    *_TEMPLATE,
    *_BEYOND,
    *_CONSTRAINTS,
    *_GIVEN,
    *_START,
    *_STAGES,
    *_FIDELITY,
    *_NARROW,
    *_WARM,
]

# Once an experiment has started: merge patch of spec → what is said, "" where it may be changed.
CHANGES: list[tuple[str, Json, str]] = [
    (
        "parameters",
        {"parameters": {"lr": {"double": [0.001, 1]}}},
        "spec.parameters: Forbidden: parameters cannot change",
    ),
    ("a-new-parameter", {"parameters": {"x": {"int": [1, 2]}}}, "parameters cannot change"),
    ("a-parameter-less", {"parameters": {"layers": None}}, "parameters cannot change"),
    ("where", {"where": ["lr < 0.05"]}, "spec.where: Forbidden: where cannot change"),
    ("a-condition", {"parameters": {"layers": {"when": {"activation": "relu"}}}}, "parameters cannot change"),
    ("target", {"objective": {"target": 0.5}}, "spec.objective: Forbidden: objective cannot change"),
    ("direction", {"objective": {"direction": "minimize"}}, "objective cannot change"),
    ("objectives", {"objective": None, "objectives": [TWO[0]]}, "cannot change once the experiment has started"),
    ("sampler", {"sampler": {"name": "random"}}, "sampler and seed cannot change"),
    ("sampler-settings", {"sampler": {"settings": {"nEiCandidates": 12}}}, "sampler and seed cannot change"),
    ("seed", {"seed": 5}, "sampler and seed cannot change"),
    ("metrics", {"metrics": {"from": "log"}}, "spec.metrics: Forbidden: metrics cannot change"),
    ("constraints", {"constraints": [{"metric": "a", "max": 1}]}, "constraints cannot change"),
    ("warm-start", {"warmStart": {"from": ["a"]}}, "warmStart cannot change"),
    ("checkpoints", {"checkpoints": {"claim": "c"}}, "checkpoints cannot move"),
    ("init-checkpoint", {"initCheckpoint": {"claim": "c"}}, "initCheckpoint cannot change"),
    ("fidelity", {"fidelity": {"name": "e", "max": 3}}, "spec.fidelity: Forbidden: fidelity cannot change"),
    ("initial", {"initial": [{"lr": 0.01}]}, "spec.initial: Forbidden: initial cannot change"),
    ("enqueue", {"enqueue": [{"name": "a", "parameters": {"lr": 0.01}}]}, ""),
    ("narrow", {"narrow": {"lr": {"max": 0.01}}}, ""),
    ("stages", {"stages": [{"maxTrials": 40}]}, "spec.stages: Forbidden: stages cannot change"),
    ("max-trials", {"maxTrials": 41}, ""),
    ("max-failed-trials", {"maxFailedTrials": 11}, ""),
    ("stop", {"stop": {"noImprovement": {"trials": 30, "minDelta": 0.01}}}, ""),
    ("finalists", {"finalists": {"top": 2}}, ""),
    ("refit", {"refit": {"args": ["--full-data"]}}, ""),
    ("test", {"test": {"args": ["--score-test-set"], "name": "first"}}, ""),
    ("parallelism", {"parallelism": {"max": 0}}, ""),
    ("parallelism-min", {"parallelism": {"min": 4, "max": 4}}, ""),
    ("priority", {"priority": -10}, ""),
    ("deadline", {"deadline": {"experiment": "2d"}}, ""),
    ("suspend", {"suspend": True}, ""),
    ("stop-trials", {"stopTrials": [0]}, ""),
    ("pruner", {"pruner": {"name": "none"}}, ""),
]
