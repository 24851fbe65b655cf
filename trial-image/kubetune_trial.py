"""What a trial says to kubetune, in one file without dependencies: copy it into any image with Python 3.8 or newer.

    import kubetune_trial as kt

    lr = kt.parameters().get("lr", 0.01)
    for epoch in range(100):
        ...
        if kt.report(epoch, accuracy=accuracy, loss=loss):
            break  # the trial is to stop: save what you want to keep and exit 0

A report is there when `report` returns: it waits for the commit and, while kubetune is away, sends the same report
again (under the same key, so it counts once). Outside a cluster the metrics are printed and nothing fails, so the same
script runs on a laptop. From a shell: ``python3 kubetune_trial.py report --step 3 accuracy=0.9``.

Threads may share it. Of the processes of one trial, let one report.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import operator
import os
import random
import ssl
import sys
import threading
import time
import urllib.parse
import uuid
from typing import Any, Union

__all__ = ["Refused", "Unreachable", "attempt", "finish", "parameters", "report", "seed", "should_stop", "trial"]

Value = Union[float, int, str, bool]  # noqa: UP007 - Python 3.8

PATIENCE = 300.0  # seconds that a request is repeated for; KUBETUNE_PATIENCE says otherwise
TIMEOUT = 60.0  # seconds for one answer
LONGEST_PAUSE = 10.0  # seconds between two tries
ASK_AGAIN = 5.0  # seconds for which `should_stop` believes what it was told last


class Refused(RuntimeError):  # noqa: N818
    """The gateway will not take this, however often it is sent. ``status``: the HTTP code (400, 401, 403, 413)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})")
        self.status = status


class Unreachable(RuntimeError):  # noqa: N818
    """The gateway did not take the report in time; KUBETUNE_PATIENCE seconds is how long it is tried."""


def report(step: int | None = None, **metrics: Any) -> bool:
    """Report metrics of one step; returns whether the trial is to stop (then save what you want to keep, exit 0).

    Args:
        step: a whole number, such as the epoch. None: one more than the last one, from 0.
        metrics: name to number: anything that float() takes, also of numpy or torch. NaN and infinity are reported
            as such. A name that is no Python name goes as ``**{"val/loss": 0.3}``.

    Raises:
        TypeError, ValueError: a metric is no number, or the step no whole number.
        Refused, Unreachable: the report is not there.
    """
    return _session.report(_step(step), {name: _number(name, value) for name, value in metrics.items()})


def should_stop() -> bool:
    """Whether the trial is to stop, as the last report was told; asked anew when that is more than 5 seconds ago.

    Raises:
        Refused: the pod is not known as a trial. While the gateway is away the answer is "go on".
    """
    return _session.should_stop()


def finish(status: str = "complete", message: str = "") -> None:
    """Say how the trial ended: ``complete``, ``failed`` (with the reason) or ``pruned``. Not needed before exit 0.

    Raises:
        ValueError: another status. Refused, Unreachable: it is not there.
    """
    if status not in ("complete", "failed", "pruned"):
        raise ValueError(f"status: {status!r} is none of complete, failed, pruned")
    _session.finish(status, str(message))


def parameters() -> dict[str, Value]:
    """The trial's parameters, numbers as numbers. Empty outside a cluster."""
    return dict(json.loads(os.environ.get("KUBETUNE_PARAMETERS") or "{}"))


def trial() -> int | None:
    """The trial's number, from 0. None outside a cluster."""
    return _whole("KUBETUNE_TRIAL")


def attempt() -> int | None:
    """The attempt at this trial: 1, and one more each time its pod was lost to the infrastructure."""
    return _whole("KUBETUNE_ATTEMPT")


def seed() -> int | None:
    """A seed of this trial's own; None when the experiment has none."""
    return _whole("KUBETUNE_SEED")


def _whole(variable: str) -> int | None:
    text = os.environ.get(variable)
    return int(text) if text else None


def _number(name: str, value: Any) -> float:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name}: {value!r} is not a number")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: {value!r} is not a number: {error}") from error


def _step(step: Any) -> int | None:
    if step is None:
        return None
    if isinstance(step, float) and step.is_integer():
        return int(step)
    try:
        return operator.index(step)
    except TypeError:
        raise TypeError(f"step: {step!r} is not a whole number") from None


def _json_number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


