"""``python -m kubetune.simulator --seed 1 --runs 1000``: many runs, their sum, or the first one that goes wrong.

``python -m kubetune.simulator one --trials 10000 --parallelism 100``: one large experiment (`one`).

``python -m kubetune.simulator compare``: policies of parallelism beside each other (`compare`).
"""

import argparse
import collections
import logging
import sys
import time
import traceback

from kubetune.simulator import compare, one
from kubetune.simulator.run import Result, simulate
from kubetune.simulator.scenario import draw


def main() -> int:
    if sys.argv[1:] == ["compare"]:
        return compare.main()
    if sys.argv[1:2] == ["one"]:
        return one.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m kubetune.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next ones follow")
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    begun, results = time.monotonic(), []
    for seed in range(options.seed, options.seed + options.runs):
        try:
            results.append(simulate(draw(seed)))
        except Exception:  # noqa: BLE001 - whatever it is, its seed is to be told
            traceback.print_exc()
            sys.stderr.write(f"\nseed {seed} went wrong; again: python -m kubetune.simulator --seed {seed} --runs 1\n")
            return 1
    _tell(results, time.monotonic() - begun)
    return 0


def _tell(results: list[Result], seconds: float) -> None:
    reasons = collections.Counter(reason for result in results for reason in result.reasons)
    lines = [
        f"{len(results)} runs in {seconds:.1f} s, all invariants hold",
        f"{sum(result.seconds for result in results) / 3600:.0f} hours of virtual time",
        f"{sum(result.trials for result in results)} trials in {sum(result.jobs for result in results)} Jobs",
        f"{sum(result.operators for result in results) - len(results)} operators replaced",
        "experiments ended: " + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
