"""A process of its own that stands for many trials: keep-alive TLS connections, one report on each at a time.

Reads one command as a JSON line, answers with one: `rate` sends reports at moments drawn beforehand (a Poisson
process) and measures each from its intended moment, so a slow answer is not left out by waiting for it; `prune` sends
a bad report and asks until it is told to stop. Plain sockets and epoll: the less it takes from the cores, the better.
"""

import contextlib
import dataclasses
import itertools
import json
import random
import selectors
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

HEAD = (
    "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)
GOOD, BAD = 0.9, 0.1  # accuracies above and below the median of the trials that are complete
PATIENCE = 30.0  # seconds for an answer
ASK_EVERY = 0.01  # seconds between two questions whether to stop


@dataclasses.dataclass
class Trial:
    """One connection. ``due``: the intended moments of reports that wait for the answer to the one before."""

    number: int
    token: str
    socket: ssl.SSLSocket
    step: int = 0
    sent: float | None = None  # the intended moment of the report on the way
    buffer: bytes = b""
    due: deque[float] = dataclasses.field(default_factory=deque)


@dataclasses.dataclass
class Tally:
    """What came of one run. ``latencies``: seconds from a report's intended moment to its answer."""

    latencies: list[float] = dataclasses.field(default_factory=list)
    refused: int = 0


class Load:
    """All trials of one experiment."""

    def __init__(self, port: int, authority: str, tokens: Sequence[str]) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=authority)
        self._tokens = tokens
        self._selector = selectors.EpollSelector()
        self.trials: list[Trial] = []

    def connect(self, count: int) -> None:
        """Connect so many trials and let each ask for itself: from here on their tokens are known."""
        for number in range(len(self.trials), count):
            trial = Trial(number, self._tokens[number], self._dial())
            self.trials.append(trial)
            self._ask(trial)
            self._selector.register(trial.socket, selectors.EVENT_READ, trial)

    def _dial(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = self._context.wrap_socket(plain, server_hostname="127.0.0.1")
        secured.setblocking(False)
        return secured

    # ---- reports at given moments

    def run(self, moments: Iterable[tuple[float, int]]) -> Tally:
        """Send a report at each (moment, trial); returns when all are answered. Raises TimeoutError."""
        tally, plan, waiting = Tally(), iter(moments), 0
        coming = next(plan, None)
        last = time.monotonic()
        while coming is not None or waiting:
            now = time.monotonic()
            while coming is not None and coming[0] <= now:
                waiting += 1
                self._report(self.trials[coming[1]], coming[0])
                coming = next(plan, None)
            pause = 1.0 if coming is None else max(0.0, coming[0] - time.monotonic())
            for key, _ in self._selector.select(pause):
                answered = self._receive(key.data, tally)
                waiting -= answered
                last = time.monotonic() if answered else last
            if waiting and time.monotonic() - last > PATIENCE:
                raise TimeoutError(f"{waiting} reports were not answered for {PATIENCE:.0f} s")
        return tally

    def _report(self, trial: Trial, moment: float, accuracy: float = GOOD) -> None:
        if trial.sent is not None:
            trial.due.append(moment)
            return
        trial.sent = moment
        form = {"metrics": {"accuracy": accuracy, "loss": 0.1234}, "step": trial.step, "key": f"{next(_keys):032x}"}
        trial.step += 1
        trial.socket.send(_request("POST", "/v1/report", trial.token, json.dumps(form).encode()))

    def _receive(self, trial: Trial, tally: Tally) -> int:
        """Take in what came for a trial; how many reports it answered (0 or 1)."""
        answer = _answer(trial)
        if answer is None or trial.sent is None:
            return 0
        tally.latencies.append(time.monotonic() - trial.sent)
        tally.refused += answer[0] != 200
        trial.sent = None
        if trial.due:
            self._report(trial, trial.due.popleft())
        return 1

    def poisson(self, rate: float, seconds: float, seed: int, among: Sequence[int]) -> Iterable[tuple[float, int]]:
        """Moments of a Poisson process from now on, given how many there are, each for a trial drawn at random."""
        dice = random.Random(seed)
        begin = time.monotonic() + 0.05
        for moment in sorted(dice.uniform(0.0, seconds) for _ in range(round(rate * seconds))):
            yield begin + moment, among[dice.randrange(len(among))]

    # ---- reports that are to be pruned

    def prune(self, number: int) -> float:
        """Seconds from sending a bad report to the first answer that says stop. Raises TimeoutError."""
        trial = self.trials[number]
        begun = time.monotonic()
        self._report(trial, begun, BAD)
        stop = self._wait(trial)[1]["stop"]
        trial.sent = None
        while not stop:
            if time.monotonic() - begun > PATIENCE:
                raise TimeoutError(f"trial {number} was not told to stop for {PATIENCE:.0f} s")
            time.sleep(ASK_EVERY)
            stop = self._ask(trial)["stop"]
        return time.monotonic() - begun

    def _ask(self, trial: Trial) -> Any:
        trial.socket.send(_request("GET", "/v1/trial", trial.token))
        status, answer = self._wait(trial)
        if status != 200:
            raise ConnectionError(f"trial {trial.number}: {status}, {answer}")
        return answer

    def _wait(self, trial: Trial) -> tuple[int, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(trial.socket, selectors.EVENT_READ)
            while (answer := _answer(trial)) is None:
                if not selector.select(PATIENCE):
                    raise TimeoutError(f"trial {trial.number} got no answer for {PATIENCE:.0f} s")
        return answer


_keys = itertools.count(random.getrandbits(100))  # written as long as the client's own


def _request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    head = HEAD.format(method=method, path=path, host="127.0.0.1", token=token, length=len(body))
    return head.encode() + body


def _answer(trial: Trial) -> tuple[int, Any] | None:
    """Status and body of the answer that has come; None: not whole yet. Raises ConnectionError."""
    with contextlib.suppress(ssl.SSLWantReadError):
        while came := trial.socket.recv(65536):  # a record at a time: epoll does not tell of those already decrypted
            trial.buffer += came
        raise ConnectionError(f"the gateway hung up on trial {trial.number}")
    head, found, body = trial.buffer.partition(b"\r\n\r\n")
    if not found:
        return None
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    if len(body) < length:
        return None
    trial.buffer = body[length:]
    return int(head.split(b" ", 2)[1]), json.loads(body[:length])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def _obey(load: Load, command: dict[str, Any]) -> dict[str, Any]:
    if command["do"] == "connect":
        load.connect(command["trials"])
        return {}
    if command["do"] == "prune":
        return {"seconds": load.prune(command["trial"])}
    among = command.get("among") or list(range(len(load.trials)))
    begun = time.monotonic()
    tally = load.run(load.poisson(command["rate"], command["seconds"], command["seed"], among))
    took = time.monotonic() - begun
    return {
        "accepted": len(tally.latencies) - tally.refused,
        "refused": tally.refused,
        "seconds": took,
        "p50": percentile(tally.latencies, 0.5),
        "p99": percentile(tally.latencies, 0.99),
        "worst": max(tally.latencies),
    }


def main() -> None:
    first = json.loads(sys.stdin.readline())
    load = Load(first["port"], first["authority"], first["tokens"])
    for line in sys.stdin:
        print(json.dumps(_obey(load, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
