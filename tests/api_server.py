"""A small API server over HTTP for whole operator processes: objects of any kind, versions, watches, no admission."""

import http.server
import itertools
import json
import queue
import threading
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit.test_kube_watches import discovery

Json = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace, name


class ApiServer(http.server.ThreadingHTTPServer):
    """Serves on a port of 127.0.0.1 from `start` to `stop`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = self.server_address[1]
        self.objects: dict[Key, Json] = {}
        self.changed = threading.Condition()
        self._versions = itertools.count(100)
        self._watchers: list[tuple[str, queue.Queue[Json | None]]] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self.changed:
            for _, events in self._watchers:
                events.put(None)
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of an answer is no error."""

    def all(self, plural: str) -> list[Json]:
        with self.changed:
            return [found for key, found in self.objects.items() if key[0] == plural]

    def version(self) -> str:
        return str(next(self._versions))

    def put(self, plural: str, body: Json) -> Json:
        """A new object, or a new state of one; tells the watches."""
        metadata = body["metadata"]
        key = (plural, metadata.get("namespace", ""), metadata["name"])
        with self.changed:
            before = self.objects.get(key)
            stamps = {
                "uid": str(uuid.uuid4()),
                "creationTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "generation": 1,
            }
            kept = before["metadata"] if before else {**stamps, **metadata}
            stored = {**body, "metadata": {**metadata, **kept, "resourceVersion": self.version()}}
            self.objects[key] = stored
            self._tell(plural, "MODIFIED" if before else "ADDED", stored)
        return stored

    def remove(self, key: Key) -> Json | None:
        with self.changed:
            found = self.objects.pop(key, None)
            if found is not None:
                found = {**found, "metadata": {**found["metadata"], "resourceVersion": self.version()}}
                self._tell(key[0], "DELETED", found)
        return found

    def _tell(self, plural: str, event: str, raw: Json) -> None:
        for kind, events in self._watchers:
            if kind == plural:
                events.put({"type": event, "object": raw})
        self.changed.notify_all()

    def watch(self, plural: str) -> "queue.Queue[Json | None]":
        events: queue.Queue[Json | None] = queue.Queue()
        with self.changed:
            self._watchers.append((plural, events))
        return events


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if len(address.path.strip("/").split("/")) <= 3 and not address.path.endswith("/nodes"):
            plural = address.path.rpartition("/")[2]
            if plural not in ("pods", "jobs", "experiments"):
                return self._answer(200, discovery(address.path))
        plural, namespace, name = self._key(address.path)
        if name:
            found = self.server.objects.get((plural, namespace, name))
            return self._answer(200, found) if found else self._refuse(404, "NotFound")
        if "watch" in parse_qs(address.query):
            return self._stream(plural)
        with self.server.changed:
            items = self.server.all(plural)
            return self._answer(200, {"metadata": {"resourceVersion": self.server.version()}, "items": items})

    def do_POST(self) -> None:
        plural, namespace, _ = self._key(urlsplit(self.path).path)
        body = self._body()
        if "dryRun" in self.path:
            stamps = {"uid": "dry", "creationTimestamp": None}
            return self._answer(201, {**body, "metadata": {**body["metadata"], **stamps}})
        with self.server.changed:
            if (plural, namespace, body["metadata"]["name"]) in self.server.objects:
                return self._refuse(409, "AlreadyExists")
            return self._answer(201, self.server.put(plural, body))

    def do_PUT(self) -> None:
        key, body = self._key(urlsplit(self.path).path), self._body()
        with self.server.changed:
            there = self.server.objects.get(key)
            if there is None or there["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                return self._refuse(409, "Conflict")
            return self._answer(200, self.server.put(key[0], body))

    def do_PATCH(self) -> None:
        key, body = self._key(urlsplit(self.path).path), self._body()
        with self.server.changed:
            there = self.server.objects.get(key)
            if there is None:
                return self._refuse(404, "NotFound")
            return self._answer(200, self.server.put(key[0], {**there, **body, "metadata": there["metadata"]}))

    def do_DELETE(self) -> None:
        self._body()
        gone = self.server.remove(self._key(urlsplit(self.path).path))
        return self._answer(200, gone) if gone else self._refuse(404, "NotFound")

    def _key(self, path: str) -> Key:
        """…/[namespaces/NAMESPACE/]PLURAL[/NAME[/SUBRESOURCE]]"""
        parts = path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if len(parts) > 2 and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        return parts[0], namespace, parts[1] if len(parts) > 1 else ""

    def _body(self) -> Json:
        body: Json = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        return body

    def _stream(self, plural: str) -> None:
        events = self.server.watch(plural)
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while (event := events.get()) is not None:
            self.wfile.write(json.dumps(event).encode() + b"\n")
            self.wfile.flush()

    def _refuse(self, code: int, reason: str) -> None:
        self._answer(code, {"kind": "Status", "status": "Failure", "reason": reason, "message": reason})

    def _answer(self, code: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
