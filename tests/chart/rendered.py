"""What `helm template` makes of the chart, as objects."""

import functools
import json
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import yaml

Json = dict[str, Any]
ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "charts" / "kubetune"
KUBERNETES = "1.34.0"  # a helm built from its module believes in 1.20

EXTERNAL: Json = {
    "postgresql": {"enabled": False},
    "database": {"external": {"secretName": "db", "sslMode": "verify-full", "ca": {"secretName": "db-ca"}}},
}
VALUE_SETS: dict[str, Json] = {
    "default": {},
    "external database": EXTERNAL,
    "namespaced": {"watchNamespaces": ["team-a", "team-b"], "crds": {"install": False}},
    "namespaced without nodes": {"watchNamespaces": ["team-a"], "rbac": {"nodes": False}},
    "cert-manager": {"tls": {"certManager": {"enabled": True, "issuerRef": {"name": "ca", "kind": "ClusterIssuer"}}}},
    "own certificate": {"tls": {"existingSecret": "mine", "extraHosts": ["tune.example.org"]}},
    "everything": {
        "image": {"repository": "mirror/kubetune", "tag": "1", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "gateway": {"replicas": 3, "extraEnv": [{"name": "A", "value": "1"}], "priorityClassName": "high"},
        "operator": {"replicas": 2, "nodeSelector": {"pool": "system"}, "podLabels": {"team": "ml"}},
        "nodeSelector": {"pool": "any"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "podAnnotations": {"a": "b"},
        "priorityClassName": "low",
        "objectStorage": {"endpoint": "https://s3.local", "bucket": "models", "secretName": "s3"},
        "settings": {"logLevel": "DEBUG", "retention": 2592000, "batchDelay": 0.005, "bodyLimit": 1048576},
        "postgresql": {
            "persistence": {"storageClassName": "fast", "keep": False},
            "parameters": {"max_connections": 300},
        },
        "networkPolicy": {"enabled": True},
        "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    },
}


def helm(*arguments: str, values: Json | None = None) -> subprocess.CompletedProcess[str]:
    command = ["helm", *arguments, "--values", "-"]
    return subprocess.run(
        command, input=json.dumps(values or {}), capture_output=True, text=True, timeout=60, check=False
    )


def template(values: Json, release: str = "kubetune", namespace: str = "kubetune") -> list[Json]:
    """All objects, hooks too. Raises AssertionError with helm's words."""
    done = helm("template", release, str(CHART), "--namespace", namespace, "--kube-version", KUBERNETES, values=values)
    assert done.returncode == 0, done.stderr
    return [body for body in yaml.safe_load_all(done.stdout) if body]


@functools.cache
def objects(name: str) -> tuple[Json, ...]:
    """Of one of the `VALUE_SETS`."""
    return tuple(template(VALUE_SETS[name]))


def of_kind(found: tuple[Json, ...] | list[Json], *kinds: str) -> list[Json]:
    return [body for body in found if body["kind"] in kinds]


def one(found: tuple[Json, ...] | list[Json], kind: str, name: str) -> Json:
    matching = [body for body in of_kind(found, kind) if body["metadata"]["name"] == name]
    assert len(matching) == 1, f"{kind} {name}: {[body['metadata']['name'] for body in of_kind(found, kind)]}"
    return matching[0]


def pods(found: tuple[Json, ...] | list[Json]) -> Iterator[tuple[str, Json]]:
    """Name and pod spec of whatever runs pods."""
    for body in of_kind(found, "Pod"):
        yield body["metadata"]["name"], body["spec"]
    for body in of_kind(found, "Deployment", "StatefulSet", "DaemonSet", "Job"):
        yield body["metadata"]["name"], body["spec"]["template"]["spec"]


def containers(pod: Json) -> list[Json]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def environment(container: Json) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}
