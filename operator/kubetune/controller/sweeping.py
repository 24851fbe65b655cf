"""Objects that were sent and never committed: attempts that were lost or fenced on the way leave them, and the database
says nothing of them.

A chore of the leader. It looks through one study's own prefix after the other, a few pages at a time, and removes what
is old and not recorded. Only studies that this database knows are looked through: a bucket may have other users. Where
it stands is kept in memory alone: killed anywhere, the study is looked through again.
"""

import dataclasses
import logging
from collections.abc import Callable

from kubetune import s3
from kubetune.api import checkpoints
from kubetune.storage import base
from kubetune.storage.base import EngineStorage

PAGES = 5  # listed in one turn, each of a thousand objects at most
REMOVED_AT_ONCE = 200  # in one turn
_END = ".tar"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Sweep:
    """``begun``: seconds since the epoch; ``token``: of the next page, "" the first."""

    uid: str
    begun: float
    token: str = ""


class Sweeping:
    """See the module. ``clock``: seconds since the epoch."""

    def __init__(self, storage: EngineStorage, objects: s3.Objects | None, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._objects = objects
        self._clock = clock
        self._now: _Sweep | None = None
        self._removed = 0  # in this turn

    def turn(self) -> None:
        """Go on by a few pages. Raises StorageUnavailable, Fenced."""
        if self._objects is None:
            return
        self._removed = 0
        for _ in range(PAGES):
            sweep = self._now or next((_Sweep(uid, self._clock()) for uid in self._storage.unswept(1)), None)
            self._now = None  # what fails begins again
            if sweep is None:
                return
            try:
                self._now = self._page(self._objects, sweep)
            except s3.Unavailable as error:
                logger.warning("stray checkpoints of %s cannot be removed now: %s", sweep.uid, error)
                return
            if self._removed >= REMOVED_AT_ONCE:
                return

    def _page(self, objects: s3.Objects, sweep: _Sweep) -> _Sweep | None:
        """Where it goes on; None: it is done."""
        folder = objects.store.folder(sweep.uid)
        page = objects.page(folder, sweep.token)
        old = [location for each in page.entries if (location := _old(each, folder, sweep))]
        strays = self._storage.unrecorded(sweep.uid, old) if old else []
        now = strays[: REMOVED_AT_ONCE - self._removed]
        for location in now:
            objects.remove(sweep.uid, location)
        self._removed += len(now)
        if now:
            logger.info("removed %d objects of %s that were never committed", len(now), sweep.uid)
        if len(now) < len(strays):
            return sweep  # the same page again
        if page.token:
            return dataclasses.replace(sweep, token=page.token)
        self._storage.swept(sweep.uid, sweep.begun)
        return None


def _old(entry: s3.Entry, folder: str, sweep: _Sweep) -> str:
    """The location, if this is a checkpoint of the study itself, and old enough; "" if it is not."""
    location = entry.key.removeprefix(folder).removesuffix(_END)
    own = entry.key == f"{folder}{location}{_END}" and checkpoints.LOCATION.fullmatch(location)
    return location if own and entry.modified < sweep.begun - base.YOUNG else ""
