"""A throw-away PostgreSQL server for tests: its own folder, a free port of the loopback, gone afterwards."""

import contextlib
import glob
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence

import psycopg2

ROLE = "kubetune"  # named like our schema on purpose: its search path begins there
UNPRIVILEGED = ("postgres", "nobody")  # initdb refuses root
START = 60.0  # seconds


def binaries() -> pathlib.Path:
    """The folder of initdb and postgres, version 15 or newer."""
    found = shutil.which("initdb")
    folders = [pathlib.Path(found).resolve().parent] if found else []
    folders += [pathlib.Path(path) for path in glob.glob("/usr/lib/postgresql/*/bin")]
    fit = [folder for folder in folders if (folder / "postgres").exists() and _version(folder) >= 15]
    if not fit:
        raise RuntimeError(
            "these tests need a PostgreSQL server, 15 or newer, with initdb on PATH or in /usr/lib/postgresql/*/bin;"
            " on Debian or Ubuntu: apt-get install postgresql"
        )
    return max(fit, key=_version)


def _version(folder: pathlib.Path) -> int:
    text = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return int(text.split()[2].split(".")[0])


def _user() -> pwd.struct_passwd | None:
    """Whom the server runs as; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError(f"run as root, these tests need one of the users {', '.join(UNPRIVILEGED)} for the server")


class Server:
    """A PostgreSQL server with one role and any number of databases.

    Args:
        fsync: off, it is faster, and what was committed survives a killed server but no killed machine.
    """

    def __init__(self, fsync: bool = False) -> None:
        self.binaries = binaries()
        self.user = _user()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kubetune-postgres-"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.port = _free_port()
        self.fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self._run([self.binaries / "initdb", "-D", self.data, "-U", ROLE, "-A", "trust", "-E", "UTF8", "--no-sync"])

    def _identity(self) -> dict[str, object]:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def _run(self, command: Sequence[str | pathlib.Path]) -> None:
        result = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, **self._identity())  # type: ignore[call-overload]
        if result.returncode:
            raise RuntimeError(f"{command[0]}: {result.stdout}{result.stderr}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self.fsync else "off",
            "full_page_writes": "on" if self.fsync else "off",
            "max_connections": "100",
            "shared_buffers": "64MB",
            "log_min_messages": "fatal",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # type: ignore[call-overload]
                [self.binaries / "postgres", "-D", self.data, *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
                **self._identity(),
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START
        while True:
            try:
                psycopg2.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg2.OperationalError as error:
                if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                    raise RuntimeError(f"the server did not start: {(self.folder / 'log').read_text()}") from error
                time.sleep(0.05)
            else:
                return

    @property
    def pid(self) -> int:
        """Of the server while it runs."""
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL to the server and all its children, as a node that dies."""
        if self._process:
            for pid in (self._process.pid, *descendants(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Stop it without waiting for its clients."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=START)

    def remove(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """An empty database; returns its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with contextlib.closing(psycopg2.connect(self.url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
        return self.url(name)


def descendants(pid: int) -> list[int]:
    """The server's processes; each leads a process group of its own, so its group does not reach them."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(stat.parent.name))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(fsync: bool = False) -> Iterator[Server]:
    """A server for the length of the block."""
    server = Server(fsync)
    try:
        server.start()
        yield server
    finally:
        server.remove()
