"""Many experiments at once: the time until every slot of all of them runs, against a bare client's."""

import math

from dev.bench import load
from dev.bench.result import Goal, Result, judge


async def many(name: str, size: load.Load, patience: float) -> Result:
    """The bare client first, then kubetune, each for at most ``patience`` seconds. The experiments are created by
    requests that run at the same time, and they count."""
    async with load.connected() as (api, door):
        bare = await load.bare(api, door, size, load.RUNNING, patience)
        ours = await load.kubetune(api, door, size, load.RUNNING, patience)
    note = str(size)
    for side, run in (("kubetune", ours), ("bare", bare)):
        if math.isnan(run.seconds):
            note += f"; {side}: at most {max(run.observer.at_first, default=0)} ran at once within {patience:g} s"
    return judge(name, ours.seconds, "s", bare.seconds, Goal("ratio", "<=", 1.2), note)
