"""``python -m dev.bench.search``: runs what is not in the record yet, then tables and plots of all that is.

The record (JSON, a run a line) grows run by run, so that what was interrupted goes on, and more seeds are added to what
there is. Each seed goes through all problems before the next one begins.
"""

import argparse
import multiprocessing
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: a core for each process, and the same sums everywhere
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dev.bench.search import heats, report
from dev.bench.search.catalogue import FAMILIES
from dev.bench.search.race import Run

SEEDS, QUICK_SEEDS = 10, 2


def by_family(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    found = {family: [run for run in runs if run.family == family] for family in FAMILIES}
    return {family: group for family, group in found.items() if group}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.bench.search", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two problems of each family, two seeds")
    parser.add_argument("--only", default="", help=f"families with commas between, of {', '.join(FAMILIES)}")
    parser.add_argument("--without", action="append", default=[], help="a searcher: gp takes half of the time")
    parser.add_argument("--seeds", type=int, help=f"{SEEDS}; with --quick {QUICK_SEEDS}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes: one for each core")
    parser.add_argument("--record", type=pathlib.Path, default=pathlib.Path("bench-search.jsonl"))
    parser.add_argument("--write", type=pathlib.Path, help="docs/search-benchmarks.md: tables and plots go there")
    options = parser.parse_args()
    families = options.only.split(",") if options.only else list(FAMILIES)
    known = heats.load(options.record)
    seeds = options.seeds or (QUICK_SEEDS if options.quick else SEEDS)
    todo = heats.all_of(families, seeds, options.quick, known, frozenset(options.without))
    with options.record.open("a") as record, multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for place, made in enumerate(pool.imap_unordered(heats.play, todo), start=1):
            known += made
            record.writelines(heats.dump(run) + "\n" for run in made)
            record.flush()
            print(f"  {place}/{len(todo)}", end="\r", file=sys.stderr, flush=True)
    found = by_family(known)
    for family, runs in found.items():
        print(report.table(family, runs))
    if options.write:
        report.write(options.write, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