class _Session:
    """One connection to the gateway and what it told last."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # one request at a time: reports arrive in the order they were made
        self._connection: http.client.HTTPConnection | None = None
        self._stop = False
        self._asked = -math.inf  # monotonic

    def report(self, step: int | None, metrics: dict[str, float]) -> bool:
        if not metrics:
            raise ValueError("report at least one metric, such as report(3, accuracy=0.9)")
        if not _gateway():
            words = [] if step is None else [f"step={step}"]
            print(*words, *(f"{name}={value!r}" for name, value in metrics.items()), flush=True)
            return False
        body: dict[str, Any] = {"metrics": {name: _json_number(value) for name, value in metrics.items()}}
        body["key"] = uuid.uuid4().hex
        if step is not None:
            body["step"] = step
        return self._tell("POST", "/v1/report", body)

    def finish(self, status: str, message: str) -> None:
        if not _gateway():
            print("finished:", status, message, flush=True)
            return
        self._tell("POST", "/v1/finish", {"status": status, "message": message})

    def should_stop(self) -> bool:
        with self._lock:
            if _gateway() and not self._stop and time.monotonic() - self._asked > ASK_AGAIN:
                try:
                    self._tell("GET", "/v1/trial", None, patience=0.0)
                except Unreachable:
                    self._asked = time.monotonic()
            return self._stop

    def _tell(self, method: str, path: str, body: dict[str, Any] | None, patience: float | None = None) -> bool:
        """Send until it is answered; returns whether to stop."""
        data = None if body is None else json.dumps(body).encode()
        with self._lock:
            if patience is None:
                patience = float(os.environ.get("KUBETUNE_PATIENCE") or PATIENCE)
            status, answer = self._insist(method, path, data, time.monotonic() + patience)
            if status == 409:  # the trial has ended, or another attempt runs: nothing that is sent counts any more
                self._stop = True
            elif status >= 400:
                raise Refused(status, str(answer.get("error") or "the gateway refused"))
            self._stop = self._stop or bool(answer.get("stop"))
            self._asked = time.monotonic()
            return self._stop

    def _insist(self, method: str, path: str, data: bytes | None, deadline: float) -> tuple[int, dict[str, Any]]:
        """Send again what was not answered, or was with "not now". Raises Unreachable."""
        pause, unauthorized = 0.1, 0
        while True:
            at_least = 0.0
            try:
                status, retry_after, answer = self._send(method, path, data)
                unauthorized += status == 401  # the token file may just be renewed: read again each time
                if not (status >= 500 or status in (408, 429) or (status == 401 and unauthorized < 4)):
                    return status, answer
                fault, at_least = "{} {}".format(status, answer.get("error", "")), min(retry_after, LONGEST_PAUSE)
            except (OSError, http.client.HTTPException, ValueError) as error:
                fault = f"{type(error).__name__}: {error}"
            self._hang_up()  # a new connection may reach another gateway
            pause = min(LONGEST_PAUSE, pause * 2)
            wait = max(at_least, pause * random.uniform(0.5, 1.0))
            if time.monotonic() + wait > deadline:
                raise Unreachable(f"{_gateway()}{path}: {fault}")
            time.sleep(wait)

    def _send(self, method: str, path: str, data: bytes | None) -> tuple[int, float, dict[str, Any]]:
        """(status, Retry-After in seconds, body) of one try."""
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + _token()}
        connection = self._connection or self._connect()
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        body = response.read()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {"error": body[:200].decode("utf-8", "replace")}
            if response.status < 400:
                raise
        retry_after = response.getheader("Retry-After") or ""
        if response.getheader("Connection", "").lower() == "close":
            self._hang_up()
        return response.status, float(retry_after) if retry_after.isdigit() else 0.0, answer

    def _connect(self) -> http.client.HTTPConnection:
        address = urllib.parse.urlsplit(_gateway())
        if not address.hostname or address.scheme not in ("http", "https"):
            raise Refused(0, f"KUBETUNE_GATEWAY={_gateway()!r} is not an address such as https://host:8443")
        if address.scheme == "https":
            context = ssl.create_default_context(cadata=os.environ.get("KUBETUNE_GATEWAY_CA") or None)
            self._connection = http.client.HTTPSConnection(
                address.hostname, address.port, timeout=TIMEOUT, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=TIMEOUT)
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _gateway() -> str:
    return os.environ.get("KUBETUNE_GATEWAY", "")


def _token() -> str:
    """Read each time: Kubernetes renews it."""
    with open(os.environ.get("KUBETUNE_TOKEN_FILE") or "/var/run/secrets/kubetune.dev/token", encoding="ascii") as file:
        return file.read().strip()


_session = _Session()


def _new_session() -> None:
    """A forked process (a data loader's, say) must not talk over its parent's connection."""
    global _session
    _session = _Session()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_session)


# ---- from a shell


def main(arguments: list[str] | None = None) -> int:
    """``report [--step N] NAME=VALUE…`` prints ``stop`` if the trial is to stop; ``finish [--status S] [--message M]``.

    Returns the exit code: 0 it is there, 1 it is not, 2 it was written wrongly.
    """
    parser = argparse.ArgumentParser("kubetune_trial", description="Tell kubetune how this trial is doing.")
    commands = parser.add_subparsers(dest="command", required=True)
    reporting = commands.add_parser("report", help="report metrics; prints stop if the trial is to stop")
    reporting.add_argument("--step", type=int, help="default: one more than the last")
    reporting.add_argument("metrics", nargs="+", metavar="NAME=VALUE", type=_assignment)
    finishing = commands.add_parser("finish", help="say how the trial ended")
    finishing.add_argument("--status", default="complete", choices=("complete", "failed", "pruned"))
    finishing.add_argument("--message", default="")
    given = parser.parse_args(arguments)
    try:
        if given.command == "finish":
            finish(given.status, given.message)
        elif _session.report(given.step, dict(given.metrics)):
            print("stop")
    except (Refused, Unreachable) as error:
        print(f"kubetune_trial: {error}", file=sys.stderr)
        return 1
    return 0


def _assignment(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        if not name:
            raise ValueError
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


if __name__ == "__main__":
    sys.exit(main())
