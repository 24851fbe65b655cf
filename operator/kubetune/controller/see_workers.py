"""Gathers what there is of an experiment's workers for a decision, and settles where attempts begin."""

from collections.abc import Mapping
from typing import Protocol

from kubetune.api.spec import ExperimentSpec
from kubetune.controller import execution
from kubetune.controller.plan import Apart, Crew, JobPhase
from kubetune.controller.ports import Engine

MOST_TIMINGS = 50


class Memory(Protocol):
    """The part of `observe.Memory` that is about workers."""

    worker_backoff: dict[int, float]
    timings: dict[str, execution.Timing]
    moved: str


def crew(spec: ExperimentSpec, engine: Engine, memory: Memory, apart: Apart, now: float) -> Crew | None:
    """None: it has no workers and is to have none. ``apart``: the workers' Jobs are in it too."""
    workers = engine.workers
    _remember(memory, apart)
    mode, why = _mode(spec, engine, memory)
    if mode == "jobs" and not workers and not why:
        return None
    memory.worker_backoff = {number: until for number, until in memory.worker_backoff.items() if until > now}
    slots = spec.slots_per_worker
    return Crew(
        mode=mode,
        workers=workers,
        jobs=tuple(job for job in apart.jobs if job.worker),
        slots=slots,
        ahead=execution.ahead(spec.parallelism, memory.timings.values()),
        backoff=memory.worker_backoff,
        why=why,
    )


def census(crew: Crew) -> Mapping[str, int]:
    """Workers that are not over, by state: starting until the pod runs, running, draining."""
    runs = {job.uid for job in crew.jobs if job.phase is JobPhase.RUNNING}
    count = {"starting": 0, "running": 0, "draining": 0}
    for worker in crew.workers.values():
        if worker.ended is None:
            count["draining" if worker.draining else "running" if worker.job_uid in runs else "starting"] += 1
    return count


def _mode(spec: ExperimentSpec, engine: Engine, memory: Memory) -> tuple[str, str]:
    """Where attempts begin, and why if that is not plain from the spec. Workers once chosen stay."""
    obstacle = None if spec.execution == "jobs" else execution.obstacle(spec)
    if obstacle is not None or spec.execution == "jobs":
        return "jobs", obstacle or ""
    if spec.execution == "workers":
        return "workers", ""
    if engine.workers or memory.moved:
        return "workers", memory.moved
    memory.moved = execution.dominates(memory.timings.values()) or ""
    return ("workers", memory.moved) if memory.moved else ("jobs", "")


def _remember(memory: Memory, apart: Apart) -> None:
    """How long pods take to start and trials to run, of the latest."""
    for job in apart.jobs:
        timing = None if job.worker else execution.timing(job)
        if timing is not None:
            memory.timings[job.uid] = timing
    for row in apart.rows.values():
        if row.lease is not None and row.lease.exit is not None and row.started is not None:
            running = max(0.0, row.lease.exit.time - row.started)
            memory.timings[f"{row.number}/{row.attempt}"] = execution.Timing(0.0, running)
    while len(memory.timings) > MOST_TIMINGS:
        del memory.timings[next(iter(memory.timings))]
