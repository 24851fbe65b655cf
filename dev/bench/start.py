"""From `kubectl apply` of an experiment to its first pod running on the real node, against a bare Job."""

import asyncio
import json
import time
import uuid

from dev.bench import load
from dev.bench.api import Api, Gateway, Json
from dev.bench.observer import quantile
from dev.bench.result import Goal, Result, judge
from kubetune.api.spec import parse
from kubetune.controller.jobs import build_job, sample

NAMES = ["start"]
SLEEP = ["python3", "-c", "import time; time.sleep(60)"]
POD: Json = {"spec": {"terminationGracePeriodSeconds": 0, "containers": [
    {"name": "trial", "image": "kubetune/trial:0.1.0", "command": SLEEP}]}}  # fmt: skip
PATIENCE = 30.0  # seconds


def run(quick: bool) -> list[Result]:
    """Medians of 7 (quick: 2) turns of each, one after the other."""
    turns = 2 if quick else 7
    ours, bare = asyncio.run(_turns(turns))
    note = f"medians of {turns}, TPE, image loaded; kubectl itself counts on both sides"
    goal = Goal("value", "<=", 2.5)
    return [judge("start", quantile(ours, 0.5), "s", quantile(bare, 0.5), goal, note)]


async def _turns(count: int) -> tuple[list[float], list[float]]:
    ours, bare = [], []
    async with load.connected() as (api, door):
        for turn in range(count):
            bare.append(await _turn(api, f"bench-start-{turn}-bare", _bare(door)))
            ours.append(await _turn(api, f"bench-start-{turn}-kubetune", _experiment()))
    return ours, bare


def _experiment() -> Json:
    return load.experiment("start", load.Load(1, 1, 2, 60), sampler={"name": "tpe"}, template=POD)


def _bare(door: Gateway) -> Json:
    """The Job that kubetune would make of it."""
    resource = _experiment()
    resource["metadata"] |= {"namespace": "default", "uid": str(uuid.uuid4()), "generation": 1}
    spec = parse(resource)
    return load.made_bare(build_job(spec, 0, 1, sample(spec.parameters), door.wiring))


async def _turn(api: Api, name: str, body: Json) -> float:
    """Seconds; NaN if no pod ran in time."""
    async with load.namespace(api, name) as observer:
        begun = time.monotonic()
        command = ["kubectl", "apply", "-n", name, "-f", "-"]
        pipe = asyncio.subprocess.PIPE
        kubectl = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=asyncio.subprocess.DEVNULL)
        await kubectl.communicate(json.dumps(body).encode())
        if not await observer.until(lambda seen: bool(seen.at_first), PATIENCE):
            return float("nan")
        return observer.at_first[1] - begun
