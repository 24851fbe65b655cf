"""The agent of a kubetune worker: leases trial after trial from the gateway and runs each as a process of its own.

    python3 kubetune_worker.py -- COMMAND ARGUMENT…

One file without dependencies, for any image with Python 3.8 or newer; ``install FOLDER`` copies it, in an init
container. A slot asks for a trial, runs the command with the trial's parameters in a folder of its own, and hands its
end over with the question for the next one. While the gateway is away a process runs on, and its end is told when the
gateway is back.

Its settings are environment variables (KUBETUNE_WORKER_…, see `Settings`) that the operator gives it; trials do not
see them. It exits 0 when it was drained, 143 when it was told to leave by SIGTERM, 1 when it cannot go on.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import urllib.parse
from typing import Any, Callable, Mapping, Sequence, Union  # noqa: UP035

Value = Union[float, int, str, bool]  # noqa: UP007 - Python 3.8

WAIT = 15.0  # seconds that the gateway holds a question for a trial
TIMEOUT = 45.0  # seconds for one answer
HEARTBEAT = 5.0  # seconds between two heartbeats
LONGEST_PAUSE = 5.0  # seconds between two tries
PATIENCE_REFUSED = 12  # refusals (401, 403) in a row: a token or a label may be mended
LOG_TAIL = 16384  # bytes of a failed trial's log that are kept; of others a quarter
BODY = 49152  # bytes of one request at most
LAST_WORDS = 2.0  # seconds for what a process wrote to come in after its end


class Settings:
    """What the operator says. Durations in seconds."""

    def __init__(self, environment: Mapping[str, str], command: Sequence[str]) -> None:
        own = {name[len("KUBETUNE_WORKER_") :]: text for name, text in environment.items() if _is_own(name)}
        self.command = list(command)
        self.gateway = environment["KUBETUNE_GATEWAY"]
        self.authority = environment.get("KUBETUNE_GATEWAY_CA")
        self.token_file = environment["KUBETUNE_TOKEN_FILE"]
        self.slots = int(own.get("SLOTS", "1"))
        self.directory = own.get("DIRECTORY", "/kubetune")
        self.grace = float(own.get("GRACE", "30"))  # between SIGTERM and SIGKILL, the pod's own
        self.deadline = float(own["DEADLINE"]) if own.get("DEADLINE") else None  # of one trial
        self.seed = int(own["SEED"]) if own.get("SEED") else None
        self.conditional: list[str] = json.loads(own.get("CONDITIONAL") or "[]")  # parameters not every trial has
        self.declared: list[dict[str, str]] = json.loads(own.get("ENV") or "[]")  # the template's, in its order
        self.environment = {name: text for name, text in environment.items() if not _is_own(name)}


def _is_own(name: str) -> bool:
    return name.startswith("KUBETUNE_WORKER_")


# ---- a trial's environment and arguments


_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(name)`` as Kubernetes expands it: ``$$`` is a ``$``, a name that is not there stays as it is."""

    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else variables.get(name, match.group(0))

    return _REFERENCE.sub(one, text)


def names_in(text: str) -> set[str]:
    """The names that ``$(name)`` in a text refers to."""
    return {match.group(1) for match in _REFERENCE.finditer(text) if match.group(1) is not None}


def left_out(settings: Settings, grant: Grant) -> set[str]:
    """Parameters that this trial does not have, and the template's variables that name one: an argument that names one
    of these is dropped, as in a pod of the trial's own."""
    gone = set(settings.conditional) - grant.parameters.keys()
    for entry in settings.declared:
        if gone & names_in(entry.get("value", "")):
            gone.add(entry["name"])
    return gone


