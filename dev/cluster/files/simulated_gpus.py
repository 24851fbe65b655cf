"""Notes simulated GPUs on every node that advertises none, again and again (see manifests/gpus.yaml)."""

import json
import os
import ssl
import time
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
SERVER = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
RESOURCE = "nvidia.com/gpu"
PERIOD_S = 10.0
TLS = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")


def call(method: str, path: str, body: object = None) -> dict[str, object]:
    with open(f"{ACCOUNT}/token") as token:  # rotated: read each time
        headers = {"Authorization": f"Bearer {token.read()}", "Content-Type": "application/merge-patch+json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SERVER + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, context=TLS, timeout=10) as response:
        document: dict[str, object] = json.load(response)
        return document


def main() -> None:
    gpus = os.environ["GPUS"]
    while True:
        try:
            nodes = call("GET", "/api/v1/nodes?labelSelector=type!%3Dkwok")["items"]
            for node in nodes if isinstance(nodes, list) else []:
                name, status = node["metadata"]["name"], node["status"]
                if status.get("allocatable", {}).get(RESOURCE, "0") == "0":
                    status = {"capacity": {RESOURCE: gpus}, "allocatable": {RESOURCE: gpus}}
                    call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})
                    print(f"{name}: {gpus} simulated {RESOURCE}")
        except OSError as error:
            print(f"not now: {error}")
        time.sleep(PERIOD_S)


main()
