"""What we put into the cluster beside Kubernetes: simulated GPUs, and kwok's nodes where they are wanted."""

import json
import time

from dev.cluster import console, kind, settings

FILES = settings.HERE / "files"
GPU_TIMEOUT_S = 90.0


def ensure_gpus(config: settings.Settings) -> None:
    """Every node advertises nvidia.com/gpu; a pod keeps it so."""
    program = (FILES / "simulated_gpus.py").read_text()
    metadata = {"name": "simulated-gpus", "namespace": "kubetune-dev"}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"simulated_gpus.py": program}}
    manifest = (FILES / "manifests" / "gpus.yaml").read_text().replace("GPUS_PER_NODE", str(settings.GPUS_PER_NODE))
    with console.step(f"advertising {settings.GPUS_PER_NODE} SIMULATED nvidia.com/gpu on each node", 5):
        apply(config, f"{manifest}\n---\n{json.dumps(config_map)}")
        deadline = time.monotonic() + GPU_TIMEOUT_S
        while lacking := [name for name, gpus in gpus_by_node(config).items() if gpus == 0]:
            if time.monotonic() > deadline:
                raise settings.UserError(f"No GPUs after {GPU_TIMEOUT_S:.0f} s on: {', '.join(lacking)}")
            time.sleep(0.5)


def apply(config: settings.Settings, manifest: str) -> None:
    result = kind.kubectl(config, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    if result.returncode:
        raise console.CommandError(f"kubectl apply: {result.stderr.strip()}")


def gpus_by_node(config: settings.Settings) -> dict[str, int]:
    result = kind.kubectl(config, "get", "nodes", "-o", "json", "-l", "type!=kwok")
    nodes = json.loads(result.stdout)["items"] if result.returncode == 0 else []
    return {node["metadata"]["name"]: int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in nodes}
