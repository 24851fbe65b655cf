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

A trial whose pod is lost goes on where it stopped, if it keeps checkpoints (docs/checkpoints.md):

    folder = kt.load_checkpoint()
    for epoch in range(folder.step + 1 if folder else 0, 100):
        ...
        with kt.save_checkpoint(epoch) as folder:
            torch.save(model.state_dict(), f"{folder}/model.pt")

Threads may share it. Of the processes of one trial, let one report.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import http.client
import json
import math
import operator
import os
import random
import re
import shutil
import ssl
import stat
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any, Callable, Iterable, Iterator, Union  # noqa: UP035 - Python 3.8

__all__ = [
    "Checkpoint",
    "NoCheckpoint",
    "Refused",
    "Unreachable",
    "attempt",
    "finish",
    "fold",
    "folds",
    "load_checkpoint",
    "model",
    "parameters",
    "parent",
    "replicate",
    "report",
    "save_checkpoint",
    "seed",
    "should_stop",
    "trial",
]

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


def report(step: int | None = None, *, gradient: Any = None, **metrics: Any) -> bool:
    """Report metrics of one step; returns whether the trial is to stop (then save what you want to keep, exit 0).

    Args:
        step: a whole number, such as the epoch. None: one more than the last one, from 0.
        metrics: name to number: anything that float() takes, also of numpy or torch. NaN and infinity are reported
            as such. A name that is no Python name goes as ``**{"val/loss": 0.3}``.
        gradient: the first objective's slope along continuous parameters, each by its own unit, such as
            ``{"lr": 0.3}``, for the sampler ``gradient``. Of each the last one reported counts.

    Raises:
        TypeError, ValueError: a metric is no number, or the step no whole number; a slope is not finite.
        Refused, Unreachable: the report is not there.
    """
    if gradient is not None and not hasattr(gradient, "items"):
        metrics["gradient"], gradient = gradient, None  # a metric of that name
    slopes = {name: _slope(name, value) for name, value in (gradient or {}).items()}
    return _session.report(_step(step), {name: _number(name, value) for name, value in metrics.items()}, slopes)


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


def model(address: str, digest: str | None = None) -> None:
    """Tell where the refit's model is: it becomes a version of the experiment. In any other run nothing happens, so
    that the same script may always call it.

    Args:
        address: such as ``s3://models/digits/7``, or the path of a file or folder.
        digest: such as ``sha256:9f86d081``. None: of a path that is there, the SHA-256 of the file, or of a folder's
            file names and contents; of anything else none.

    Raises:
        ValueError: the address is empty. Refused, Unreachable: it is not on record.
    """
    if not address:
        raise ValueError("address: say where the model is, such as s3://models/digits")
    _session.model(str(address), _digest_of(str(address)) if digest is None else str(digest))


def _digest_of(path: str) -> str:
    if os.path.isfile(path):
        with open(path, "rb") as file:
            return "sha256:" + _digest(file)[0]
    if not os.path.isdir(path):
        return ""
    made = hashlib.sha256()
    for each in _files(path):
        with open(each, "rb") as file:
            made.update(f"{_digest(file)[0]}  {os.path.relpath(each, path).replace(os.sep, '/')}\n".encode())
    return "sha256:" + made.hexdigest()


@contextlib.contextmanager
def save_checkpoint(step: int) -> Iterator[str]:
    """A new folder to write the trial's state into; at the end of the block it is a checkpoint, whole or not at all.

    Every file's SHA-256 goes into a manifest, everything is written through to the disk, the folder gets its name, and
    the gateway is told: only then does it count. An exception in the block leaves nothing. Without
    ``spec.checkpoints`` what is written is thrown away, so that the same script runs anywhere.

    Args:
        step: the last one that is done, such as the epoch that was reported; the trial goes on after it.

    Raises:
        ValueError: nothing was written, or something that is no file (a link, a socket).
        OSError: the volume is full, say. Refused, Unreachable: the gateway was not told, so it does not count.
    """
    number = _step(step)
    if number is None:
        raise TypeError("step: name the step that the checkpoint is of, such as the epoch")
    with _store().saving(number) as folder:
        yield folder


