"""KWOK_NODES=n: fake nodes of 8 GPUs each, for load tests of the operator without the load of the pods.

kwok plays the kubelet of nodes that do not exist: pods that tolerate their taint are scheduled there, "run" and
complete without a process anywhere. kwok itself is a pod on the control plane, its image made of its Go module.
"""

import json
import time

from dev.cluster import addons, binaries, console, engine, images, kind, nodeimage, settings

FILES = settings.HERE / "files"
STAGES = (  # kwok's own, under kustomize/stage of its module
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    "pod/fast/pod-ready",
    "pod/fast/pod-delete",
)
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
GPUS = {"nvidia.com/gpu": str(settings.GPUS_PER_NODE)}
CAPACITY = {"cpu": "64", "memory": "512Gi", "pods": "110", "ephemeral-storage": "1Ti", **GPUS}
READY_TIMEOUT_S = 120.0
NOT_ON_FAKE_NODES = {"key": "type", "operator": "NotIn", "values": ["kwok"]}


def ensure(config: settings.Settings) -> None:
    """As many fake nodes as asked for; None leaves those that are there."""
    if config.kwok_nodes is None:
        return
    if config.kwok_nodes:
        _run_kwok(config)
    _set_nodes(config, config.kwok_nodes)
    if not config.kwok_nodes:
        kind.kubectl(config, "delete", "deployment/kwok", "--namespace=kubetune-dev", "--ignore-not-found")


def describe(config: settings.Settings) -> str:
    found = _nodes(config)
    return f"kwok (fake) nodes: {len(found)}, {sum(found.values())} Ready"


def _run_kwok(config: settings.Settings) -> None:
    binaries.build(config, "kwok")
    image = f"kubetune/kwok:{images.digest(config.bin / 'kwok')}"
    if not images.identifier(image, engine.environment(config)):
        nodeimage.import_program(config, image, config.bin / "kwok")
    images.load(config, [image], kind.nodes(config))
    metadata = {"name": "kwok", "namespace": "kubetune-dev"}
    data = {"kwok.yaml": _configuration(config)}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    manifest = (FILES / "manifests" / "kwok.yaml").read_text().replace("KWOK_IMAGE", image)
    addons.apply(config, manifest + "\n---\n" + json.dumps(config_map))
    _keep_daemons_off(config)


def _configuration(config: settings.Settings) -> str:
    stages = binaries.module_folder(config, "kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage"
    own = [FILES / "kwok" / "configuration.yaml", FILES / "kwok" / "pod-complete.yaml"]
    return "\n---\n".join(path.read_text() for path in [*own, *(stages / f"{name}.yaml" for name in STAGES)])


def _keep_daemons_off(config: settings.Settings) -> None:
    """kube-proxy's DaemonSet tolerates every taint; a fake pod of it on every fake node would only cost."""
    terms = [{"matchExpressions": [NOT_ON_FAKE_NODES]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    patch = json.dumps({"spec": {"template": {"spec": {"affinity": affinity}}}})
    kind.kubectl(config, "patch", "daemonset/kube-proxy", "--namespace=kube-system", "--patch", patch)


def _nodes(config: settings.Settings) -> dict[str, bool]:
    """Names of the fake nodes that are there, and whether each is Ready."""
    result = kind.kubectl(config, "get", "nodes", "-o", "json", "-l", "type=kwok")
    items = json.loads(result.stdout)["items"] if result.returncode == 0 else []
    return {
        item["metadata"]["name"]: any(
            c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", [])
        )
        for item in items
    }


def _set_nodes(config: settings.Settings, count: int) -> None:
    wanted = [f"kwok-{index:04}" for index in range(count)]
    present = _nodes(config)
    if surplus := sorted(set(present) - set(wanted)):
        kind.kubectl(config, "delete", "node", "--wait=false", *surplus)
    missing = [_node(name) for name in wanted if name not in present]
    if missing:
        nodes = {"apiVersion": "v1", "kind": "List", "items": missing}
        kind.kubectl(config, "create", "-f", "-", stdin=json.dumps(nodes))
    if count:
        _wait_ready(config, count)


def _node(name: str) -> dict[str, object]:
    labels = {"hostname": name, "os": "linux", "arch": "amd64"}
    metadata = {
        "name": name,
        "labels": {"type": "kwok", **{f"kubernetes.io/{key}": value for key, value in labels.items()}},
        "annotations": {"kwok.x-k8s.io/node": "fake"},
    }
    status = {"capacity": CAPACITY, "allocatable": CAPACITY}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [TAINT]}, "status": status}


def _wait_ready(config: settings.Settings, count: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    with console.step(f"waiting for {count} fake nodes of {settings.GPUS_PER_NODE} GPUs (kwok)", 10 + count / 20):
        while (ready := sum(_nodes(config).values())) < count:
            if time.monotonic() > deadline:
                raise settings.UserError(f"Only {ready} of {count} kwok nodes are Ready after {READY_TIMEOUT_S:.0f} s.")
            time.sleep(1)
