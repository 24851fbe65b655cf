"""The API server and the gateway as the benchmarks use them: asynchronous, JSON in, JSON out."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeAlias

import aiohttp

from kubetune.controller.jobs import Wiring
from kubetune.kube import resources
from kubetune.kube.credentials import Credentials
from kubetune.kube.resources import Resource

Json: TypeAlias = dict[str, Any]

RELEASE = "kubetune"  # the namespace, and the release, that is measured
GATEWAY = "kubetune-gateway"
NODE_PORT = "kubetune-bench"  # the Service that lets this process reach the gateway
AT_ONCE = 16  # requests, as many as kubetune's api_threads
HEARTBEATS = {"leases", "nodes", "csinodes"}  # written by nodes and controllers, whatever anyone does
WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}


class ApiError(RuntimeError):
    """The server refused; ``status`` is its HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message[:500]}")
        self.status = status


class Api:
    """One API server. Make it inside a running loop; ``close`` it there."""

    def __init__(self) -> None:
        self._credentials = Credentials.load()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._credentials.ssl_context(), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120),
        )
        self._requests = asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: Json | None = None) -> bytes:
        """The answer's body. Raises ApiError."""
        async with (
            self._requests,
            self._session.request(method, self._url(path), json=body, headers=self._who()) as answer,
        ):
            data = await answer.read()
            if answer.status >= 400:
                raise ApiError(answer.status, f"{method} {path}: {data.decode(errors='replace')}")
            return data

    async def json(self, method: str, path: str, body: Json | None = None) -> Json:
        answer: Json = json.loads(await self.call(method, path, body))
        return answer

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        return await self.json("POST", resource.path(namespace), body)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return await self.json("GET", resource.path(namespace, name))

    async def items(self, resource: Resource, namespace: str | None = None, query: str = "") -> list[Json]:
        listed: list[Json] = (await self.json("GET", resource.path(namespace) + query))["items"]
        return listed

    async def delete(self, resource: Resource, namespace: str | None, name: str) -> None:
        """With its dependents, in the background; gone already is done."""
        try:
            await self.call("DELETE", resource.path(namespace, name), {"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status != 404:
                raise

    async def watch(self, resource: Resource, namespace: str) -> AsyncIterator[Json]:
        """Events of a namespace that is new and empty, until whoever iterates is cancelled. A watch that the server
        ends (it does so with one that reads too slowly) goes on where it was."""
        version = ""
        while True:
            async for event in self._events(resource.path(namespace), version):
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    yield event

    async def _events(self, path: str, version: str) -> AsyncIterator[Json]:
        query = f"?watch=true&timeoutSeconds=7200&allowWatchBookmarks=true&resourceVersion={version}"
        async with self._session.get(self._url(path + query), headers=self._who()) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(int(event["object"].get("code", 500)), str(event["object"]))
                    yield event

    async def token(self, namespace: str, pod: str, uid: str, audience: str) -> str:
        """A token for the namespace's default service account, bound to a pod, as its kubelet would get it."""
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
        spec = {"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound}
        path = resources.SERVICE_ACCOUNTS.path(namespace, "default", "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str((await self.json("POST", path, body))["status"]["token"])

    def _url(self, path: str) -> str:
        return self._credentials.server + path

    def _who(self) -> dict[str, str]:
        return self._credentials.headers()


class Gateway:
    """The real gateway, by a NodePort: connections are kept, as a proxy in front of it would."""

    def __init__(self, address: str, hostname: str, authority: str) -> None:
        self.wiring = Wiring(f"https://{hostname}:8443", authority)  # as trials get it
        self._address, self._hostname = address, hostname
        context = ssl.create_default_context(cadata=authority)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=32))

    async def close(self) -> None:
        await self._session.close()

    async def report(self, token: str, metrics: Mapping[str, float], until: float) -> int:
        """Report once, as a trial does: again while it is asked to. The last HTTP status. ``until``: monotonic."""
        headers = {"Authorization": f"Bearer {token}"}
        while True:
            async with self._session.post(
                f"{self._address}/v1/report",
                json={"metrics": dict(metrics), "step": 0, "key": "0"},
                headers=headers,
                server_hostname=self._hostname,
            ) as answer:
                await answer.read()
                if answer.status != 503 or time.monotonic() > until:
                    return answer.status
                wait = float(answer.headers.get("Retry-After", 1))
            await asyncio.sleep(wait)


async def gateway(api: Api) -> Gateway:
    """The release's gateway, made reachable from here."""
    service = await api.get(resources.SERVICES, RELEASE, GATEWAY)
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NODE_PORT},
        "spec": {
            "type": "NodePort",
            "selector": service["spec"]["selector"],
            "ports": [{"name": "https", "port": 8443, "targetPort": "https"}],
        },
    }
    try:
        made = await api.create(resources.SERVICES, RELEASE, body)
    except ApiError as error:
        if error.status != 409:
            raise
        made = await api.get(resources.SERVICES, RELEASE, NODE_PORT)
    nodes = await api.items(resources.NODES, query="?labelSelector=type!=kwok")
    address = next(entry["address"] for entry in nodes[0]["status"]["addresses"] if entry["type"] == "InternalIP")
    secret = await api.get(resources.SECRETS, RELEASE, f"{GATEWAY}-tls")
    authority = base64.b64decode(secret["data"]["ca.crt"]).decode()
    port = made["spec"]["ports"][0]["nodePort"]
    return Gateway(f"https://{address}:{port}", f"{GATEWAY}.{RELEASE}.svc", authority)


# ---- what the API server measures of itself


def totals(text: str, ours: Callable[[Mapping[str, str]], bool]) -> tuple[float, float]:
    """Writes and CPU seconds that an API server's /metrics tells. ``ours``: which of its counters to leave out."""
    writes = cpu = 0.0
    for line in text.splitlines():
        if line.startswith("process_cpu_seconds_total"):
            cpu = float(line.rpartition(" ")[2])
        elif line.startswith("apiserver_request_total{"):
            labels, _, value = line.removeprefix("apiserver_request_total{").rpartition("} ")
            found = dict(entry.split("=", 1) for entry in labels.replace('"', "").split(","))
            if found["verb"] in WRITES and found["resource"] not in HEARTBEATS and not ours(found):
                writes += float(value)
    return writes, cpu


def minted_here(labels: Mapping[str, str]) -> bool:
    """Tokens of simulated pods: minted here in place of a kubelet, for kubetune's pods and the bare ones alike."""
    return labels["resource"] == "serviceaccounts" and labels["subresource"] == "token"


async def measured(api: Api) -> tuple[float, float]:
    """(writes, CPU seconds) of the API server since it began."""
    return totals((await api.call("GET", "/metrics")).decode(), minted_here)
