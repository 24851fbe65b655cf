"""Is this operator alive, and is it of use? `/healthz`, `/readyz` and `/metrics`.

A process can live while its watches are dead (kopf #1276, #1145), so liveness is judged by work done: a heartbeat goes
through the same queue and workers as experiments do, and every list tells whether the watches have kept up with it.
The database or the API server being away makes it unready, not dead: a restart would not bring them back.
"""

import dataclasses
import http.server
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kubetune.metrics.catalog import Metrics

HEARTBEAT = "heartbeat"  # a key of the queue that is no experiment's UID
HEARTBEAT_EVERY = 5.0  # seconds
WORK_STALE = 120.0  # no worker finished anything for so long: stuck
WORK_STUCK = 1800.0  # one worker is at one experiment for so long: stuck
LISTS_STALE = 3  # periods of settings.relist without a list: stuck
DEAF_LISTS = 2  # lists in a row that found changes while the watch of that kind told nothing: it is dead

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class _Watch:
    events: int = 0  # since the last list
    deaf: int = 0  # lists in a row that it missed something of


class Health:
    """Facts told by those who work, judged when asked. Thread-safe; times are monotonic seconds."""

    def __init__(self, relist: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._relist = relist
        now = monotonic()
        self._worked = now  # well
        self._finished = now  # well or not
        self._listed = now
        self._first_list = False
        self._watching = False
        self._database = False
        self._working: dict[str, float] = {}
        self._watches: dict[str, _Watch] = {}

    # facts

    def began(self, key: str) -> None:
        """A worker took up a key."""
        with self._lock:
            self._working[key] = self._monotonic()

    def ended(self, key: str, well: bool) -> None:
        """A worker is through with a key. One that failed is not stuck: an API server that is away is not mended by a
        restart of ours."""
        with self._lock:
            self._working.pop(key, None)
            self._finished = self._monotonic()
            if well:
                self._worked = self._finished

    def heard(self, kind: str) -> None:
        """A watch told something."""
        with self._lock:
            self._watches.setdefault(kind, _Watch()).events += 1

    def listed(self, missed: Mapping[str, int]) -> None:
        """A list of everything was taken in; how many changes of each kind the watches had not told."""
        with self._lock:
            self._listed = self._monotonic()
            for kind, count in missed.items():
                watch = self._watches.setdefault(kind, _Watch())
                is_deaf = self._first_list and count > 0 and watch.events == 0
                watch.deaf = watch.deaf + 1 if is_deaf else 0
                watch.events = 0
            self._first_list = True

    def watching(self, yes: bool) -> None:
        with self._lock:
            self._watching = yes

    def database(self, up: bool) -> bool:
        """Whether the database answered; returns whether it has come back."""
        with self._lock:
            back, self._database = up and not self._database, up
            return back

    @property
    def last_work(self) -> float:
        return self._worked

    @property
    def last_list(self) -> float:
        return self._listed

    # judgement

    def faults(self) -> list[str]:
        """Why a restart would help; empty: alive."""
        with self._lock:
            now = self._monotonic()
            told = []
            if now - self._finished > WORK_STALE:
                told.append(f"no worker has finished anything for {now - self._finished:.0f} s")
            told += [
                f"a worker has been at {key} for {now - since:.0f} s"
                for key, since in self._working.items()
                if now - since > WORK_STUCK
            ]
            if now - self._listed > LISTS_STALE * self._relist:
                told.append(f"the cache was last compared with a list {now - self._listed:.0f} s ago")
            deaf = [kind for kind, watch in self._watches.items() if watch.deaf >= DEAF_LISTS]
            return told + [f"the watch of {kind} tells nothing, though there are changes" for kind in deaf]

    def wants(self) -> list[str]:
        """What is missing to be of use; empty: ready."""
        with self._lock:
            facts = {
                "the database does not answer": self._database,
                "the first list is not done": self._first_list,
                "the watches have not begun": self._watching,
            }
            return [want for want, there in facts.items() if not there]


def serve(port: int, health: Health, metrics: Metrics, host: str = "") -> http.server.ThreadingHTTPServer:
    """Serve in a daemon thread; the server returned is to be shut down."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
            elif self.path == "/healthz":
                self._judge(health.faults())
            elif self.path == "/readyz":
                self._judge(health.wants())
            else:
                self._answer(404, b'{"error": "try /healthz, /readyz or /metrics"}', "application/json")

        def _judge(self, complaints: list[str]) -> None:
            body = json.dumps({"ok": not complaints, "reasons": complaints}).encode()
            self._answer(503 if complaints else 200, body, "application/json")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    server = http.server.ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
