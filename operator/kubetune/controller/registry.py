"""The experiments there are, each with its resource as last seen and its engine; and those that are no more.

An experiment is known by its UID. What a watch says late or twice changes nothing: versions only grow, and a UID that
was deleted never comes back. Its study is marked deleted only when its deletion was seen, or when a list that began
after the study was read lacks it: not being known here (yet) proves nothing.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import Reason, TrialRow
from kubetune.controller import views
from kubetune.controller.ports import Engine
from kubetune.storage.base import KeptSpec, StudyRow, Version

logger = logging.getLogger(__name__)


class Studies(Protocol):
    """What the registry needs of the database (`storage.base.EngineStorage` has it)."""

    def studies(self) -> list[StudyRow]: ...

    def load_spec(self, uid: str) -> KeptSpec | None: ...

    def save_spec(self, uid: str, kept: KeptSpec) -> None: ...

    def delete_study(self, uid: str) -> None: ...

    def phases(self, uid: str) -> list[StudyRow]: ...

    def load_trials(self, uid: str) -> list[TrialRow]: ...

    def versions(self, uid: str) -> list[Version]: ...


@dataclasses.dataclass
class _Known:
    resource: Json
    version: int | None
    touched: float  # monotonic


@dataclasses.dataclass(frozen=True)
class Deleted:
    """An experiment that is gone, and whose study is not yet marked so."""

    uid: str
    namespace: str
    name: str


class Registry:
    """Thread-safe, but for one engine: its experiment's key is never in two workers' hands at once.

    Args:
        build: loads an engine; raises InvalidSpec, StorageUnavailable, Fenced.
        on_deleted: told when an experiment's end is recorded, to drop what else is known of it.
    """

    def __init__(
        self,
        studies: Studies,
        build: Callable[[ExperimentSpec], Engine],
        on_deleted: Callable[[Deleted], None] = lambda deleted: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._studies = studies
        self._build = build
        self._on_deleted = on_deleted
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._known: dict[str, _Known] = {}
        self._engines: dict[str, Engine] = {}
        self._deleted: dict[str, Deleted] = {}  # to be recorded
        self._buried: set[str] = set()  # recorded

    def __len__(self) -> int:
        return len(self._known)

    def uids(self) -> list[str]:
        with self._lock:
            return list(self._known)

    def resource(self, uid: str) -> Json | None:
        """The experiment as last seen; None: not known, or deleted."""
        with self._lock:
            known = self._known.get(uid)
            return None if known is None else known.resource

    def resources(self, but: Collection[str]) -> list[Json]:
        """All experiments as last seen, but those of these UIDs."""
        with self._lock:
            return [known.resource for uid, known in self._known.items() if uid not in but]

    def home(self, uid: str) -> str | None:
        """An experiment's namespace."""
        resource = self.resource(uid)
        return None if resource is None else str(resource["metadata"]["namespace"])

    # what is seen

    def put(self, resource: Json) -> bool:
        """An experiment as a watch or a list showed it; whether there is something to do about it (a new one, a new
        spec, a deletion that has begun: our own writes of its status are none)."""
        uid, version = resource["metadata"]["uid"], views.version(resource)
        with self._lock:
            if uid in self._deleted or uid in self._buried:
                return False
            known = self._known.get(uid)
            if known is None:
                self._known[uid] = _Known(resource, version, self._monotonic())
                return True
            known.touched = self._monotonic()
            if version is not None and known.version is not None and version <= known.version:
                return False
            news = _essence(resource) != _essence(known.resource)
            known.resource, known.version = resource, version
            return news

    def gone(self, resource: Json) -> bool:
        """An experiment's deletion was seen; whether it still has to be recorded (by `bury`)."""
        metadata = resource["metadata"]
        return self._gone(Deleted(metadata["uid"], metadata["namespace"], metadata["name"]))

    def _gone(self, deleted: Deleted) -> bool:
        with self._lock:
            if deleted.uid in self._deleted or deleted.uid in self._buried:
                return False
            self._known.pop(deleted.uid, None)
            self._deleted[deleted.uid] = deleted
            return True

    def reconcile_with(
        self, listed: Iterable[Json], studies: Collection[StudyRow], begun: float, namespaces: Collection[str]
    ) -> set[str]:
        """Take in a full list of experiments.

        Args:
            studies: read before the list began.
            begun: when the list began (monotonic).
            namespaces: those that were listed; empty: all.

        Returns:
            The UIDs with something to do: new ones, changed ones, deleted ones.
        """
        seen, woken = set(), set()
        for resource in listed:
            uid = resource["metadata"]["uid"]
            seen.add(uid)
            if self.put(resource):
                woken.add(uid)
        with self._lock:
            missing = [
                known.resource for uid, known in self._known.items() if uid not in seen and known.touched < begun
            ]
            woken |= {resource["metadata"]["uid"] for resource in missing if self.gone(resource)}
            for study in studies:
                if names.phase_of(study.uid):
                    continue  # it goes with its experiment's
                ours = not namespaces or study.namespace in namespaces
                if ours and study.uid not in seen and study.uid not in self._known:
                    woken |= {study.uid} if self._gone(Deleted(study.uid, study.namespace, study.name)) else set()
        return woken

    # engines

    def engine(self, spec: ExperimentSpec) -> Engine:
        """The experiment's engine, loaded if need be. Raises what ``build`` raises."""
        with self._lock:
            engine = self._engines.get(spec.uid)
        if engine is None:
            engine = self._build(spec)
            with self._lock:
                self._engines[spec.uid] = engine
        return engine

    def drop_engine(self, uid: str) -> None:
        """Forget an engine whose memory is not to be trusted any more; the next look loads a new one."""
        with self._lock:
            self._engines.pop(uid, None)

    def kept_spec(self, uid: str) -> KeptSpec | None:
        """The spec that was committed as the one in force. Raises StorageUnavailable."""
        return self._studies.load_spec(uid)

    def keep_spec(self, uid: str, kept: KeptSpec) -> None:
        """Commit the spec in force. Raises StorageUnavailable, Fenced."""
        self._studies.save_spec(uid, kept)

    def phases(self, uid: str) -> list[StudyRow]:
        return self._studies.phases(uid)

    def trials(self, uid: str) -> list[TrialRow]:
        return self._studies.load_trials(uid)

    def versions(self, uid: str) -> list[Version]:
        return self._studies.versions(uid)

    # the end

    def bury(self, uid: str) -> bool:
        """Record the end of an experiment that is gone; False if it is not. Raises StorageUnavailable, Fenced: then
        it is still to be done."""
        with self._lock:
            deleted = self._deleted.get(uid)
        if deleted is None:
            return False
        with self._lock:
            for each in [each for each in self._engines if names.base_uid(each) == uid]:
                del self._engines[each]
        self._studies.delete_study(uid)
        with self._lock:
            self._deleted.pop(uid, None)
            self._buried.add(uid)
        logger.info(
            "the experiment was deleted: its study is marked so (%s)",
            Reason.EXPERIMENT_DELETED.value,
            extra={"namespace": deleted.namespace, "experiment": deleted.name},
        )
        self._on_deleted(deleted)
        return True


def is_deleting(resource: Json) -> bool:
    """Its deletion has begun (by foreground, or held up by somebody's finalizer): nothing new may be started."""
    return bool(resource["metadata"].get("deletionTimestamp"))


def _essence(resource: Json) -> tuple[object, ...]:
    """What a reconcile depends on; the status is ours."""
    metadata = resource["metadata"]
    return metadata.get("generation"), metadata.get("deletionTimestamp")
