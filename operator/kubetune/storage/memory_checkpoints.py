"""Checkpoints of `storage.memory`: the same rules as `checkpoint_side`, over what it keeps."""

import dataclasses
from collections.abc import Collection, Sequence

from kubetune.api import checkpoints
from kubetune.api.checkpoints import Checkpoint, Kept, Resumed
from kubetune.storage import base


@dataclasses.dataclass
class Stored:
    """One checkpoint. ``told`` and ``removed``: seconds since the epoch."""

    kept: Kept
    told: float | None = None
    removed: float | None = None


class Store:
    """An experiment's checkpoints, in order of their commits."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}  # by location
        self.resumed: dict[tuple[int, int], Resumed] = {}  # by trial and attempt

    def of(self, number: int) -> list[Kept]:
        """A trial's that are not removed."""
        return [each.kept for each in self.stored.values() if each.removed is None and _trial(each) == number]

    def commit(self, new: Checkpoint, keep: int, now: float) -> list[str]:
        """As `base.GatewayStorage.commit_checkpoint`."""
        known = self.stored.get(new.location)
        if known is not None and known.kept.checkpoint.digest != new.digest:
            raise ValueError(f"location: another checkpoint was committed as {new.location}; choose a new name")
        if known is None:
            self.stored[new.location] = Stored(Kept(new))
        for each in checkpoints.superseded(self.of(new.trial), keep):
            self.stored[each.checkpoint.location].kept = dataclasses.replace(each, released=True)
        due = [
            location
            for location, each in self.stored.items()
            if each.kept.released
            and each.removed is None
            and each.kept.checkpoint.store == checkpoints.CLAIM
            and (each.told is None or each.told < now - base.TELL_AGAIN)
        ][: base.REMOVE_AT_ONCE]
        for location in due:
            self.stored[location].told = now
        return sorted(due)

    def resume(
        self, who: base.Identity, location: str | None, damaged: Collection[str], now: float
    ) -> Checkpoint | None:
        """As `base.GatewayStorage.resume`; returns what it goes on from."""
        if location is not None and location not in self.stored:
            raise ValueError(f"location: no checkpoint was committed as {location}")
        for each in damaged:
            if each in self.stored:
                self.stored[each].kept = dataclasses.replace(self.stored[each].kept, damaged=True)
        if location is None:
            return None
        found = self.stored[location].kept.checkpoint
        self.resumed[who.number, who.attempt] = Resumed(
            who.number, who.attempt, found.trial, found.attempt, found.step, location, now
        )
        return found

    def release(self, number: int, keep: bool, held: Collection[str]) -> int:
        """Of an ended trial, but for those at these locations; how many."""
        unneeded = checkpoints.unneeded(self.of(number), keep)
        gone = [each for each in unneeded if each.checkpoint.location not in held]
        for each in gone:
            self.stored[each.checkpoint.location].kept = dataclasses.replace(each, released=True)
        return len(gone)

    @property
    def trials(self) -> list[int]:
        """Those that have any."""
        return sorted({_trial(each) for each in self.stored.values() if each.removed is None})

    @property
    def garbage(self) -> list[str]:
        """Released, and not removed."""
        return [place for place, each in self.stored.items() if each.kept.released and each.removed is None]

    @property
    def staying(self) -> tuple[str, ...]:
        return tuple(place for place, each in self.stored.items() if not each.kept.released)

    def remove(self, locations: Sequence[str], now: float) -> None:
        """They are gone."""
        for location in locations:
            each = self.stored.get(location)
            if each is not None and each.kept.released and each.removed is None:
                each.removed = now


def _trial(stored: Stored) -> int:
    return stored.kept.checkpoint.trial
