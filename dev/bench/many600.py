"""20 experiments of 30 in flight."""

import asyncio

from dev.bench.load import Load
from dev.bench.many import many
from dev.bench.result import Result

NAMES = ["many-600"]


def run(quick: bool) -> list[Result]:
    """About 2 x 40 s, quick (5 experiments) 2 x 12 s."""
    size, patience = (Load(5, 30, 60, 60), 20) if quick else (Load(20, 30, 60, 120), 80)
    return [asyncio.run(many("many-600", size, patience))]