def load_checkpoint() -> Checkpoint | None:
    """The folder of what to go on from, read only; None: the trial begins anew.

    The latest checkpoint of the trial, from whichever attempt; for a trial that goes on where another one stopped, that
    one's; else what ``spec.initCheckpoint`` gives. Its files are as they were written: a damaged checkpoint is said on
    standard error, and the one before it is taken.

    Raises:
        Refused, Unreachable: the gateway does not say.
        NoCheckpoint: the trial is to go on where another one stopped, which left nothing good to go on from; or what
            ``spec.initCheckpoint`` gives is missing, or is not what it was.
    """
    found = _store().load()
    if found is None and parent() is not None:
        raise NoCheckpoint(
            f"this trial goes on from trial {parent()}, of which there is no good checkpoint: "
            "give the experiment spec.checkpoints, and save one at the end of each segment"
        )
    return found or _given()


class NoCheckpoint(RuntimeError):  # noqa: N818
    """There is nothing to go on from, and beginning anew would be another training."""


class Checkpoint(str):
    """The path of a checkpoint's folder. ``step``: the last one that was done, -1 for what ``spec.initCheckpoint``
    gives; ``trial`` and ``attempt``: whose it is, None outside a cluster and for what was given."""

    step: int
    trial: int | None
    attempt: int | None

    def __new__(cls, path: str, step: int, trial: int | None = None, attempt: int | None = None) -> Checkpoint:
        made = super().__new__(cls, path)
        made.step, made.trial, made.attempt = step, trial, attempt
        return made


def parameters() -> dict[str, Value]:
    """The trial's parameters, numbers as numbers. Empty outside a cluster."""
    return dict(json.loads(os.environ.get("KUBETUNE_PARAMETERS") or "{}"))


def trial() -> int | None:
    """The trial's number, from 0. None outside a cluster."""
    return _whole("KUBETUNE_TRIAL")


def parent() -> int | None:
    """The number of the trial that this one goes on from, in a population; None: it begins anew."""
    return _whole("KUBETUNE_PARENT")


def attempt() -> int | None:
    """The attempt at this trial: 1, and one more each time its pod was lost to the infrastructure."""
    return _whole("KUBETUNE_ATTEMPT")


def seed() -> int | None:
    """A seed of this trial's own, and of this replicate's; None when the experiment has none."""
    return _whole("KUBETUNE_SEED")


def fold() -> int:
    """Which fold of a cross-validation to leave out of training and to score, from 0; 0 where there are none."""
    return _whole("KUBETUNE_FOLD") or 0


def folds() -> int:
    """How many folds the data is to be cut into; 1: there is no cross-validation."""
    return _whole("KUBETUNE_FOLDS") or 1


def replicate() -> int:
    """Which run with these parameters this is, from 0: each has a seed of its own."""
    return _whole("KUBETUNE_REPLICATE") or 0


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


def _slope(name: str, value: Any) -> float:
    slope = _number("gradient." + name, value)
    if not math.isfinite(slope):
        raise ValueError(f"gradient.{name}: {slope!r} is no slope; leave it out")
    return slope


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
        self._answer: dict[str, Any] | None = None  # the last one; None: what was sent is of no interest any more

    def report(self, step: int | None, metrics: dict[str, float], gradient: dict[str, float] | None = None) -> bool:
        if not metrics:
            raise ValueError("report at least one metric, such as report(3, accuracy=0.9)")
        if not _gateway():
            words = [] if step is None else [f"step={step}"]
            slopes = [f"gradient:{name}={value!r}" for name, value in (gradient or {}).items()]
            print(*words, *(f"{name}={value!r}" for name, value in metrics.items()), *slopes, flush=True)
            return False
        body: dict[str, Any] = {"metrics": {name: _json_number(value) for name, value in metrics.items()}}
        if gradient:
            body["gradient"] = gradient
        body["key"] = uuid.uuid4().hex
        if step is not None:
            body["step"] = step
        return self._tell("POST", "/v1/report", body)

    def finish(self, status: str, message: str) -> None:
        if not _gateway():
            print("finished:", status, message, flush=True)
            return
        self._tell("POST", "/v1/finish", {"status": status, "message": message})

    def model(self, address: str, digest: str) -> None:
        if not _gateway():
            print("model:", address, digest, flush=True)
        elif os.environ.get("KUBETUNE_PHASE") == "refit":
            self._tell("POST", "/v1/model", {"address": address, "digest": digest})

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The gateway's answer; None: the trial has ended, or another attempt runs, and it is to stop."""
        with self._lock:
            self._tell(method, path, body)
            return self._answer

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
            self._answer = None if status == 409 else answer
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


