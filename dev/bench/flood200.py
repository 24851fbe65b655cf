"""200 in flight: the rate, and what a trial costs the API server."""

import asyncio

from dev.bench.flood import flood, rate
from dev.bench.load import Load
from dev.bench.result import Goal, Result, judge

NAMES = ["flood-200", "writes", "apiserver-cpu"]


def run(quick: bool) -> list[Result]:
    """About 2 x 200 s, quick 2 x 30 s."""
    size, patience = (Load(1, 200, 400, 5), 42) if quick else (Load(1, 200, 2000, 20), 320)
    sides = asyncio.run(flood(size, patience))
    ours, bare = (sides.per_trial(side.writes) for side in (sides.ours, sides.bare))
    own_cpu, bare_cpu = (1000 * sides.per_trial(side.cpu) for side in (sides.ours, sides.bare))
    note = f"kubetune {ours:.1f}, bare {bare:.1f}; without node heartbeats and the pods' tokens"
    return [
        rate("flood-200", sides),
        judge("writes", ours - bare, "per trial", None, Goal("value", "<=", 3), note),
        judge("apiserver-cpu", own_cpu, "ms/trial", bare_cpu, Goal("ratio", "<=", 1.3)),
    ]
