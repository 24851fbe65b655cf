"""``python -m dev.bench.search.cluster``: what is measured in process is what a real cluster does.

For each sampler an Experiment with one trial at a time and a seed, in workers, whose program computes a function. Then
the sampler is asked here, told the values that the cluster recorded, and each trial's parameters are compared: to the
last digit. Needs kubectl, `kubectl tune` and kubetune with its images in the cluster (make install); minutes.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dev.bench.search import report
from dev.bench.search.problem import Outcome, Problem
from dev.bench.search.sides import Ours
from dev.bench.search.standard import BY_NAME, single
from kubetune.api import names

NAMESPACE = "bench-search"
SEED, TRIALS = 7, 40
SAMPLERS = ("random", "qmc", "tpe", "cmaes", "differentialEvolution", "regularizedEvolution", "nsgaii", "gradient")
LONGEST = 600.0  # seconds for an experiment
PROGRAM = """
import math, kubetune_trial as kt
x = kt.parameters()
a, b = x["x0"], x["x1"]
y = (b - 5.1 / (4 * math.pi**2) * a * a + 5 / math.pi * a - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10
kt.report(0, y0=y)
"""


@dataclasses.dataclass(frozen=True)
class Trial:
    """As the cluster recorded it."""

    params: Mapping[str, Any]
    value: float


def problem() -> Problem:
    made = next(each for each in single() if each.name == "branin")
    return dataclasses.replace(made, trials=TRIALS)


def manifest(sampler: str) -> dict[str, Any]:
    container = {
        "name": "trial",
        "image": f"{os.environ.get('IMAGE_PREFIX', '')}kubetune/trial:0.1.0",
        "command": ["python3", "-c", PROGRAM],
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
    }
    box = {
        f"x{place}": {"double": [float(low), float(high)]} for place, (low, high) in enumerate(BY_NAME["branin"].box)
    }
    spec = {
        "objective": {"metric": "y0", "direction": "minimize"},
        "parameters": box,
        "sampler": {"name": sampler},
        "pruner": {"name": "none"},
        "seed": SEED,
        "maxTrials": TRIALS,
        "parallelism": {"max": 1},
        "execution": "workers",
        "template": {"spec": {"containers": [container]}},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": sampler.lower(), "namespace": NAMESPACE},
        "spec": spec,
    }


def different(sampler: str, trials: Sequence[Trial]) -> list[int]:
    """Numbers of the trials whose parameters are not what the sampler gives here."""
    side = Ours(problem(), SEED, sampler, {})
    found = []
    for number, trial in enumerate(trials):
        if side.ask() != dict(trial.params):
            found.append(number)
        side.tell(number, Outcome((trial.value,)), float(number))
    return found


def _run(*command: str, given: str | None = None) -> str:
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=120).stdout


def _complete(name: str) -> bool:
    status = json.loads(_run("kubectl", "get", "experiment", name, "-n", NAMESPACE, "-o", "json")).get("status") or {}
    return any(each["type"] == "Complete" and each["status"] == "True" for each in status.get("conditions", ()))


def _trials(name: str) -> list[Trial]:
    rows = json.loads(_run("kubectl-tune", "trials", name, "-n", NAMESPACE, "-o", "json"))
    return [Trial(row["parameters"], float(row["values"][0])) for row in sorted(rows, key=lambda row: row["number"])]


def _measured(sampler: str) -> list[Trial]:
    body = manifest(sampler)
    name = body["metadata"]["name"]
    _run("kubectl", "apply", "-f", "-", given=json.dumps(body))
    end = time.monotonic() + LONGEST
    while not _complete(name):
        if time.monotonic() > end:
            raise TimeoutError(f"{NAMESPACE}/{name} was not complete after {LONGEST:.0f} s")
        time.sleep(1.0)
    return _trials(name)


def main() -> int:
    """1 where a trial had other parameters."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench.search.cluster", description=__doc__)
    parser.add_argument("--only", default=",".join(SAMPLERS), help="samplers with commas between")
    parser.add_argument("--write", type=pathlib.Path, help="docs/search-benchmarks.md: the table goes there")
    options = parser.parse_args()
    _run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found")
    _run("kubectl", "create", "namespace", NAMESPACE)
    wrong = 0
    lines = [
        f"| `sampler.name` | trials | as in process | best of branin (least {problem().least:.4f}) |",
        "| --- | --- | --- | --- |",
    ]
    print(*lines, sep="\n")
    for sampler in options.only.split(","):
        trials = _measured(sampler)
        others = different(sampler, trials)
        wrong += len(others)
        same = "all" if not others else f"all but {', '.join(map(str, others))}"
        lines.append(f"| `{sampler}` | {len(trials)} | {same} | {min(trial.value for trial in trials):.4f} |")
        print(lines[-1], flush=True)
    _run("kubectl", "delete", "namespace", NAMESPACE, "--wait=false")
    if options.write:
        report.put(options.write, "cluster", "\n".join(lines))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