# ---- checkpoints


_MANIFEST = ".kubetune.json"  # in each checkpoint: its step, and size and SHA-256 of each file
_CHUNK = 1 << 20


class _Damaged(Exception):  # noqa: N818
    """A checkpoint is not what was committed."""


class _Nowhere:
    """There is no place for checkpoints: what is written is thrown away."""

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[str]:
        folder = tempfile.mkdtemp(prefix="checkpoint-")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def load(self) -> Checkpoint | None:
        return None


class _Kept:
    """Checkpoints that the gateway knows of, each as ``TRIAL/ATTEMPT-STEP-…``."""

    def __init__(self) -> None:
        self._number = str(trial() or 0)
        self._attempt = attempt() or 1

    def _name(self, step: int) -> str:
        return f"{self._attempt}-{step}-{uuid.uuid4().hex[:8]}".replace("--", "-n")  # n: below zero

    def load(self) -> Checkpoint | None:
        known = self._known()
        if known is None:
            return None
        self._sweep({each["location"] for each in known})
        damaged: list[str] = []
        for each in known:
            try:
                path = self._fetch(each)
            except _Damaged as fault:
                print(f"kubetune_trial: checkpoint {each['location']}: {fault}", file=sys.stderr, flush=True)
                damaged.append(each["location"])
                continue
            self._resume(each["location"], damaged)
            return Checkpoint(path, each["step"], each.get("trial"), each.get("attempt"))
        if damaged:
            self._resume(None, damaged)
        return None

    def _known(self) -> list[dict[str, Any]] | None:
        """What to go on from, the first one first; None: the trial is over."""
        answer = _session.ask("GET", "/v1/checkpoint")
        return None if answer is None else list(answer["checkpoints"])

    def _resume(self, location: str | None, damaged: list[str]) -> None:
        if _gateway():
            _session.ask("POST", "/v1/checkpoint/resume", {"location": location, "damaged": damaged[:100]})

    def _sweep(self, known: set[str]) -> None:
        """Remove what earlier attempts of this trial began and did not commit."""

    def _fetch(self, one: dict[str, Any]) -> str:
        """The folder of a checkpoint, verified. Raises _Damaged."""
        raise NotImplementedError


class _OnDisk(_Kept):
    """In a folder: that of the experiment on its volume. A trial reads those of others. Outside a cluster the folder
    itself says which ones are there."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self._root = root
        self._own = os.path.join(root, self._number)

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[str]:
        name = self._name(step)
        partial, whole = os.path.join(self._own, f".{name}"), os.path.join(self._own, name)
        os.makedirs(partial)
        try:
            yield partial
            digest, size, files = _seal(partial, step)
            os.rename(partial, whole)
            _sync(self._own)
            self._commit(step, f"{self._number}/{name}", digest, size, files)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _commit(self, step: int, location: str, digest: str, size: int, files: int) -> None:
        if not _gateway():
            self._clear([os.path.join(self._root, each["location"]) for each in self._listed(self._own)[2:]])
            return
        body = {"step": step, "location": location, "digest": digest, "bytes": size, "files": files}
        answer = _session.ask("POST", "/v1/checkpoint", body)
        remove: list[str] = (answer or {}).get("remove") or []
        self._clear([path for path in map(self._path, remove) if path])
        if remove:
            with contextlib.suppress(Unreachable, Refused):  # somebody is told again
                _session.ask("POST", "/v1/checkpoint/removed", {"locations": remove})

    def _known(self) -> list[dict[str, Any]] | None:
        return super()._known() if _gateway() else self._there()

    def _fetch(self, one: dict[str, Any]) -> str:
        path = self._path(one["location"]) or ""
        _check(path, one["digest"])
        return path

    def _sweep(self, known: set[str]) -> None:
        """Remove what earlier attempts of this trial began and did not commit."""
        for name in _listdir(self._own):
            begun = re.match(r"[.]?([0-9]+)-", name)
            if begun and int(begun.group(1)) < self._attempt and f"{self._number}/{name}" not in known:
                self._clear([os.path.join(self._own, name)])

    def _path(self, location: str) -> str | None:
        """Never outside the experiment's folder, whatever is asked for."""
        if not re.match(r"[0-9]+/[0-9]+-[A-Za-z0-9][A-Za-z0-9._-]*\Z", location):
            return None
        return os.path.join(self._root, *location.split("/"))

    def _clear(self, paths: Iterable[str]) -> None:
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)

    def _there(self) -> list[dict[str, Any]]:
        """Outside a cluster: what is there to go on from."""
        before = parent()
        return self._listed(self._own) + ([] if before is None else self._listed(os.path.join(self._root, str(before))))

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        """Outside a cluster: what is there of one trial, the latest first."""
        found = []
        for name in _listdir(folder):
            path = os.path.join(folder, name, _MANIFEST)
            with contextlib.suppress(OSError, ValueError, KeyError), open(path, "rb") as file:
                location = f"{os.path.basename(folder)}/{name}"
                one = {"location": location, "step": json.load(file)["step"], "digest": None}
                if not name.startswith("."):
                    found.append((os.fstat(file.fileno()).st_mtime_ns, one))
        return [each for _, each in sorted(found, key=operator.itemgetter(0), reverse=True)]


