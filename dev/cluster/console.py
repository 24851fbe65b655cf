"""What the person sees while long things happen: what, how long so far, how long it usually takes.

Output of commands goes to a log file in the cache; it is shown only when the command fails.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

TICK_S = 30.0
TAIL_LINES = 40

_lock = threading.Lock()


class CommandError(Exception):
    """A command failed; the message carries its last lines and where the rest is."""


def say(text: str) -> None:
    with _lock:
        print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"


@contextlib.contextmanager
def step(what: str, expected_s: float) -> Iterator[None]:
    """Announces a step, says every half minute that it still runs, and what it took."""
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(TICK_S):
            say(f"  … {what}: {duration(time.monotonic() - started)} of about {duration(expected_s)}")

    say(f"- {what}" + (f" (about {duration(expected_s)})" if expected_s >= 5 else ""))
    threading.Thread(target=tick, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    took = time.monotonic() - started
    if expected_s >= 5:
        say(f"  {what}: done in {duration(took)}")


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    log: pathlib.Path,
    env: Mapping[str, str] | None = None,
    cwd: pathlib.Path | None = None,
    stdin: bytes = b"",
    timeout_s: float = 3600,
) -> None:
    """Runs a command whose output nobody needs unless it fails."""
    words = [os.fspath(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"\n$ {' '.join(words)}\n".encode())
        output.flush()
        start = output.tell()
        try:
            result = subprocess.run(
                words, input=stdin, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{' '.join(words)}: not done after {duration(timeout_s)} (log: {log})") from error
    if result.returncode:
        raise CommandError(_failure(words, result.returncode, log, start))


def _failure(words: Sequence[str], code: int, log: pathlib.Path, start: int) -> str:
    with log.open("rb") as output:
        output.seek(start)
        tail = output.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join([f"{' '.join(words)}: exit status {code}", *tail, f"(full log: {log})"])


def capture(
    command: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout_s: float = 120,
) -> str:
    """The standard output of a command that must succeed."""
    result = attempt(command, env=env, stdin=stdin, timeout_s=timeout_s)
    if result.returncode:
        words = " ".join(os.fspath(word) for word in command)
        raise CommandError(f"{words}: exit status {result.returncode}\n{result.stderr.strip()}")
    return result.stdout


def attempt(
    command: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """A command that may fail: the caller looks at returncode. A missing program and a time-out are failures too."""
    words = [os.fspath(word) for word in command]
    try:
        return subprocess.run(words, input=stdin, capture_output=True, text=True, env=env, timeout=timeout_s)
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"{words[0]}: not done after {duration(timeout_s)}")
