"""`kubectl tune logs`: a trial's log from its pod, or from its worker's, while there is one, then the end that kubetune
kept."""

import asyncio
import contextlib
import datetime
import sys
import time
from collections.abc import AsyncIterator
from typing import TextIO

from kubetune.cli import explain, model
from kubetune.cli.access import Access, Log
from kubetune.kube import errors
from kubetune.kube.client import Json
from kubetune.kube.credentials import Credentials
from kubetune.kube.stream import LogStreams

INTERVAL = 1.0  # seconds between two looks for a pod that has not started, or for the end of a trial in a worker


def logs(
    access: Access, credentials: Credentials, name: str, number: int, follow: bool, out: TextIO, phase: str = ""
) -> int:
    """Print the log of trial ``number``, of the search or of a phase after it; ``follow``: from its start to its
    end."""
    shown = model.experiment(access.experiment(name))
    if not phase and number >= max(shown.total, 1):
        raise explain.no_trial(name, number, shown.total)
    told = False
    while True:
        pods = access.pods(name, number, phase)
        if not pods:
            return _elsewhere(access, credentials, name, number, shown.container, follow, out, phase)
        pod = pods[-1]
        if _started(pod, shown.container):
            try:
                asyncio.run(_print(credentials, access.namespace, pod, shown.container, follow, out))
                return 0
            except errors.NotFound:  # it went in between
                return _kept(access.log(name, number, phase), number, out)
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


def _elsewhere(
    access: Access,
    credentials: Credentials,
    name: str,
    number: int,
    container: str,
    follow: bool,
    out: TextIO,
    phase: str,
) -> int:
    """It has no pod of its own: from its worker's, or what was kept. What comes after the search runs in no worker."""
    if phase:
        return _kept(access.log(name, number, phase), number, out)
    log = access.log(name, number)
    while follow and log.running and log.worker is None:  # no worker has it yet
        time.sleep(INTERVAL)
        if access.pods(name, number):
            return logs(access, credentials, name, number, follow, out)
        log = access.log(name, number)
    pods = access.worker_pods(name, *log.worker) if log.worker else ()
    for pod in pods:
        lines = _Lines(access, name, number, log, follow, out)
        try:
            asyncio.run(lines.print(credentials, pod, container))
        except (errors.NotFound, errors.Invalid):
            break
        except errors.ApiError as error:
            raise explain.api(error, f"read the log of trial {number}") from error
        if lines.count or log.running:
            return 0
    return _kept(access.log(name, number), number, out)


class _Lines:
    """A trial's lines in the log of a worker, which has its mark before each."""

    def __init__(self, access: Access, name: str, number: int, log: Log, follow: bool, out: TextIO) -> None:
        self._access, self._name, self._number, self._log = access, name, number, log
        self._follow, self._out = follow and log.running, out
        self._mark = f"[{number}/{log.attempt}] "
        self.count = 0

    async def print(self, credentials: Credentials, pod: Json, container: str) -> None:
        """Up to now, or to the trial's end. The worker's log goes on after it."""
        async with LogStreams(credentials) as streams:
            lines = streams.follow(
                self._access.namespace, pod["metadata"]["name"], container or None, self._since(), self._follow
            )
            reading = asyncio.create_task(self._read(lines))
            ending = asyncio.create_task(self._end())
            await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def _read(self, lines: AsyncIterator[tuple[str, str]]) -> None:
        async for _, line in lines:
            if line.startswith(self._mark):
                self.count += 1
                print(line.removeprefix(self._mark), file=self._out, flush=self._follow)

    async def _end(self) -> None:
        """A while after the attempt has ended, so that its last lines are there; never where nothing is followed."""
        if not self._follow:
            await asyncio.Event().wait()
        log = self._log
        while log.running and log.attempt == self._log.attempt:
            await asyncio.sleep(INTERVAL)
            log = await asyncio.to_thread(self._access.log, self._name, self._number)
        await asyncio.sleep(INTERVAL)

    def _since(self) -> str:
        if self._log.started is None:
            return ""
        return datetime.datetime.fromtimestamp(int(self._log.started), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _kept(log: Log, number: int, out: TextIO) -> int:
    if log.kept is None:
        raise explain.Problem(
            f"trial {number} has no pod and no kept log: the end of a log is kept of failed and pruned trials and of "
            "the best; for all logs, collect them as you do for other pods"
        )
    print(f"(the pod of trial {number} is gone; this is the end of its log, as it was kept)", file=sys.stderr)
    out.write(log.kept if log.kept.endswith("\n") or not log.kept else log.kept + "\n")
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