def text(value: Value) -> str:
    """A parameter as a trial sees it, in a pod of its own or here."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def trial_environment(settings: Settings, grant: Grant, token_file: str) -> dict[str, str]:
    """The container's environment, the parameters and who the trial is; then the template's own, which may refer to
    what stands before it."""
    variables = dict(settings.environment)
    declared = {entry["name"] for entry in settings.declared}
    known = {name: value for name, value in variables.items() if name not in declared}
    gone = left_out(settings, grant)
    ours = {name: text(value) for name, value in grant.parameters.items()}
    ours["KUBETUNE_PARAMETERS"] = json.dumps(grant.parameters, ensure_ascii=False)
    ours["KUBETUNE_TRIAL"] = str(grant.number)
    ours["KUBETUNE_ATTEMPT"] = str(grant.attempt)
    ours["KUBETUNE_TOKEN_FILE"] = token_file
    if grant.parent is not None:
        ours["KUBETUNE_PARENT"] = str(grant.parent)
    if settings.seed is not None:
        ours["KUBETUNE_SEED"] = str(settings.seed + grant.number)
    ours.update(grant.environment)
    known.update(ours)
    for entry in settings.declared:
        name = entry["name"]
        if name in ours or name in gone:
            continue
        if "value" in entry:
            known[name] = expand(entry["value"], known)
        elif name in variables:  # from a Secret, a field, …: the pod has it
            known[name] = variables[name]
    return known


# ---- the gateway


class Over(Exception):  # noqa: N818
    """This worker is not asked to do anything any more."""


class Failed(Exception):  # noqa: N818
    """This worker cannot go on."""


class Grant:
    """A trial's attempt to run."""

    def __init__(
        self,
        number: int,
        attempt: int,
        parameters: Mapping[str, Value],
        parent: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.number = number
        self.attempt = attempt
        self.parameters = dict(parameters)
        self.parent = parent  # the trial whose checkpoint it goes on from
        self.environment = dict(environment or {})  # what this leg of the trial gets beside them

    @property
    def name(self) -> str:
        return f"{self.number}/{self.attempt}"


class Line:
    """One connection to the gateway, for one thread. ``cut`` may be called from any other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = urllib.parse.urlsplit(settings.gateway)
        if not self._address.hostname or self._address.scheme not in ("http", "https"):
            raise Failed(f"KUBETUNE_GATEWAY={settings.gateway!r} is not an address such as https://host:8443")
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, float, dict[str, Any]]:
        """(status, Retry-After in seconds, answer) of one try. Raises OSError, HTTPException or ValueError."""
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token(self._settings.token_file)}
        try:
            connection = self._connection or self._connect()
            connection.request("POST", path, json.dumps(body).encode(), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            retry_after = response.getheader("Retry-After") or ""
            if response.getheader("Connection", "").lower() == "close":
                self.hang_up()
            return response.status, float(retry_after) if retry_after.isdigit() else 0.0, dict(answer)
        except BaseException:
            self.hang_up()
            raise

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._address.hostname or "", self._address.port
        if self._address.scheme == "https":
            context = ssl.create_default_context(cadata=self._settings.authority or None)
            self._connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        return self._connection

    def hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def cut(self) -> None:
        """Whoever waits for an answer does not get it."""
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(2)


def token(path: str) -> str:
    """Read each time: Kubernetes renews it."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


# ---- one trial


class Process:
    """A trial's process, in a process group and a folder of its own."""

    def __init__(self, settings: Settings, grant: Grant) -> None:
        self.grant = grant
        self._settings = settings
        self._folder = os.path.join(settings.directory, "trials", f"{grant.number}-{grant.attempt}")
        self._child: subprocess.Popen[bytes] | None = None
        self._why = ""  # it was told to end: "deadline", "over" or "leaving"
        self._lock = threading.Lock()
        self._timers: list[threading.Timer] = []
        self._tail = bytearray()

    def run(self) -> dict[str, Any] | None:
        """Run the command to its end; how it ended, for the gateway. None: nobody wants to know."""
        ooms = memory_kills()
        try:
            try:
                child = self._start()
            except (OSError, ValueError) as error:
                return self._ended("Config", f"could not be started: {error}")
            reader = threading.Thread(target=self._read, args=(child,), daemon=True)
            reader.start()
            child.wait()
            self._clear_up(child)
            reader.join(LAST_WORDS)
            return self._judge(child.returncode, memory_kills() > ooms)
        finally:
            for timer in self._timers:
                timer.cancel()
            threading.Thread(target=shutil.rmtree, args=(self._folder, True), daemon=True).start()

    def _start(self) -> subprocess.Popen[bytes]:
        work, temporary = os.path.join(self._folder, "work"), os.path.join(self._folder, "tmp")
        shutil.rmtree(self._folder, ignore_errors=True)
        os.makedirs(work)
        os.makedirs(temporary)
        with contextlib.suppress(PermissionError):
            for entry in os.listdir("."):  # what the image has in its working directory is there, by links
                os.symlink(os.path.abspath(entry), os.path.join(work, entry))
        self.renew_token(token(self._settings.token_file))
        variables = trial_environment(self._settings, self.grant, self._token_file)
        variables.setdefault("TMPDIR", temporary)
        variables["PWD"] = work
        gone = left_out(self._settings, self.grant)
        kept = [argument for argument in self._settings.command if gone.isdisjoint(names_in(argument))]
        command = [expand(argument, variables) for argument in kept]
        with self._lock:
            if self._why:
                raise OSError(f"it was told to end before it began ({self._why})")
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=work,
                env=variables,
                start_new_session=True,
            )
        with contextlib.suppress(OSError):  # noqa: SIM117 - Python 3.8
            with open(f"/proc/{self._child.pid}/oom_score_adj", "w", encoding="ascii") as file:
                file.write("1000")  # rather this one than the worker
        if self._settings.deadline is not None:
            self._after(self._settings.deadline, lambda: self.end("deadline"))
        return self._child

    @property
    def _token_file(self) -> str:
        return os.path.join(self._folder, "token")

    def renew_token(self, pod_token: str) -> None:
        """The trial's token file: the pod's token, and which trial it is."""
        fresh = self._token_file + ".new"
        with open(fresh, "w", encoding="ascii") as file:
            file.write(f"{pod_token}~{self.grant.number}~{self.grant.attempt}")
        os.replace(fresh, self._token_file)

    def end(self, why: str, grace: float | None = None) -> None:
        """SIGTERM now, SIGKILL after the grace. The first reason stands."""
        with self._lock:
            if self._why:
                return
            self._why = why
            child = self._child
        if child is not None:
            self._signal(child, signal.SIGTERM)
            self._after(self._settings.grace if grace is None else grace, lambda: self._signal(child, signal.SIGKILL))

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, do)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _signal(self, child: subprocess.Popen[bytes], number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)

    def _clear_up(self, child: subprocess.Popen[bytes]) -> None:
        """What the process left behind ends with it, as it would with its pod."""
        self._signal(child, signal.SIGKILL)
        reap(child.pid)

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        mark = f"[{self.grant.name}] ".encode()
        rest = b""
        with child.stdout as stream:
            while True:
                chunk = os.read(stream.fileno(), 65536)
                self._tail += chunk
                del self._tail[:-LOG_TAIL]
                *lines, rest = (rest + chunk).split(b"\n")
                if rest and (not chunk or len(rest) > 65536):
                    lines, rest = [*lines, rest], b""
                say(b"".join(mark + line + b"\n" for line in lines))
                if not chunk:
                    return

    def _judge(self, code: int, memory: bool) -> dict[str, Any] | None:
        if self._why == "over":
            return None
        if self._why == "deadline":
            return self._ended("DeadlineExceeded", "ran longer than deadline.trial")
        if self._why == "leaving":
            return self._ended("Returned", "the worker was told to leave")
        if code == -signal.SIGKILL and memory:
            return self._ended("OOMKilled", "killed for memory: raise resources.limits.memory")
        if code < 0:
            return self._ended("ExitCode", f"exited with code {128 - code} ({signal_name(-code)})")
        return self._ended("ExitCode", f"exited with code {code}") if code else self._ended(None, "")

    def _ended(self, reason: str | None, message: str) -> dict[str, Any]:
        log = bytes(self._tail[-(LOG_TAIL if reason else LOG_TAIL // 4) :]).decode("utf-8", "replace")
        while len(json.dumps(log)) > BODY:
            log = log[len(log) // 2 :]
        number, attempt = self.grant.number, self.grant.attempt
        return {"trial": number, "attempt": attempt, "reason": reason, "message": message, "log": log}


_groups: list[int] = []  # whose members may still end


def reap(group: int) -> None:
    """As the container's first process we inherit what trials leave behind: bury those of this group and of older
    ones that have ended by now, and nobody else's."""
    _groups.append(group)
    for each in list(_groups):
        try:
            while os.waitid(os.P_PGID, each, os.WEXITED | os.WNOHANG) is not None:
                pass
        except ChildProcessError:
            _groups.remove(each)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def memory_kills() -> int:
    """How often the kernel has killed for memory in this container so far; 0 where that cannot be told."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


_saying = threading.RLock()  # a signal may come while we speak


def say(words: bytes) -> None:
    """To the worker's own log, whole lines at a time."""
    with _saying:
        sys.stdout.buffer.write(words)
        sys.stdout.buffer.flush()


def tell(message: str) -> None:
    say(f"kubetune worker: {message}\n".encode("utf-8", "replace"))


# ---- the worker


class Worker:
    """Slots in threads, a heartbeat, and the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: dict[int, Process] = {}  # by slot
        self._lines = [Line(settings) for _ in range(settings.slots)]
        self._drained = threading.Event()  # nothing new is begun
        self._leaving = threading.Event()  # nothing new is begun, and soon we are killed
        self._over = threading.Event()
        self._fault = ""

    def run(self) -> int:
        """Until drained, told to leave, or unable to go on; the exit code."""
        slots = [
            threading.Thread(target=self._slot, args=(slot,), name=f"slot-{slot}") for slot in range(len(self._lines))
        ]
        for thread in slots:
            thread.start()
        heart = threading.Thread(target=self._beat, daemon=True)
        heart.start()
        for thread in slots:
            thread.join()
        self._over.set()
        heart.join(LAST_WORDS)
        if self._fault:
            tell(self._fault)
            return 1
        tell("told to leave, and done" if self._leaving.is_set() else "drained, and done")
        return 143 if self._leaving.is_set() else 0

    def leave(self) -> None:
        """The pod is being deleted: trials about to end may, within half the grace; the others are given back."""
        if self._leaving.is_set():
            return
        self._leaving.set()
        tell("told to leave")
        threading.Thread(target=self._see_out, daemon=True).start()

    def _see_out(self) -> None:
        grace = self._settings.grace
        self._cut_idle()
        self._over.wait(grace / 2)
        for process in list(self._running.values()):
            process.end("leaving", grace / 4)

    def _cut_idle(self) -> None:
        for slot, line in enumerate(self._lines):
            if slot not in self._running:
                line.cut()

    @property
    def _done(self) -> bool:
        return self._leaving.is_set() or self._drained.is_set() or bool(self._fault)

    def _slot(self, slot: int) -> None:
        ended: dict[str, Any] | None = None
        try:
            while True:
                grant = self._lease(slot, ended)
                if grant is None:
                    return
                process = self._running[slot] = Process(self._settings, grant)
                try:
                    if self._leaving.is_set():
                        process.end("leaving")
                    ended = process.run()
                finally:
                    del self._running[slot]
        except Over as over:
            tell(str(over))
            self._drained.set()
        except Failed as fault:
            self._fault = str(fault)
        except Exception as error:  # noqa: BLE001 - a slot that dies in silence would idle for ever
            self._fault = f"slot {slot} failed: {type(error).__name__}: {error}"
        finally:
            self._lines[slot].hang_up()

    def _lease(self, slot: int, ended: dict[str, Any] | None) -> Grant | None:
        """Hand over how the last one ended, and get the next one. None: there is none, ever."""
        pause, refused = 0.1, 0
        while ended is not None or not self._done:
            body = {"slot": None if self._done else slot, "wait": 0 if self._done else WAIT, "ended": ended}
            try:
                status, retry_after, answer = self._lines[slot].post("/v1/lease", body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                status, retry_after, answer = 0, 0.0, {"error": f"{type(error).__name__}: {error}"}
            if status == 200:
                ended, pause, refused = None, 0.1, 0
                if answer.get("trial") is not None:
                    more = answer.get("parent"), answer.get("environment")
                    return Grant(answer["trial"], answer["attempt"], answer["parameters"], *more)
                if answer.get("drain"):
                    self._drained.set()
                continue
            refused += status in (401, 403)
            if status == 409:
                raise Over(f"this worker is over: {answer.get('error')}")
            if status in (400, 404, 405, 413) or refused > PATIENCE_REFUSED:
                raise Failed(f"the gateway refuses: {answer.get('error')} ({status})")
            if self._leaving.is_set() and ended is None:
                return None
            pause = min(LONGEST_PAUSE, pause * 2)
            self._over.wait(max(retry_after, pause * random.uniform(0.5, 1.0)))
        return None

    def _beat(self) -> None:
        line, known = Line(self._settings), ""
        while not self._over.wait(HEARTBEAT * random.uniform(0.8, 1.0)):
            try:
                known = self._renew_tokens(known)
                self._heartbeat(line)
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                continue  # the trials run on; what is to be heard is heard later
        line.hang_up()

    def _renew_tokens(self, known: str) -> str:
        fresh = token(self._settings.token_file)
        if fresh != known:
            for process in list(self._running.values()):
                with contextlib.suppress(OSError):  # it has just ended
                    process.renew_token(fresh)
        return fresh

    def _heartbeat(self, line: Line) -> None:
        running = {(process.grant.number, process.grant.attempt): process for process in list(self._running.values())}
        held = [{"trial": number, "attempt": attempt} for number, attempt in running]
        status, _, answer = line.post("/v1/heartbeat", {"running": held})
        if status != 200:
            return
        for each in answer["trials"]:
            if each["over"]:
                running[each["trial"], each["attempt"]].end("over")
        if answer["drain"] and not self._drained.is_set():
            self._drained.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["install"] and len(given) == 2:
        shutil.copyfile(__file__, os.path.join(given[1], "kubetune_worker.py"))
        return 0
    if given[:1] == ["--"]:
        del given[0]
    if not given:
        tell("name the command to run: kubetune_worker.py -- COMMAND ARGUMENT…")
        return 1
    try:
        worker = Worker(Settings(os.environ, given))
    except (Failed, KeyError, ValueError) as error:
        tell(f"cannot begin: {type(error).__name__}: {error}")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: worker.leave())
    signal.signal(signal.SIGINT, lambda *_: worker.leave())
    return worker.run()


if __name__ == "__main__":
    sys.exit(main())
