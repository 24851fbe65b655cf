"""``python -m dev.bench.search.cost``: what one suggestion and one decision cost, for the tables of docs/algorithms.md.

CPU time of this process, medians. A sampler has asked for every trial that it is told of, with ten running beside, in a
space of six numbers; lists have three of 20 steps. A pruner stands beside complete trials of a hundred reports and is
asked at each report of one more.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one core
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from kubetune.api.spec import Algorithm, Double, ExperimentSpec, Objective, Parameter
from kubetune.api.trial import Reason, TrialState
from kubetune.engine import pruners, samplers
from kubetune.engine.curve import Curve
from kubetune.engine.history import History, Past
from kubetune.storage.base import Mark

AT_ONCE = 10
TIMED = 30  # suggestions, of which the median counts
SIZES: Mapping[str, Sequence[int]] = {"gp": (40, 200), "schedule": (40,)}  # ended trials before; else:
USUAL = (100, 1_000)
COMPLETE, REPORTS = 2_000, 100  # a pruner's past

LISTS = frozenset({"grid", "bruteForce"})
SEVERAL = frozenset({"nsgaii", "nsgaiii"})
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "pbt": {"populationSize": 2 * AT_ONCE},
    "schedule": {"segments": [{f"x{place}": 0.5 for place in range(6)}] * 100},
}
PRUNERS: Mapping[str, Mapping[str, Any]] = {
    "median": {},
    "percentile": {"percentile": 25},
    "threshold": {"upper": 10.0},
    "patience": {"patience": 5, "pruner": {"name": "median"}},
    "plateau": {"patience": 5},
    "asha": {"reductionFactor": 3},
    "hyperband": {"maxResource": REPORTS, "reductionFactor": 3},
    "wilcoxon": {},
    "bandit": {"slackFactor": 0.1},
    "truncation": {"truncationPercentage": 20},
}


def spec(name: str) -> ExperimentSpec:
    """Of so many objectives and such a space as the sampler is for."""
    plain: dict[str, Parameter] = {f"x{place}": Double(0.0, 1.0) for place in range(6)}
    listed: dict[str, Parameter] = {f"x{place}": Double(0.0, 1.0, step=0.05) for place in range(3)}
    objectives = tuple(Objective(f"y{place}", "minimize") for place in range(2 if name in SEVERAL else 1))
    sampler = Algorithm(name, SETTINGS.get(name, {}))
    return ExperimentSpec(
        "bench", "cost", "", 1, objectives, listed if name in LISTS else plain, {}, sampler=sampler, seed=1
    )


def suggestions(name: str, sizes: Sequence[int]) -> list[float]:
    """Milliseconds of one suggestion after so many trials that ended, by size."""
    made = spec(name)
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    at_once = 1 if name == "schedule" else AT_ONCE
    took: list[float] = []
    for number in range(max(sizes) + at_once):
        if number >= at_once:
            _end(history, number - at_once, len(made.objectives))
        begun = time.process_time()
        asked = sampler.propose(history, number)
        took.append(1e3 * (time.process_time() - begun))
        member = asked.segment.member if asked.segment else None
        history.add(Past(number, TrialState.RUNNING, asked.params, member=member))
    return [statistics.median(took[size + at_once - TIMED : size + at_once]) for size in sizes]


def _end(history: History, number: int, count: int) -> None:
    """With so many values, each the sum of squares around a point of its own."""
    past = history[number]
    numbers = [float(value) for value in past.params.values()]
    values = tuple(sum((x - best) ** 2 for x in numbers) for best in (0.4, 0.7)[:count])
    history.replace(dataclasses.replace(past, state=TrialState.COMPLETE, values=values, ended=float(number)))


def decisions(name: str, settings: Mapping[str, Any]) -> float:
    """Microseconds of one decision."""
    made = dataclasses.replace(spec("random"), pruner=Algorithm(name, settings))
    pruner = pruners.build(made)
    for number in range(COMPLETE):
        curve = Curve(False, number)
        for step in range(REPORTS):
            curve.add(step, _loss(number, step))
            if name != "wilcoxon":  # which looks at complete trials only, by a test of half a millisecond
                pruner.prune(curve)
        mark = Mark(number, Reason.COMPLETED, _loss(number, REPORTS - 1), curve.rung)
        pruner.ended(curve, TrialState.COMPLETE, curve.series(), mark)
    curve = Curve(False, COMPLETE)
    took = []
    for step in range(REPORTS):
        curve.add(step, _loss(0, step) - 0.01)  # among the best, so that nobody stops it
        begun = time.process_time_ns()
        pruner.prune(curve)
        took.append((time.process_time_ns() - begun) / 1e3)
    return statistics.median(took)


def _loss(number: int, step: int) -> float:
    return 1.0 + (number * 7919 % 1000) / 1000 + 1.0 / (1 + step)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.bench.search.cost", description=__doc__)
    parser.add_argument("--only", default="", help="samplers and pruners with commas between")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    for name in samplers.SAMPLERS:
        if name != "external" and (not only or name in only):
            sizes = SIZES.get(name, USUAL)
            shown = zip(sizes, suggestions(name, sizes), strict=True)
            print(f"{name}:", ", ".join(f"{took:.2f} ms after {size}" for size, took in shown), flush=True)
    for name, settings in PRUNERS.items():
        if not only or name in only:
            print(f"{name}: {decisions(name, settings):.1f} µs", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
