"""What an Experiment's pruner gains, without a cluster: against random search that stops nothing, at equal cost.

    python examples/compare.py examples/asha/experiment.yaml examples/hyperband/experiment.yaml

takes the space, the sampler and the pruner from the manifests and trains the networks of examples/digits here (an epoch
takes some ten milliseconds with ``--small``), four at a time, under kubetune's own engine with its storage in memory:
what asks, decides and ends is what does so in the operator. Each side trains until as many epochs are spent.
"""

import argparse
import dataclasses
import itertools
import os
import pathlib
import statistics
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: threads that wait for each other only cost
sys.path.insert(0, str(pathlib.Path(__file__).parent / "digits"))

import yaml

import digits
from kubetune.api.spec import Algorithm, ExperimentSpec, parse
from kubetune.api.trial import TrialRow, TrialState
from kubetune.engine.engine import Engine
from kubetune.storage.base import Identity, Incoming
from kubetune.storage.memory import MemoryStorage

EPOCHS = 27  # of a whole trial
SLOTS = 4


@dataclasses.dataclass(frozen=True)
class Result:
    """``best``: validation accuracy of the best whole trial."""

    best: float
    trials: int
    whole: int


class Search:
    """One experiment, its trials trained here."""

    def __init__(self, spec: ExperimentSpec, parts: tuple[digits.Part, digits.Part, digits.Part]) -> None:
        self._spec = spec
        self._train, self._validation, _ = parts
        self._clock = itertools.count()
        self._storage = MemoryStorage(lambda: float(next(self._clock)))
        self._storage.acquire("compare")
        self._engine = Engine(spec, self._storage, lambda: float(next(self._clock)))

    def run(self, epochs: int) -> Result:
        """Until so many are spent."""
        running: dict[int, tuple[TrialRow, Any, int]] = {}
        ended: list[TrialRow] = []
        spent = 0
        while spent < epochs:
            while len(running) < SLOTS:
                row = self._begin()
                running[row.number] = row, digits.network(options_of(row.params)), 0
            for number, (row, network, epoch) in list(running.items()):
                network.partial_fit(self._train.images, self._train.digits, classes=digits.CLASSES)
                accuracy = float(network.score(self._validation.images, self._validation.digits))
                running[number] = row, network, epoch + 1
                spent += 1
                if self._report(row, epoch + 1, accuracy) or epoch + 1 == EPOCHS:
                    ended.append(self._engine.finish(row.number, row.attempt, None, ""))
                    del running[number]
        whole = [row.values[0] for row in ended if row.state is TrialState.COMPLETE and row.values]
        return Result(max(whole, default=0.0), len(ended), len(whole))

    def _begin(self) -> TrialRow:
        (row,) = self._engine.ask(1)
        self._engine.record_job(row.number, row.attempt, self._who(row).job_uid)
        return row

    def _who(self, row: TrialRow) -> Identity:
        job = f"job-{row.number}"
        return Identity(self._spec.uid, self._spec.namespace, self._spec.name, row.number, row.attempt, job, job)

    def _report(self, row: TrialRow, epoch: int, accuracy: float) -> bool:
        """Whether the trial is to stop."""
        self._storage.accept([Incoming(self._who(row), f"{row.number}-{epoch}", epoch, {"accuracy": accuracy})])
        return row.number in self._engine.tail()


def options_of(params: Mapping[str, Any]) -> argparse.Namespace:
    return argparse.Namespace(**params, seed=0)


def searches(path: pathlib.Path, seed: int) -> dict[str, ExperimentSpec]:
    """The manifest's own, and what it is compared with, by name."""
    body = yaml.safe_load(path.read_text())
    body["metadata"] |= {"namespace": "default", "uid": f"compare-{seed}"}
    spec = dataclasses.replace(parse(body), max_trials=100_000, seed=seed)
    plain = dataclasses.replace(spec, sampler=Algorithm("random"), pruner=Algorithm("none"))
    return {"random search": plain, f"{spec.sampler.name} with {spec.pruner.name}": spec}


def main() -> int:
    parser = argparse.ArgumentParser(description="What a pruner gains at equal cost.")
    parser.add_argument("manifests", type=pathlib.Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--whole", type=int, default=10, help="the budget, in whole trials")
    options = parser.parse_args()
    parts = digits.parts(small=True)
    warnings.simplefilter("ignore")  # of networks that diverge
    results: dict[str, list[Result]] = {}
    for seed in range(options.seeds):
        todo = {name: spec for path in options.manifests for name, spec in searches(path, seed).items()}
        for name, spec in todo.items():
            result = Search(spec, parts).run(options.whole * EPOCHS)
            results.setdefault(name, []).append(result)
            print(
                f"seed {seed}  {name:22} {result.trials:4} trials, {result.whole:3} whole, best {result.best:.4f}",
                flush=True,
            )
    print(f"\neach for the cost of {options.whole} whole trials, means of {options.seeds} seeds:")
    for name, found in results.items():
        print(f"  {name:22} {summary(found, results['random search'])}")
    return 0


def summary(found: Sequence[Result], plain: Sequence[Result]) -> str:
    gains = [one.best - other.best for one, other in zip(found, plain, strict=True)]
    counts = sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains), sum(gain < 0 for gain in gains)
    return (
        f"{statistics.fmean(each.trials for each in found):5.1f} trials, "
        f"best {statistics.fmean(each.best for each in found):.4f}, {statistics.fmean(gains):+.4f} "
        f"(better {counts[0]}, equal {counts[1]}, worse {counts[2]})"
    )


if __name__ == "__main__":
    sys.exit(main())
