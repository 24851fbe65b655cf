"""The pods' network where kindnetd cannot be pulled: a CNI file on each node and routes between the nodes.

That is what kindnetd does, less network policies: every node gives its pods addresses of its own /24, knows the way to
the other nodes' pods, and hides pods behind its own address when they leave the cluster. Written to files on the node,
so a node that restarts has its network back without us.
"""

import json

from dev.cluster import console, engine, settings

SCRIPT = "/kind/kubetune-network.sh"
CONFLIST = "/etc/cni/net.d/10-kubetune.conflist"
POD_SUBNET = "10.244.0.0/16"  # kind's default


def ensure(config: settings.Settings) -> None:
    env = engine.environment(config)
    nodes = _nodes(config, env)
    for node in nodes:
        name, others = node["name"], [other for other in nodes if other != node]
        _write(name, CONFLIST, _conflist(node["pods"]), env)
        _write(name, SCRIPT, _routes(others), env)
        console.capture(["docker", "exec", name, "sh", SCRIPT], env=env)


def _nodes(config: settings.Settings, env: dict[str, str]) -> list[dict[str, str]]:
    """Name, address and pod addresses of the nodes that kind made (kwok's have no container)."""
    kubectl = ["kubectl", "--kubeconfig", str(config.kubeconfig), "get", "nodes", "-o", "json", "-l", "type!=kwok"]
    found = []
    for item in json.loads(console.capture(kubectl, env=env))["items"]:
        name = item["metadata"]["name"]
        inspect = ["docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name]
        address = console.capture(inspect, env=env).strip()  # the API's may be from before a restart
        found.append({"name": name, "address": address, "pods": item["spec"]["podCIDR"]})
    return found


def _conflist(pods: str) -> str:
    ipam = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": pods}]],
    }
    pointtopoint = {"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": ipam}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.3.1", "name": "kubetune", "plugins": [pointtopoint, portmap]}, indent=1)


def _routes(others: list[dict[str, str]]) -> str:
    leave = f"-s {POD_SUBNET} ! -d {POD_SUBNET} -j MASQUERADE"
    lines = [f"iptables -w -t nat -C POSTROUTING {leave} 2>/dev/null || iptables -w -t nat -A POSTROUTING {leave}"]
    lines += [f"ip route replace {other['pods']} via {other['address']}" for other in others]
    return "\n".join(["set -e", *lines, ""])


def _write(node: str, path: str, content: str, env: dict[str, str]) -> None:
    command = f"mkdir -p $(dirname {path}) && cat > {path}"
    console.capture(["docker", "exec", "-i", node, "sh", "-c", command], env=env, stdin=content)