class _InStore(_Kept):
    """In the installation's object storage, each as one tar file. The gateway says where, by addresses that are good
    for one object and a while: the store's credential is not here."""

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as scratch:
            folder, packed = os.path.join(scratch, "files"), os.path.join(scratch, "tar")
            os.mkdir(folder)
            yield folder
            _, _, files = _seal(folder, step)
            with tarfile.open(packed, "w") as archive:
                for name in sorted(os.listdir(folder)):
                    archive.add(os.path.join(folder, name), name)
            shutil.rmtree(folder)
            with open(packed, "rb") as file:
                digest, size = _digest(file)
            location = f"{self._number}/{self._name(step)}"
            if self._send(location, packed, size):
                body = {"step": step, "location": location, "digest": digest, "bytes": size, "files": files}
                _session.ask("POST", "/v1/checkpoint", {**body, "store": "s3"})

    def _send(self, location: str, packed: str, size: int) -> bool:
        """Whether it is there; not, if the trial is over."""
        for wait in _tries():
            answer = _session.ask("POST", "/v1/checkpoint/upload", {"location": location, "bytes": size})
            if answer is None:
                return False
            with open(packed, "rb") as file:
                headers = {"Content-Length": str(size), "Content-Type": "application/x-tar"}
                request = urllib.request.Request(answer["url"], file, headers, method="PUT")
                fault = _transfer(request, lambda response: response.read())
            if fault is None:
                return True
            wait(f"the object storage does not take the checkpoint: {fault}")
        return False

    def _fetch(self, one: dict[str, Any]) -> str:
        """Into a folder of its own, which goes with the pod."""
        with _scratch() as scratch:
            folder = _unpacked(_download(one["url"], one["digest"], scratch))
            _check(folder, None)
            return folder


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A new folder, which stays if all goes well: what is damaged takes no room beside the one that is tried next."""
    folder = tempfile.mkdtemp(prefix="checkpoint-")
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _download(url: str, digest: str, scratch: str) -> str:
    """A file, in this folder. Raises _Damaged: it is not there, or not what it was."""
    packed = os.path.join(scratch, "tar")
    for wait in _tries():
        fault = _transfer(urllib.request.Request(url), lambda response: _receive(response, packed))
        if fault is None:
            break
        if isinstance(fault, urllib.error.HTTPError) and fault.code == 404:
            raise _Damaged("is damaged: the object is missing")
        wait(f"the object storage does not give the checkpoint: {fault}")
    with open(packed, "rb") as file:
        if _digest(file)[0] != digest:
            raise _Damaged("is damaged: the object is not the one that was committed")
    return packed


def _unpacked(packed: str) -> str:
    """The folder with a tar file's files, beside it; the tar file goes."""
    folder = os.path.join(os.path.dirname(packed), "files")
    _unpack(packed, folder)
    os.remove(packed)
    return folder


