"""Creates and deletes the kind cluster, and says how it is."""

import datetime
import json
import re
import subprocess
import time

from dev.cluster import console, engine, settings

CONFIG = settings.REPOSITORY / "kind-config.yaml"
READY_TIMEOUT_S = 120.0
REVIVAL_TIMEOUT_S = 120.0


def nodes(config: settings.Settings) -> list[str]:
    """The node containers of our cluster that run; those that stopped are no use to anyone."""
    return _containers(config, "--filter", "status=running")


def _containers(config: settings.Settings, *filters: str) -> list[str]:
    label = f"label=io.x-k8s.kind.cluster={config.cluster}"
    command = ["docker", "ps", "--all", "--filter", label, *filters, "--format", "{{.Names}}"]
    result = console.attempt(command, env=engine.environment(config))
    return sorted(result.stdout.split()) if result.returncode == 0 else []


def is_up(config: settings.Settings, image: str | None) -> bool:
    """Whether the cluster that was asked for is there and answers; nodes that stopped are started again first."""
    found = _containers(config)
    if not found or not config.kubeconfig.exists():
        return False
    if config.nodes not in (None, len(found)):
        console.say(f"- cluster {config.cluster} has {len(found)} node(s), you ask for {config.nodes}: making it anew")
        return False
    if image and {image} != _images(config, found):
        console.say("  (its nodes run an older image; `down` and `up` renew them)")
    if found == nodes(config) and _answers(config):
        return True
    return _revive(config, found)


def _answers(config: settings.Settings) -> bool:
    return kubectl(config, "get", "--raw=/readyz", "--request-timeout=5s").returncode == 0


def _revive(config: settings.Settings, found: list[str]) -> bool:
    """Nodes that were stopped or killed keep their disks: started again they are the same cluster, with all it knew."""
    with console.step(f"starting the nodes of cluster {config.cluster} again", 60):
        since = datetime.datetime.now(datetime.UTC)
        console.attempt(["docker", "start", *found], env=engine.environment(config))
        deadline = time.monotonic() + REVIVAL_TIMEOUT_S
        while time.monotonic() < deadline:
            if _answers(config) and _is_alive(config, since):
                return True
            time.sleep(1)
    console.say("  (it does not answer: making it anew)")
    return False


def _is_alive(config: settings.Settings, since: datetime.datetime) -> bool:
    """Whether what the API says is news: leases renewed, cluster DNS started since then."""
    result = kubectl(config, "get", "leases,pods", "--all-namespaces", "-o", "json", "-l", "type!=kwok")
    items = json.loads(result.stdout)["items"] if result.returncode == 0 else []
    own = set(_containers(config)) | {"kube-controller-manager", "kube-scheduler"}
    leases = [item for item in items if item["kind"] == "Lease" and item["metadata"]["name"] in own]
    times = [lease["spec"].get("renewTime") for lease in leases]
    for pod in items:
        if pod["kind"] == "Pod" and pod["metadata"].get("labels", {}).get("k8s-app") in ("kube-dns", "kube-proxy"):
            statuses = pod["status"].get("containerStatuses", [])
            times += [status["state"].get("running", {}).get("startedAt") for status in statuses]
    return len(times) > len(own) and all(text and datetime.datetime.fromisoformat(text) >= since for text in times)


def _images(config: settings.Settings, found: list[str]) -> set[str]:
    inspect = ["docker", "inspect", "--format", "{{.Config.Image}}", *found]
    return set(console.capture(inspect, env=engine.environment(config)).split())


def kubectl(
    config: settings.Settings, *arguments: str, stdin: str = "", timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "--kubeconfig", str(config.kubeconfig), *arguments]
    return console.attempt(command, env=engine.environment(config), stdin=stdin, timeout_s=timeout_s)


def create(config: settings.Settings, image: str | None) -> None:
    """A cluster of the wanted number of nodes; `image` in place of the one that kind-config.yaml names."""
    config.home.mkdir(parents=True, exist_ok=True)
    kind_config = config.home / "kind-config.yaml"
    count = config.nodes or 1
    kind_config.write_text(_kind_config(count))
    command = ["kind", "create", "cluster", "--name", config.cluster, "--config", kind_config]
    command += ["--kubeconfig", config.kubeconfig, *(["--image", image] if image else [])]
    with console.step(f"kind: creating cluster {config.cluster} with {count} node(s)", 15 + 10 * count):
        log = config.cache / "logs" / "kind.log"
        console.run([str(word) for word in command], log=log, env=engine.environment(config), timeout_s=900)


def _kind_config(count: int) -> str:
    text = CONFIG.read_text()
    image = re.search(r"^\s+image:.*$", text, re.M)
    worker = "  - role: worker\n" + (image[0] + "\n" if image else "")
    return text.rstrip("\n") + "\n" + worker * (count - 1)


def delete(config: settings.Settings) -> None:
    env = engine.environment(config)
    if _containers(config):
        with console.step(f"kind: deleting cluster {config.cluster}", 5):
            command = ["kind", "delete", "cluster", "--name", config.cluster, "--kubeconfig", str(config.kubeconfig)]
            console.run(command, log=config.cache / "logs" / "kind.log", env=env)
    config.kubeconfig.unlink(missing_ok=True)


def wait_ready(config: settings.Settings) -> None:
    """Until every node is Ready, and cluster DNS and the volume provisioner run."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    with console.step("waiting for nodes, cluster DNS and volumes", 20):
        while problem := _not_ready(config):
            if time.monotonic() > deadline:
                raise settings.UserError(f"The cluster is not ready after {READY_TIMEOUT_S:.0f} s: {problem}")
            time.sleep(0.5)


def _not_ready(config: settings.Settings) -> str | None:
    result = kubectl(config, "get", "nodes", "-o", "json", "-l", "type!=kwok")
    if result.returncode:
        return result.stderr.strip()
    for node in json.loads(result.stdout)["items"]:
        if not any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", [])):
            return f"node {node['metadata']['name']} is not Ready"
    result = kubectl(config, "get", "deployments", "--all-namespaces", "-o", "json")
    if result.returncode:
        return result.stderr.strip()
    items = json.loads(result.stdout)["items"]
    found = {item["metadata"]["name"]: item["status"].get("availableReplicas", 0) for item in items}
    waiting = [name for name in ("coredns", "local-path-provisioner") if not found.get(name)]
    return f"not available yet: {', '.join(waiting)}" if waiting else None
