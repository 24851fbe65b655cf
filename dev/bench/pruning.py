"""What each pruner saves, and what it costs: on the learning curves of real trainings.

``python -m dev.bench.pruning``. Networks of scikit-learn with parameters drawn at random are trained on its digits,
epoch by epoch, once; the curves are then dealt out again and again, in another order for each seed, to four slots at a
time under each pruner, which decides as it does in the engine. So a seed costs milliseconds, and what differs between
two rows is the pruner alone.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import random
import statistics
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one core, and the same sums everywhere

from kubetune.api.spec import Algorithm, Double, ExperimentSpec, Objective
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import pruners
from kubetune.engine.curve import Curve
from kubetune.storage.base import Mark

EPOCHS = 27
POOL, QUICK_POOL = 240, 40  # trainings
TRIALS = 60  # of each experiment in which all trials are run
WHOLE = 20  # whole trainings: the cost of the others
SLOTS = 4
SEEDS, QUICK_SEEDS = 200, 20

CASES: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("none", {}),
    ("median", {}),
    ("median", {"nWarmupSteps": 5}),
    ("percentile", {"percentile": 25}),
    ("asha", {"reductionFactor": 3}),
    ("asha", {"reductionFactor": 3, "minResource": 3}),
    ("hyperband", {"maxResource": EPOCHS, "reductionFactor": 3}),
    ("bandit", {"slackFactor": 0.1, "delayEvaluation": 3}),
    ("truncation", {"truncationPercentage": 20, "evaluationInterval": 3}),
    ("patience", {"patience": 2, "pruner": {"name": "median"}}),
    ("plateau", {"patience": 3, "minDelta": 0.001}),
    ("threshold", {"lower": 0.5, "nWarmupSteps": 3}),
)


def trained(pool: int) -> list[list[float]]:
    """Validation accuracy after each epoch, for each of so many networks."""
    import numpy as np
    from sklearn import datasets, model_selection, neural_network

    images, digits = datasets.load_digits(return_X_y=True)
    split = model_selection.train_test_split(images / 16.0, digits, test_size=0.5, random_state=0)
    draw, curves = random.Random(0), []
    for number in range(pool):
        network = neural_network.MLPClassifier(
            hidden_layer_sizes=(2 ** draw.randint(2, 6),) * draw.randint(1, 2),
            activation=draw.choice(["relu", "tanh", "logistic"]),
            learning_rate_init=10 ** draw.uniform(-4.5, -0.5),
            alpha=10 ** draw.uniform(-6, 0),
            batch_size=draw.choice([32, 64, 128]),
            random_state=number,
        )
        curve = []
        for _ in range(EPOCHS):
            network.partial_fit(split[0], split[2], classes=np.arange(10))
            curve.append(float(network.score(split[1], split[3])))
        curves.append(curve)
    return curves


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of one experiment."""

    steps: int  # reported by all trials
    trials: int
    best: float  # of complete trials


def play(name: str, settings: Mapping[str, Any], curves: Sequence[Sequence[float]], seed: int, budget: float) -> Run:
    """Trials with these curves, in this order, until they or the budget (in steps) are used up."""
    pruner = pruners.build(_spec(name, settings, seed))
    left = list(enumerate(curves))[::-1]
    running: list[tuple[Curve, Sequence[float]]] = []
    steps = trials = 0
    best = -math.inf
    while left or running:
        while left and len(running) < SLOTS and steps < budget:
            number, values = left.pop()
            running.append((Curve(True, number), values))
            trials += 1
        if not running:
            break
        curve, values = running.pop(0)
        step = len(curve) + 1
        curve.add(step, values[step - 1])
        steps += 1
        stopped = pruner.prune(curve) is not None
        if not stopped and step < len(values):
            running.append((curve, values))
            continue
        state, reason = (
            (TrialState.PRUNED, Reason.PRUNED)
            if stopped and step < len(values)
            else (TrialState.COMPLETE, Reason.COMPLETED)
        )
        if state is TrialState.COMPLETE:
            best = max(best, values[-1])
        pruner.ended(curve, state, curve.series(), Mark(curve.number, reason, values[step - 1], curve.rung))
    return Run(steps, trials, best)


def _spec(name: str, settings: Mapping[str, Any], seed: int) -> ExperimentSpec:
    return ExperimentSpec(
        namespace="bench",
        name="pruning",
        uid=f"seed-{seed}",  # Hyperband's brackets follow from it
        generation=1,
        objectives=(Objective("accuracy", "maximize"),),
        parameters={"x": Double(0.0, 1.0)},
        template={},
        pruner=Algorithm(name, settings),
    )


def row(name: str, settings: Mapping[str, Any], curves: Sequence[Sequence[float]], seeds: int) -> str:
    """One line of the table: medians and 90th percentiles over the seeds."""
    saved, lost, gained, tried = [], [], [], []
    for seed in range(seeds):
        order = random.Random(seed).sample(list(curves), len(curves))
        some = order[:TRIALS]
        run = play(name, settings, some, seed, math.inf)
        saved.append(1 - run.steps / sum(map(len, some)))
        lost.append(max(curve[-1] for curve in some) - run.best)
        plain = play("none", {}, order, seed, WHOLE * EPOCHS)
        equal = play(name, settings, order, seed, WHOLE * EPOCHS)
        gained.append(equal.best - plain.best)
        tried.append(equal.trials)
    kept = sum(loss <= 0 for loss in lost) / seeds
    shown = ", ".join(f"{key}: {json.dumps(value)}" for key, value in settings.items()).replace('"', "")
    return (
        f"| `{name}` | {f'`{shown}`' if shown else ''} | {statistics.mean(saved):.0%} | {kept:.0%} | "
        f"{statistics.mean(lost):.4f} | {sorted(lost)[math.ceil(0.9 * seeds) - 1]:.4f} | "
        f"{statistics.median(tried):.0f} | {statistics.mean(gained):+.4f} |"
    )


HEAD = f"""\
| `pruner.name` | settings | steps saved of {TRIALS} trials | best one kept | loss in best accuracy, mean | \
9 of 10 at most | trials for the cost of {WHOLE} | best at that cost, against `none` |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.bench.pruning", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer trainings and seeds")
    parser.add_argument("--curves", type=pathlib.Path, help="kept here, and taken from here if they are there")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's, of trainings that diverge
    if options.curves and options.curves.exists():
        curves = json.loads(options.curves.read_text())
    else:
        curves = trained(QUICK_POOL if options.quick else POOL)
        if options.curves:
            options.curves.write_text(json.dumps(curves))
    lines = [row(name, settings, curves, QUICK_SEEDS if options.quick else SEEDS) for name, settings in CASES]
    sys.stdout.write("\n".join([HEAD, *lines]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
