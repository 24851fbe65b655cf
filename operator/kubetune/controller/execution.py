"""Whether trials run in pods of their own or in workers. Pure.

`auto` begins with Jobs and moves to workers, for good, when starting pods takes too much of the time.
"""

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from kubetune.api.spec import ExperimentSpec, Json
from kubetune.controller.plan import JobPhase, JobView

ENOUGH = 5  # trials to have seen
MUCH = 0.2  # of a trial's own time
SHORT = 5.0  # seconds; of such trials a few are committed ahead, or the hand-over would be felt
AHEAD = 0.05  # of the slots


class Timing(NamedTuple):
    """One trial's times in seconds: from its pod's being bound to a node to its start, and from there to its end."""

    starting: float
    running: float


def timing(job: JobView) -> Timing | None:
    """Of a Job that succeeded, as far as its pod was seen."""
    pod = job.pod
    if job.phase is not JobPhase.SUCCEEDED or pod is None or pod.began is None or pod.ended is None:
        return None
    since = pod.bound or pod.created or job.created
    return Timing(max(0.0, pod.began - since), max(0.0, pod.ended - pod.began))


def obstacle(spec: ExperimentSpec) -> str | None:
    """Why the experiment cannot run in workers, and what would help; None: it can."""
    container: Mapping[str, Any] = spec.template["spec"]["containers"][0]
    if not container.get("command"):
        return "the first container has no command, and a worker cannot see its image's: write command in the template"
    if spec.metrics.source != "push":
        return "metrics.from: log reads the log of one pod per trial: report with the client (metrics.from: push)"
    if len(spec.template["spec"]["containers"]) > 1:
        return "the template has further containers, which belong to one trial: use one container"
    return None


def dominates(timings: Collection[Timing]) -> str | None:
    """Why starting pods costs too much, in words; None: it does not, or not enough trials were seen."""
    if len(timings) < ENOUGH:
        return None
    starting = _usual([each.starting for each in timings])
    running = _usual([each.running for each in timings])
    if starting <= MUCH * running:
        return None
    return f"a pod takes {starting:.1f} s to start, for trials of {running:.1f} s"


def _usual(seconds: Sequence[float]) -> float:
    """The mean, without the tenth (at least one) at either end. Kubernetes' timestamps are whole seconds: of times
    below one the median is 0 or 1, while the mean is right."""
    cut = max(1, len(seconds) // 10)
    return statistics.fmean(sorted(seconds)[cut:-cut])


def are_short(timings: Collection[Timing]) -> bool:
    """Whether the hand-over of a slot is felt."""
    return bool(timings) and statistics.median(each.running for each in timings) < SHORT


def ahead(slots: int, timings: Collection[Timing]) -> int:
    """How many trials may be committed before a slot is free. None where trials run one at a time: the same seed gives
    the same trials there, each chosen with all before it known."""
    return max(1, int(slots * AHEAD)) if slots > 1 and are_short(timings) else 0


def declared(container: Json) -> list[Json]:
    """What the template's container declares as environment, for the agent: names in order, values where they are
    plain text."""
    return [
        {"name": variable["name"], **({"value": variable["value"]} if "value" in variable else {})}
        for variable in container.get("env") or ()
    ]