def _transfer(request: urllib.request.Request, take: Callable[[Any], object]) -> Exception | None:
    """One try; what went wrong on the way. Raises OSError: there is no room here, which waiting does not mend."""
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            take(response)
    except urllib.error.HTTPError as fault:
        fault.close()
        return fault
    except (OSError, http.client.HTTPException) as fault:
        if getattr(fault, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        return fault
    return None


def _tries() -> Iterator[Callable[[str], None]]:
    """Tries until one was good (leave the loop then), each with what to call if it was not. Raises Unreachable."""
    deadline, pause = time.monotonic() + float(os.environ.get("KUBETUNE_PATIENCE") or PATIENCE), 0.2
    while True:

        def wait(fault: str, pause: float = pause) -> None:
            if time.monotonic() + pause > deadline:
                raise Unreachable(fault)
            time.sleep(pause * random.uniform(0.5, 1.0))

        yield wait
        pause = min(LONGEST_PAUSE, pause * 2)


def _receive(response: Any, path: str) -> None:
    """The whole of it: of a connection that ends early nothing else is heard. Raises OSError."""
    _write(response, path)
    wanted, came = response.headers.get("Content-Length"), os.path.getsize(path)
    if wanted is not None and int(wanted) != came:
        raise OSError(f"the connection ended after {came} of {wanted} bytes")


def _write(response: Any, path: str) -> None:
    with open(path, "wb") as file:
        shutil.copyfileobj(response, file, _CHUNK)


def _unpack(packed: str, folder: str) -> None:
    """Files and folders only, and none outside. Raises _Damaged."""
    os.mkdir(folder)
    try:
        with tarfile.open(packed, "r:") as archive:
            for member in archive:
                path = os.path.normpath(os.path.join(folder, member.name))
                if not path.startswith(folder + os.sep) or not (member.isfile() or member.isdir()):
                    raise _Damaged(f"is damaged: it holds {member.name!r}")
                if member.isdir():
                    os.makedirs(path, exist_ok=True)
                    continue
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _write(archive.extractfile(member), path)
    except tarfile.TarError as fault:
        raise _Damaged(f"is damaged: {fault}") from fault


def _store() -> _OnDisk | _InStore | _Nowhere:
    root = os.environ.get("KUBETUNE_CHECKPOINTS", "")
    if root == "s3:":
        return _InStore()
    return _OnDisk(root) if root else _Nowhere()


def _given() -> Checkpoint | None:
    """What ``spec.initCheckpoint`` gives every trial. Raises NoCheckpoint: it is not what it was."""
    folder = os.environ.get("KUBETUNE_INIT_CHECKPOINT", "")
    digest = os.environ.get("KUBETUNE_INIT_DIGEST", "")
    try:
        if folder == "s3:":
            found = _session.ask("GET", "/v1/checkpoint/init")
            return None if found is None else Checkpoint(_given_object(found), -1)
        if digest:
            _check(folder, digest)
    except _Damaged as fault:
        raise NoCheckpoint(f"what spec.initCheckpoint gives {fault}") from fault
    return Checkpoint(folder, -1) if folder else None


def _given_object(one: dict[str, Any]) -> str:
    """A folder with the files of an object that ends in .tar; any other lies in it under its own name."""
    name = one["key"].rpartition("/")[2]
    with _scratch() as scratch:
        packed = _download(one["url"], one["digest"], scratch)
        if name.endswith(".tar"):
            return _unpacked(packed)
        folder = os.path.join(scratch, "files")
        os.mkdir(folder)
        os.rename(packed, os.path.join(folder, name))
        return folder


def _seal(folder: str, step: int) -> tuple[str, int, int]:
    """Write the manifest, and everything through to the disk. Returns the manifest's SHA-256, bytes, and files."""
    files: dict[str, dict[str, Any]] = {}
    for path in _files(folder):
        with open(path, "rb+") as file:
            digest, size = _digest(file)
            os.fsync(file.fileno())
        files[os.path.relpath(path, folder).replace(os.sep, "/")] = {"sha256": digest, "bytes": size}
    if not files:
        raise ValueError("nothing was written into the checkpoint's folder")
    text = json.dumps({"step": step, "files": files}, sort_keys=True).encode()
    with open(os.path.join(folder, _MANIFEST), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    for inner, _, _ in os.walk(folder):
        _sync(inner)
    return hashlib.sha256(text).hexdigest(), sum(each["bytes"] for each in files.values()), len(files)


def _files(folder: str) -> list[str]:
    found = []
    for inner, folders, names in os.walk(folder):
        for name in names + [name for name in folders if os.path.islink(os.path.join(inner, name))]:
            path = os.path.join(inner, name)
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise ValueError(f"{os.path.relpath(path, folder)} is no file; write files and folders only")
            if path != os.path.join(folder, _MANIFEST):
                found.append(path)
    return sorted(found)


def _check(folder: str, digest: str | None) -> None:
    """Whether a checkpoint is as it was written. Raises _Damaged or OSError."""
    try:
        with open(os.path.join(folder, _MANIFEST), "rb") as file:
            text = file.read()
        if digest is not None and hashlib.sha256(text).hexdigest() != digest:
            raise _Damaged("is damaged: its manifest is not the one that was committed")
        listed = json.loads(text)["files"]
        for name, wanted in sorted(listed.items()):
            with open(os.path.join(folder, *name.split("/")), "rb") as file:
                if _digest(file) != (wanted["sha256"], wanted["bytes"]):
                    raise _Damaged(f"is damaged: {name} is not as it was written")
    except OSError as fault:
        if fault.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EIO):
            raise
        raise _Damaged(f"is damaged: {fault}") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise _Damaged(f"is damaged: its manifest cannot be read ({fault})") from fault


def _digest(file: Any) -> tuple[str, int]:
    """SHA-256 and length of a file from where it stands."""
    made, size = hashlib.sha256(), 0
    for chunk in iter(lambda: file.read(_CHUNK), b""):
        made.update(chunk)
        size += len(chunk)
    return made.hexdigest(), size


def _sync(folder: str) -> None:
    """A folder's entries, through to the disk, where the file system has a way to."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _listdir(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _new_session() -> None:
    """A forked process (a data loader's, say) must not talk over its parent's connection."""
    global _session
    _session = _Session()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_session)


# ---- from a shell


def main(arguments: list[str] | None = None) -> int:
    """``report [--step N] NAME=VALUE…`` prints ``stop`` if the trial is to stop; ``finish [--status S] [--message M]``;
    ``model [--digest D] ADDRESS`` tells of a refit's model; ``save --step N FOLDER`` makes a checkpoint of a folder;
    ``load`` prints step and folder of what to go on from.

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
    telling = commands.add_parser("model", help="tell where the refit's model is")
    telling.add_argument("--digest", help="default: the SHA-256 of a path that is there")
    telling.add_argument("address", metavar="ADDRESS")
    saving = commands.add_parser("save", help="make a checkpoint of a folder's files")
    saving.add_argument("--step", type=int, required=True, help="the last one that is done")
    saving.add_argument("folder", metavar="FOLDER")
    commands.add_parser("load", help="print STEP FOLDER of the checkpoint to go on from; nothing: begin anew")
    given = parser.parse_args(arguments)
    try:
        _run(given)
    except (Refused, Unreachable, OSError, ValueError) as error:
        print(f"kubetune_trial: {error}", file=sys.stderr)
        return 1
    return 0


def _run(given: argparse.Namespace) -> None:
    if given.command == "finish":
        finish(given.status, given.message)
    elif given.command == "model":
        model(given.address, given.digest)
    elif given.command == "save":
        with save_checkpoint(given.step) as folder:
            _copy(given.folder, folder)
    elif given.command == "load":
        found = load_checkpoint()
        if found:
            print(found.step, found)
    elif _session.report(given.step, dict(given.metrics)):
        print("stop")


def _copy(source: str, target: str) -> None:
    for name in os.listdir(source):
        path, copy = os.path.join(source, name), os.path.join(target, name)
        if os.path.isdir(path):
            shutil.copytree(path, copy)
        else:
            shutil.copy2(path, copy)


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
