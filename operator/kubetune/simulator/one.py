"""``python -m kubetune.simulator one``: one large experiment from its first trial to its end, and what that took.

Everything is as in the runs by chance (`scenario.draw`): the operator's own loop, queue, cache and engine, invariants
checked after each step. Only the size is another.
"""

import argparse
import logging
import sys
import time

from kubetune.simulator.run import Run
from kubetune.simulator.scenario import LOSSES, STORM, Scenario, experiment

SLOTS = 8  # of a node
LOOK = 0.2  # seconds; measured with 200 in flight on a busy machine: docs/benchmarks.md
LONGEST = 60.0  # seconds that a trial takes at most, from its Job to the next one in its slot
ODD = ("exits", "grows", "nan", "silent", "gives up", "deaf", "lingers")  # none that ends the experiment early


def scenario(trials: int, parallelism: int, seed: int = 1, odd: float = 0.05, faulty: bool = False) -> Scenario:
    """One experiment on nodes with room for all that it may have in flight.

    Args:
        odd: share of trials that do not just complete.
        faulty: in the first `STORM` seconds operators are killed, nodes and pods are lost, requests fail, and events
            are lost.
    """
    body = experiment("one", maxTrials=trials, parallelism={"max": parallelism}, maxFailedTrials=trials)
    losses = tuple((STORM * part / 40, LOSSES[part % len(LOSSES)]) for part in range(1, 40)) if faulty else ()
    return Scenario(
        seed,
        (body,),
        odd=odd,
        kinds=ODD,
        nodes=-(-parallelism // SLOTS),
        slots=SLOTS,
        crash=0.001 if faulty else 0.0,
        unavailable=0.005 if faulty else 0.0,
        lost_event=0.05 if faulty else 0.0,
        losses=losses,
        look=LOOK,
        bound=4000.0 + LONGEST * trials / parallelism,
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubetune.simulator one", description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--parallelism", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--odd", type=float, default=0.05, help="share of trials that do not just complete")
    parser.add_argument("--faulty", action="store_true", help="with kills and losses in the first minutes")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    run = Run(scenario(given.trials, given.parallelism, given.seed, given.odd, given.faulty))
    begun, used = time.monotonic(), time.process_time()
    result = run.finish()
    seconds, cpu = time.monotonic() - begun, time.process_time() - used
    lines = [
        f"{result.trials} trials, {given.parallelism} in flight: {seconds:.1f} s, {cpu:.1f} s of CPU, "
        f"{result.trials / cpu:.0f} trials per second of CPU",
        f"{run.watchdog.steps} steps, all invariants hold after each",
        f"{result.seconds / 60:.0f} minutes of virtual time, {result.jobs} Jobs, {result.operators} operators, "
        f"ended: {', '.join(result.reasons)}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
