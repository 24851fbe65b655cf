"""What `make demo` shows once cluster, images and chart are there: examples/digits from apply to the winner.

Only kubectl and `kubectl tune` are used, as a person would; KUBECONFIG and PATH are the Makefile's.
"""

import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]
MANIFEST = "examples/digits/experiment.yaml"
NAMESPACE = "demo"
NAME = "digits"
PATIENCE = 15 * 60  # seconds; the run itself takes a few minutes


class CommandFailed(Exception):  # noqa: N818
    """A command that the demo needs ended with an error; it printed why."""


def main() -> int:
    """0 when the experiment completed."""
    try:
        _fresh_namespace()
        begun = time.monotonic()
        _apply(os.environ.get("IMAGE_PREFIX", ""))
        code = _watch()
        took = time.monotonic() - begun
        if code == 0:
            resource = json.loads(_read("kubectl", "get", "experiment", NAME, "-n", NAMESPACE, "-o", "json"))
            print("", *go_on(resource["status"]["best"]["trial"], took), sep="\n")
        else:
            _diagnose()
        return code
    except CommandFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def go_on(best: int, took: float) -> list[str]:
    """The last words, after those of `watch` (result, parameters, what pruning saved). ``took``: seconds from apply."""
    commands = {
        f"kubectl tune trials {NAME} -n {NAMESPACE} --sort value": "every trial, the best first",
        f"kubectl tune logs {NAME} {best} -n {NAMESPACE}": "what the best one printed",
        f"kubectl tune best {NAME} -n {NAMESPACE} -o args": "its parameters, for a command line",
    }
    width = max(map(len, commands))
    return [
        f"{took:.0f} s from `kubectl apply` to Complete. Go on with:",
        *(f"    {command:<{width}}   # {what}" for command, what in commands.items()),
        'before, in a new shell: eval "$(python3 -m dev.cluster env)"; export PATH=$PWD/.venv/bin:$PATH',
    ]


def _fresh_namespace() -> None:
    """An earlier demo goes first, with all that is its own."""
    if _read("kubectl", "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name").strip():
        print(f"removing the last demo's namespace {NAMESPACE}")
        _read("kubectl", "delete", "namespace", NAMESPACE, "--wait=true", "--timeout=120s")
    _read("kubectl", "create", "namespace", NAMESPACE)
    _read("kubectl", "label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")


def _apply(prefix: str) -> None:
    """The manifest as it is; where the cluster takes its images from a registry, with that before the image's name."""
    if not prefix:
        _show("kubectl", "apply", "-n", NAMESPACE, "-f", MANIFEST)
        return
    manifest = (ROOT / MANIFEST).read_text().replace("image: ", f"image: {prefix}")
    print(f"$ kubectl apply -n {NAMESPACE} -f -    # {MANIFEST}, its image from {prefix}", flush=True)
    print(_run(["kubectl", "apply", "-n", NAMESPACE, "-f", "-"], capture=True, stdin=manifest), end="")


def _watch() -> int:
    command = ["kubectl", "tune", "watch", NAME, "-n", NAMESPACE]
    print(f"$ {shlex.join(command)}\n", flush=True)
    try:
        return subprocess.run(command, cwd=ROOT, timeout=PATIENCE, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"demo: not done after {PATIENCE // 60} minutes", file=sys.stderr)
        return 1


def _diagnose() -> None:
    """What a person would look at first when it did not complete."""
    for command in (
        ["kubectl", "tune", "get", NAME, "-n", NAMESPACE],
        ["kubectl", "get", "jobs,pods", "-n", NAMESPACE],
        ["kubectl", "get", "events", "-n", NAMESPACE, "--sort-by=.lastTimestamp"],
        ["kubectl", "get", "pods", "-n", "kubetune"],
        ["kubectl", "logs", "-n", "kubetune", "-l", "app.kubernetes.io/component=operator", "--tail=30"],
    ):
        print(f"\n$ {shlex.join(command)}", file=sys.stderr, flush=True)
        subprocess.run(command, cwd=ROOT, stdout=sys.stderr, timeout=60, check=False)


def _show(*command: str) -> None:
    print(f"$ {shlex.join(command)}", flush=True)
    _run(command, capture=False)


def _read(*command: str) -> str:
    return _run(command, capture=True)


def _run(command: Sequence[str], capture: bool, stdin: str | None = None) -> str:
    pipe = subprocess.PIPE if capture else None
    try:
        done = subprocess.run(command, cwd=ROOT, input=stdin, stdout=pipe, text=True, timeout=180, check=False)
    except FileNotFoundError:
        raise CommandFailed(f"{command[0]} is not on PATH: run it by `make demo`") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{shlex.join(command)}: no answer after 180 s") from None
    if done.returncode:
        raise CommandFailed(f"{shlex.join(command)}: exit code {done.returncode}")
    return done.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
