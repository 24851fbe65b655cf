"""Checks, one line each, that the cluster does what the rest of the repository relies on."""

import json
import time
from collections.abc import Callable

from dev.cluster import addons, kind, settings

NAMESPACE = "kubetune-smoke"
WAIT_S = 90
MANIFEST = settings.HERE / "files" / "manifests" / "smoke.yaml"


class FailureError(Exception):
    """A check found something else than it should."""


def smoke(config: settings.Settings) -> int:
    """Runs all checks; the exit status is the number that failed."""
    _remove(config)
    kind.kubectl(config, "create", "namespace", NAMESPACE)
    kind.kubectl(config, "--namespace", NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    addons.apply(config, MANIFEST.read_text())
    failed = 0
    try:
        for name, check in CHECKS.items():
            started = time.monotonic()
            try:
                found = check(config)
                print(f"PASS  {name}: {found} ({time.monotonic() - started:.1f} s)", flush=True)
            except FailureError as failure:
                failed += 1
                print(f"FAIL  {name}: {failure}", flush=True)
    finally:
        _remove(config)
    return min(failed, 1)


def _kubectl(config: settings.Settings, *arguments: str) -> str:
    result = kind.kubectl(config, "--namespace", NAMESPACE, *arguments, timeout_s=WAIT_S + 30)
    if result.returncode:
        raise FailureError(f"kubectl {' '.join(arguments)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout.strip()


def _wait(config: settings.Settings, condition: str, *objects: str) -> None:
    _kubectl(config, "wait", f"--for={condition}", f"--timeout={WAIT_S}s", *objects)


def _remove(config: settings.Settings) -> None:
    kind.kubectl(config, "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")


def job_completes(config: settings.Settings) -> str:
    _wait(config, "condition=Complete", "job/hello")
    return "job/hello is Complete"


def logs_are_readable(config: settings.Settings) -> str:
    return _expect("hello from python 3.11", _kubectl(config, "logs", "job/hello"))


def exec_works(config: settings.Settings) -> str:
    _wait(config, "condition=Ready", "pod/shell")
    return _expect("inside", _kubectl(config, "exec", "shell", "--", "echo", "inside"))


def dns_resolves(config: settings.Settings) -> str:
    program = "import socket; print(socket.gethostbyname('kubernetes.default'))"
    address = _kubectl(config, "exec", "shell", "--", "python3", "-c", program)
    service = json.loads(_kubectl(config, "get", "service", "kubernetes", "--namespace=default", "-o", "json"))
    return "kubernetes.default is " + _expect(service["spec"]["clusterIP"], address)


def service_answers(config: settings.Settings) -> str:
    program = (
        "import ssl, urllib.request as r; "
        "print(r.urlopen('https://kubernetes.default/livez', context=ssl._create_unverified_context()).read().decode())"
    )
    answer = _kubectl(config, "exec", "shell", "--", "python3", "-c", program)
    return "the API server's /livez from a pod: " + _expect("ok", answer)


def volume_is_provisioned(config: settings.Settings) -> str:
    _wait(config, "jsonpath={.status.phase}=Bound", "persistentvolumeclaim/data")
    _kubectl(config, "exec", "shell", "--", "sh", "-c", "echo kept > /data/file")
    return "bound, and a file was " + _expect("kept", _kubectl(config, "exec", "shell", "--", "cat", "/data/file"))


def gpu_is_scheduled(config: settings.Settings) -> str:
    _wait(config, "condition=Complete", "job/gpu")
    pod = json.loads(_kubectl(config, "get", "pods", "-l", "job-name=gpu", "-o", "json"))["items"][0]
    return f"a pod that asks for one ran on {pod['spec']['nodeName']} (SIMULATED: no device behind it)"


def gpus_are_counted(config: settings.Settings) -> str:
    pod = json.loads(_kubectl(config, "get", "pod", "greedy", "-o", "json"))
    if pod["spec"].get("nodeName"):
        raise FailureError("a pod that asks for 9999 GPUs was placed")
    return "a pod that asks for 9999 stays Pending"


def _expect(wanted: str, found: str) -> str:
    if wanted not in found:
        raise FailureError(f"expected {wanted!r}, found {found!r}")
    return found


CHECKS: dict[str, Callable[[settings.Settings], str]] = {
    "a Job completes": job_completes,
    "logs": logs_are_readable,
    "exec": exec_works,
    "cluster DNS": dns_resolves,
    "services": service_answers,
    "volumes": volume_is_provisioned,
    "nvidia.com/gpu placed": gpu_is_scheduled,
    "nvidia.com/gpu counted": gpus_are_counted,
}
