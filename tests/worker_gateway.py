"""A gateway for the worker agent's tests: real HTTP on loopback, and what it is to answer written down before."""

import collections
import dataclasses
import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
NOTHING: Json = {"trial": None, "drain": False}
DRAIN: Json = {"trial": None, "drain": True}


def trial(number: int, attempt: int = 1, **parameters: Any) -> Json:
    return {"trial": number, "attempt": attempt, "parameters": parameters, "drain": False}


@dataclasses.dataclass
class Gateway:
    """Answers leases from ``grants`` (then with `DRAIN`), heartbeats with ``beat``."""

    grants: collections.deque[Json] = dataclasses.field(default_factory=collections.deque)
    beat: Callable[[Json], Json] = lambda body: {"trials": [], "drain": False}
    failures: collections.deque[tuple[int, Json]] = dataclasses.field(default_factory=collections.deque)  # come first
    ended: list[Json] = dataclasses.field(default_factory=list)
    asked: list[Json] = dataclasses.field(default_factory=list)
    beats: list[Json] = dataclasses.field(default_factory=list)
    reports: list[tuple[str, Json]] = dataclasses.field(default_factory=list)  # (token, body)
    tokens: set[str] = dataclasses.field(default_factory=lambda: {"pod.token.here"})

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                given = self.headers["Authorization"].partition(" ")[2]
                status, answer = gateway.answer(self.path, given, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, given: str, body: Json) -> tuple[int, Json]:
        with self._lock:
            if path == "/v1/report":
                self.reports.append((given, body))
                return 200, {"seq": len(self.reports), "stop": False, "reason": ""}
            if given not in self.tokens:
                return 401, {"error": "unknown token"}
            if path == "/v1/heartbeat":
                self.beats.append(body)
                return 200, self.beat(body)
            self.asked.append(body)
            if self.failures:
                return self.failures.popleft()
            if body["ended"] is not None:
                self.ended.append(body["ended"])
            if body["slot"] is None:
                return 200, NOTHING
            return 200, self.grants.popleft() if self.grants else DRAIN
