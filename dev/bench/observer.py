"""What happened to a namespace's Jobs and pods, and when its watch events arrived here: the benchmarks' only clock."""

import asyncio
import time
from collections.abc import Callable

from dev.bench.api import Api, Json
from kubetune.kube import resources

_OVER = ("Succeeded", "Failed")


class Observer:
    """Follows one namespace from its beginning. Times are monotonic seconds of arrival.

    ``created``: when each Job appeared, ``ended``: when each first showed that it was over (its pod succeeded, the Job
    says so, or it was deleted), both by the Job's UID and in the order of arrival. ``running``: pods that run now, and
    ``most``: since when how many ran at once.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self.namespace = api, namespace
        self.created: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.failed: set[str] = set()  # Jobs whose pod did not succeed
        self.left: set[str] = set()  # Jobs that are still there
        self.running: set[str] = set()  # pods
        self.at_first: dict[int, float] = {}  # so many pods running at once → when that was first so
        self.on_running: Callable[[Json], None] = lambda pod: None
        self.on_end: Callable[[str], None] = lambda job_uid: None
        self._begun: set[str] = set()  # pods
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._follow(resources.JOBS, self._job)),
            asyncio.create_task(self._follow(resources.PODS, self._pod)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, condition: Callable[["Observer"], bool], seconds: float) -> bool:
        """Wait until it is so; False after so many seconds. Raises what a watch ended with."""
        end = time.monotonic() + seconds
        while not condition(self):
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)
        return True

    async def _follow(self, resource: resources.Resource, take: Callable[[str, Json, float], None]) -> None:
        async for event in self._api.watch(resource, self.namespace):
            take(event["type"], event["object"], time.monotonic())

    def _job(self, kind: str, job: Json, now: float) -> None:
        uid = job["metadata"]["uid"]
        self.created.setdefault(uid, now)
        if kind == "DELETED":
            self.left.discard(uid)
        elif uid not in self.left and kind == "ADDED":
            self.left.add(uid)
        conditions = (job.get("status") or {}).get("conditions") or ()
        over = {entry["type"] for entry in conditions if entry["status"] == "True"}
        if kind == "DELETED" or over & {"Complete", "Failed"}:
            self._end(uid, now)

    def _pod(self, kind: str, pod: Json, now: float) -> None:
        metadata, phase = pod["metadata"], pod["status"].get("phase")
        uid = metadata["uid"]
        job = next((owner["uid"] for owner in metadata.get("ownerReferences") or () if owner["kind"] == "Job"), "")
        if phase == "Running" and kind != "DELETED" and not metadata.get("deletionTimestamp"):
            self.running.add(uid)
            self.at_first.setdefault(len(self.running), now)
            if uid not in self._begun:
                self._begun.add(uid)
                self.on_running(pod)
        else:
            self.running.discard(uid)
        if phase in _OVER or kind == "DELETED":
            if phase != "Succeeded":
                self.failed.add(job)
            self._end(job, now)

    def _end(self, job: str, now: float) -> None:
        if job not in self.ended:
            self.ended[job] = now
            self.on_end(job)


def gaps(created: list[float], ended: list[float], in_flight: int) -> list[float]:
    """Seconds for which each freed slot was empty: from the k-th end to the k-th creation after the first fill."""
    return [max(0.0, begin - end) for begin, end in zip(sorted(created)[in_flight:], sorted(ended), strict=False)]


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share does not exceed; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def mean_in_flight(created: list[float], ended: list[float]) -> float:
    """How many Jobs were there on average, from the first creation to the last end."""
    if not created or len(created) != len(ended):
        return float("nan")
    return (sum(ended) - sum(created)) / (max(ended) - min(created))
