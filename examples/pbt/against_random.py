"""Population-based training against random search at equal cost, over several seeds: in this process, no cluster.

The samplers are the operator's own; what a Job would do, this does. Run it in a clone of kubetune, after `make venv`:
    .venv/bin/python examples/pbt/against_random.py
"""

import argparse
import copy
import dataclasses
import pathlib
import statistics
from typing import Any

import yaml

import learner as digits
from kubetune.api import spec
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past

EPOCHS = 2  # of a segment
RUNNING, COMPLETE = TrialState.RUNNING, TrialState.COMPLETE
MANIFEST = pathlib.Path(__file__).parent / "pbt.yaml"


def experiment(seed: int, **changes: Any) -> spec.ExperimentSpec:
    """That of pbt.yaml, some of it changed."""
    body = yaml.safe_load(MANIFEST.read_text())
    metadata = {"namespace": "default", "uid": "here", **body["metadata"]}
    return spec.parse({"metadata": metadata, "spec": {**body["spec"], "seed": seed, **changes}})


@dataclasses.dataclass(frozen=True, order=True)
class Found:
    """A trained classifier: its loss on the validation and on the test part, the learning rates that led there."""

    validation: float
    test: float
    rates: tuple[float, ...]


def run(made: spec.ExperimentSpec, segments: int) -> list[Found]:
    """What each trial came to at the best of so many segments. As many run at once as may, and end in their order."""
    sampler, history = samplers.build(made), History(made.objectives, made.parameters)
    trained: list[Any] = []
    rates: list[tuple[float, ...]] = []
    found: list[Found] = []
    while len(found) < made.max_trials:
        while len(history) < min(made.max_trials, len(found) + made.parallelism):
            number = len(history)
            wanted = sampler.propose(history, number)
            parent, member = (wanted.segment.parent, wanted.segment.member) if wanted.segment else (None, None)
            history.add(Past(number, RUNNING, wanted.params, member=member))
            trained.append(digits.beginner(number) if parent is None else copy.deepcopy(trained[parent]))
            rates.append((*(() if parent is None else rates[parent]), float(wanted.params["lr"])))
        number = len(found)
        trial, one = history[number], trained[number]
        looks = []
        for _ in range(segments):
            for _ in range(EPOCHS):
                digits.train_one_epoch(one, float(trial.params["lr"]), float(trial.params["alpha"]))
            validation, test = (digits.loss(one, part) for part in digits.parts()[1:])
            looks.append(Found(validation, test, rates[number]))
        found.append(min(looks))
        value = found[number].validation
        past = Past(number, COMPLETE, trial.params, (value,), ended=float(number), member=trial.member)
        history.replace(past)
    return found


def compared(seed: int) -> tuple[Found, Found]:
    """The winner of each way: random search, whose trials train as long as a member and count at their best, and the
    population."""
    made = experiment(seed)
    segments = made.max_trials // made.parallelism
    plain = experiment(seed, sampler={"name": "random"}, maxTrials=made.parallelism)
    return min(run(plain, segments)), min(run(made, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    pairs = [compared(seed) for seed in range(parser.parse_args().seeds)]
    print("seed  random  pbt     learning rates of the population's winner")
    for seed, (random, found) in enumerate(pairs):
        rates = " ".join(f"{rate:.2g}" for rate in found.rates)
        print(f"{seed:4}  {random.validation:.4f}  {found.validation:.4f}  {rates}")
    say("validation", [(random.validation, found.validation) for random, found in pairs])
    say("test", [(random.test, found.test) for random, found in pairs])


def say(part: str, losses: list[tuple[float, float]]) -> None:
    random, found = (statistics.median(pair[way] for pair in losses) for way in (0, 1))
    better = sum(found < random for random, found in losses)
    print(f"{part}: median loss {random:.4f} by random search, {found:.4f} by pbt, better in {better} of {len(losses)}")


if __name__ == "__main__":
    main()
