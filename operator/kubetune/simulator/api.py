"""A simulated API server: objects with versions and UIDs, watches, and a client that can fail before or after a write.

Objects are never changed in place, so that whoever has seen one keeps what they have seen.
"""

import collections
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from kubetune.api.spec import Json
from kubetune.controller.status import timestamp
from kubetune.kube import errors, resources
from kubetune.kube.resources import Resource
from kubetune.simulator.world import World

Watcher = Callable[[str, Json, bool], None]  # plural, object, whether it was deleted


class ApiServer:
    """Objects by kind, namespace and name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._objects: dict[str, dict[tuple[str, str], Json]] = collections.defaultdict(dict)  # plural → name → object
        self._names: dict[str, tuple[str, str]] = {}  # UID → namespace and name
        self.watchers: list[Watcher] = []
        self.note = world.note
        self.refuse: Callable[[Json], errors.ApiError | None] = lambda body: None  # admission of Jobs

    @property
    def now(self) -> float:
        """Epoch seconds, virtual."""
        return self._world.now

    def get(self, plural: str, namespace: str, name: str) -> Json | None:
        return self._objects[plural].get((namespace, name))

    def of_uid(self, plural: str, uid: str) -> Json | None:
        return self._objects[plural].get(self._names.get(uid, ("", "")))

    def all(self, plural: str) -> list[Json]:
        """In order of creation."""
        return list(self._objects[plural].values())

    def add(self, plural: str, body: Json) -> Json:
        """A new object, with UID and time of creation. Raises AlreadyExists."""
        metadata = body["metadata"]
        if self.get(plural, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise errors.AlreadyExists(409, "AlreadyExists", f"{plural} {metadata['name']} is there already")
        uid = metadata.get("uid") or f"{plural}-{next(self._uids)}"
        stamped = {**metadata, "uid": uid, "creationTimestamp": timestamp(self._world.now)}
        return self.put(plural, {**body, "metadata": stamped})

    def put(self, plural: str, changed: Json) -> Json:
        """The object's new state."""
        metadata = {**changed["metadata"], "resourceVersion": str(next(self._versions))}
        stored = {**changed, "metadata": metadata}
        name = metadata.get("namespace", ""), metadata["name"]
        self._objects[plural][name] = stored
        self._names[metadata["uid"]] = name
        self._tell(plural, stored, False)
        return stored

    def remove(self, plural: str, gone: Json) -> None:
        """An object that is gone, or will be once no finalizer holds it; one that is gone already stays so."""
        metadata = gone["metadata"]
        there = self.of_uid(plural, metadata["uid"])
        if there is None:
            return
        if there["metadata"].get("finalizers"):
            if "deletionTimestamp" not in there["metadata"]:
                stamped = {**there["metadata"], "deletionTimestamp": timestamp(self._world.now)}
                self.put(plural, {**there, "metadata": stamped})
            return
        del self._objects[plural][self._names.pop(metadata["uid"])]
        last = {**there["metadata"], "resourceVersion": str(next(self._versions))}
        self._tell(plural, {**there, "metadata": last}, True)

    def _tell(self, plural: str, raw: Json, deleted: bool) -> None:
        for watcher in list(self.watchers):
            watcher(plural, raw, deleted)


class Client:
    """One operator's requests: the part of `kube.client.Client` that `controller.cluster.KubeCluster` uses.

    ``fault`` is asked before and after each request (``before:create``, ``after:create``, …) and may raise.
    """

    def __init__(self, server: ApiServer, fault: Callable[[str], None]) -> None:
        self._server = server
        self._fault = fault

    def get(self, resource: Resource, namespace: str | None, name: str, subresource: str | None = None) -> Json:
        self._fault("before:get")
        found = self._server.get(resource.plural, namespace or "", name)
        if found is None:
            raise errors.NotFound(404, "NotFound", f"{resource.plural} {name} not found")
        return found

    def create(
        self,
        resource: Resource,
        namespace: str | None,
        body: Mapping[str, Any],
        dry_run: bool = False,
        strict: bool = False,
    ) -> Json:
        self._fault("before:dry-run" if dry_run else "before:create")
        refusal = self._server.refuse(dict(body))
        if refusal is not None:
            raise refusal
        if dry_run:
            return {**body, "metadata": {**body["metadata"], "uid": "dry-run", "creationTimestamp": None}}
        made = self._server.add(resource.plural, dict(body))
        self._server.note(f"created {resource.plural} {body['metadata']['name']}")
        self._fault("after:create")
        return made

    def delete(
        self, resource: Resource, namespace: str | None, name: str, uid: str | None = None, grace: int | None = None
    ) -> None:
        self._fault("before:delete")
        found = self._server.get(resource.plural, namespace or "", name)
        if found is None:
            raise errors.NotFound(404, "NotFound", f"{resource.plural} {name} not found")
        if uid is not None and found["metadata"]["uid"] != uid:
            raise errors.Conflict(409, "Conflict", "the UID in the precondition is another")
        self._server.remove(resource.plural, found)
        self._server.note(f"deleted {resource.plural} {name}")
        self._fault("after:delete")

    def apply(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        manager: str,
        subresource: str | None = None,
    ) -> Json:
        self._fault("before:apply")
        found = self._server.get(resource.plural, namespace or "", name)
        if found is None or found["metadata"]["uid"] != body["metadata"]["uid"]:
            raise errors.NotFound(404, "NotFound", f"{resource.plural} {name} not found")
        stored = self._server.put(resource.plural, {**found, "status": body["status"]})
        self._fault("after:apply")
        return stored

    def log_tail(
        self, namespace: str, pod: str, limit_bytes: int, container: str | None = None, lines: int = 2000
    ) -> str:
        self._fault("before:log")
        if self._server.get(resources.PODS.plural, namespace, pod) is None:
            raise errors.NotFound(404, "NotFound", f"pod {pod} not found")
        return "the last lines of the log"
