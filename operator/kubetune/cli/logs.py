"""`kubectl tune logs`: a trial's log from its pod while there is one, then the end that kubetune kept."""

import asyncio
import sys
import time
from typing import TextIO

from kubetune.cli import explain, model
from kubetune.cli.access import Access
from kubetune.kube import errors
from kubetune.kube.client import Json
from kubetune.kube.credentials import Credentials
from kubetune.kube.stream import LogStreams

INTERVAL = 1.0  # seconds between two looks for a pod that has not started


def logs(access: Access, credentials: Credentials, name: str, number: int, follow: bool, out: TextIO) -> int:
    """Print the log of trial ``number``; ``follow``: from the start of its pod to its end."""
    shown = model.experiment(access.experiment(name))
    if number >= max(shown.total, 1):
        raise explain.no_trial(name, number, shown.total)
    told = False
    while True:
        pods = access.pods(name, number)
        if not pods:
            return _kept(access, name, number, out)
        pod = pods[-1]
        if _started(pod, shown.container):
            try:
                asyncio.run(_print(credentials, access.namespace, pod, shown.container, follow, out))
                return 0
            except errors.NotFound:  # it went in between
                return _kept(access, name, number, out)
            except errors.Invalid:  # not started after all
                pass
            except errors.ApiError as error:
                raise explain.api(error, f"read the log of trial {number}") from error
        if not follow:
            raise explain.Problem(f"trial {number} has not started: its pod {_why(pod)}; -f waits for it")
        if not told:
            print(f"(trial {number} has not started: its pod {_why(pod)})", file=sys.stderr)
            told = True
        time.sleep(INTERVAL)


def _kept(access: Access, name: str, number: int, out: TextIO) -> int:
    log = access.kept_log(name, number)
    if log is None:
        raise explain.Problem(
            f"trial {number} has no pod and no kept log: the end of a log is kept of failed and pruned trials and of "
            "the best; for all logs, collect them as you do for other pods"
        )
    print(f"(the pod of trial {number} is gone; this is the end of its log, as it was kept)", file=sys.stderr)
    out.write(log if log.endswith("\n") or not log else log + "\n")
    return 0


async def _print(
    credentials: Credentials, namespace: str, pod: Json, container: str, follow: bool, out: TextIO
) -> None:
    async with LogStreams(credentials) as streams:
        async for _, line in streams.follow(namespace, pod["metadata"]["name"], container or None, follow=follow):
            print(line, file=out, flush=follow)


def _started(pod: Json, container: str) -> bool:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if not container or status["name"] == container:
            state = status.get("state") or {}
            return "running" in state or "terminated" in state
    return False


def _why(pod: Json) -> str:
    """``waits: 0/1 nodes are available …``."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            return f"waits: {waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"waits: {condition.get('message', 'for a node')}"
    return f"is {status.get('phase', 'Pending')}"
