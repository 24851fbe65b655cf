"""Asks the sampler for trials, and bears with one that fails: asked again later and later, and people are told."""

from kubetune.api.searcher import SamplerFailed
from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import TrialRow
from kubetune.controller.observe import Memory, Unanswered
from kubetune.controller.ports import Clock, Cluster, Engine

FIRST, LAST = 5.0, 300.0  # seconds until a sampler that failed is asked again


def ask(
    spec: ExperimentSpec,
    engine: Engine,
    memory: Memory,
    cluster: Cluster,
    clock: Clock,
    count: int,
    offered: bool = False,
) -> list[TrialRow]:
    """What the sampler has by now; it wakes us when it has more. Nothing while one that failed is left in peace."""
    failed = memory.unanswered
    if failed is not None and clock() < failed.until:
        return []
    try:
        rows = engine.ask(count, offered)
    except SamplerFailed as error:
        times = failed.times + 1 if failed else 1
        memory.unanswered = Unanswered(times, error.why, clock() + min(LAST, FIRST * 2 ** min(times - 1, 10)))
        if failed is None:
            cluster.event(spec, "Warning", "SamplerFailed", f"{engine.sampler[0]} gave no parameters: {error.why}")
        return []
    if rows:
        memory.unanswered = None
    return rows
