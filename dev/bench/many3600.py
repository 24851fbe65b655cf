"""120 experiments of 30 in flight: 3,600 GPUs, 450 nodes of eight."""

import asyncio

from dev.bench.load import Load
from dev.bench.many import many
from dev.bench.result import Result

NAMES = ["many-3600"]


def run(quick: bool) -> list[Result]:
    """About 2 x 150 s, quick (10 experiments) 2 x 15 s."""
    size, patience = (Load(10, 30, 60, 60), 20) if quick else (Load(120, 30, 60, 600), 200)
    return [asyncio.run(many("many-3600", size, patience))]
