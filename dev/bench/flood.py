"""One experiment of many trials against the same Jobs kept in flight by a bare client: rate, gaps, and their price."""

import dataclasses
import math

from dev.bench import load
from dev.bench.observer import gaps, mean_in_flight, quantile
from dev.bench.result import Goal, Result, judge


@dataclasses.dataclass(frozen=True)
class Sides:
    """Both sides of a flood, with what the notes tell of each."""

    size: load.Load
    ours: load.Run
    bare: load.Run

    def rate(self, run: load.Run) -> float:
        """Trials a second, from the request to the last trial's end; of those that ended if not all did."""
        if not run.ended:
            return math.nan
        return len(run.ended) / (max(run.ended) - run.begun)

    def gap(self, run: load.Run, share: float) -> float:
        """Milliseconds."""
        return 1000 * quantile(gaps(run.created, run.ended, self.size.in_flight), share)

    def per_trial(self, figure: float) -> float:
        return figure / self.size.trials

    @property
    def whole(self) -> bool:
        """Whether both sides ended all trials: else nothing is compared."""
        return all(len(run.ended) >= self.size.trials for run in (self.ours, self.bare))

    def note(self) -> str:
        """What is the same, and what differs."""
        texts = [f"{self.size}, random sampler"]
        for name, run in (("kubetune", self.ours), ("bare", self.bare)):
            mean = mean_in_flight(run.created, run.ended)
            texts.append(f"{name}: {len(run.ended)} ended, {mean:.0f} in flight on average")
        if self.ours.refused_reports or self.ours.observer.failed:
            texts.append(f"{self.ours.refused_reports} reports refused, {len(self.ours.observer.failed)} pods failed")
        return "; ".join(texts)


async def flood(size: load.Load, patience: float) -> Sides:
    """The bare client first, then kubetune, each for at most ``patience`` seconds."""
    async with load.connected() as (api, door):
        bare = await load.bare(api, door, size, load.ENDED, patience)
        ours = await load.kubetune(api, door, size, load.ENDED, patience)
    return Sides(size, ours, bare)


def rate(name: str, sides: Sides) -> Result:
    """Trials a second against the bare client's."""
    ours, bare = sides.rate(sides.ours), sides.rate(sides.bare)
    result = judge(name, ours, "trials/s", bare, Goal("ratio", ">=", 0.85), sides.note())
    return result if sides.whole else dataclasses.replace(result, holds=False, note=f"not all ended; {result.note}")
