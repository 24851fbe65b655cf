"""1,000 in flight: the rate, and for how long a freed slot is empty."""

import asyncio

from dev.bench.flood import flood, rate
from dev.bench.load import Load
from dev.bench.observer import quantile
from dev.bench.result import Goal, Result, judge

NAMES = ["flood-1000", "gap-p50", "gap-p99"]


def run(quick: bool) -> list[Result]:
    """About 2 x 340 s, quick 2 x 35 s with 200 in flight. Two cores take some ten Jobs a second: trials of two minutes,
    or a thousand are never in flight."""
    size, patience = (Load(1, 200, 400, 10), 42) if quick else (Load(1, 1000, 2000, 120), 345)
    sides = asyncio.run(flood(size, patience))
    creates = [1000 * quantile(sides.bare.creates, share) for share in (0.5, 0.99)]
    note = f"{size}; limit: the bare client's; one create took {creates[0]:.0f} ms (p50), {creates[1]:.0f} ms (p99)"
    p50, p99 = ((sides.gap(sides.ours, share), sides.gap(sides.bare, share)) for share in (0.5, 0.99))
    return [
        rate("flood-1000", sides),
        judge("gap-p50", p50[0], "ms", p50[1], Goal("value", "<=", 150), note),
        judge("gap-p99", p99[0], "ms", p99[1], Goal("value", "<=", 1000)),
    ]
