"""What surrounds a gateway in tests: an API server that knows tokens, pods and logs, and a thread to run it all in.

The API server speaks HTTP like the real one, as far as a gateway asks it, and fails on demand.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import json
import pathlib
import threading
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import urllib3
from aiohttp import web

from kubetune import tls
from kubetune.api import names
from kubetune.gateway import app
from kubetune.kube.credentials import Credentials
from kubetune.settings import Settings
from kubetune.storage import base

Json = dict[str, Any]
Result = TypeVar("Result")

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me, namespace: kubetune}}}}]
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{token: sesame}}}}]
"""


def token(text: str) -> str:
    """Something in the shape of a service account token."""
    return f"head.{text}.signature"


def pod(who: base.Identity, name: str = "", log: bool = False, pattern: str = "", step: str = "") -> Json:
    """A trial's pod whose container runs."""
    annotations = {names.ANNOTATION_LOG_PATTERN: pattern, names.ANNOTATION_LOG_STEP: step}
    return {
        "metadata": {
            "name": name or f"pod-{who.number}-{who.attempt}",
            "namespace": who.namespace,
            "uid": who.pod_uid,
            "resourceVersion": "1",
            "labels": {
                names.LABEL_MANAGED_BY: names.MANAGED_BY,
                names.LABEL_METRICS: "log" if log else "push",
                names.LABEL_EXPERIMENT: who.experiment,
                names.LABEL_EXPERIMENT_UID: names.base_uid(who.experiment_uid),
                names.LABEL_PHASE: names.phase_of(who.experiment_uid),
                names.LABEL_TRIAL: str(who.number),
                names.LABEL_ATTEMPT: str(who.attempt),
            },
            "annotations": {key: value for key, value in annotations.items() if value},
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": who.job_uid, "controller": True}
            ],
        },
        "spec": {"containers": [{"name": "trial"}, {"name": "beside"}]},
        "status": {"phase": "Running", "containerStatuses": [_container("running")]},
    }


def worker_pod(who: base.Worker) -> Json:
    """A worker's pod, which runs."""
    found = pod(who.of_trial(0, 1), f"worker-{who.number}")
    labels = found["metadata"]["labels"]
    del labels[names.LABEL_TRIAL], labels[names.LABEL_ATTEMPT]
    labels[names.LABEL_WORKER] = str(who.number)
    return found


def _container(state: str, identity: str = "containerd://c0ffee") -> Json:
    return {"name": "trial", "containerID": identity, "state": {state: {}}}


@dataclasses.dataclass
class Log:
    """One container's log. ``cuts``: the streams that come next end after so many lines, each cut off (True: without
    an error, as a dying kubelet may do) or broken."""

    lines: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    ended: bool = False
    cuts: list[tuple[int, bool]] = dataclasses.field(default_factory=list)
    streams: int = 0


class ApiServer:
    """Tokens, pods and logs. Change them from any thread by `World.run` or before they are asked for."""

    def __init__(self) -> None:
        self.users: dict[tuple[str, str], Json] = {}  # (token, audience) → user
        self.pods: dict[tuple[str, str], Json] = {}
        self.logs: dict[tuple[str, str], Log] = {}
        self.failing: int | None = None  # every answer has this status
        self.slow: asyncio.Event | None = None  # reviews wait for it
        self.reviews = 0
        self.watches = 0
        self._changed = asyncio.Condition()
        self._events: list[Json] = []

    # what the world is like

    def knows(self, who: base.Identity, text: str = "", found: Json | None = None) -> str:
        """The trial's pod is there and has a token, which is returned."""
        found = found or pod(who)
        name = found["metadata"]["name"]
        self.pods[who.namespace, name] = found
        given = token(text or f"{who.experiment_uid}-{who.number}-{who.attempt}")
        self.users[given, names.TOKEN_AUDIENCE] = {
            "username": f"system:serviceaccount:{who.namespace}:default",
            "extra": {
                "authentication.kubernetes.io/pod-name": [name],
                "authentication.kubernetes.io/pod-uid": [who.pod_uid],
            },
        }
        return given

    def knows_worker(self, who: base.Worker) -> str:
        """The worker's pod is there and has a token, which is returned."""
        return self.knows(who.of_trial(0, 1), f"worker-{who.job_uid}", worker_pod(who))

    def lets_read(self, namespace: str) -> str:
        """A token of the read audience for an account of the namespace."""
        given = token(f"reader-{namespace}")
        self.users[given, names.READ_AUDIENCE] = {"username": f"system:serviceaccount:{namespace}:default"}
        return given

    async def put(self, found: Json) -> None:
        """A pod is there, or changed: watches are told."""
        metadata = found["metadata"]
        key = metadata["namespace"], metadata["name"]
        kind = "MODIFIED" if key in self.pods else "ADDED"
        self.pods[key] = found
        self.logs.setdefault(key, Log())
        await self._tell(kind, found)

    async def write(self, found: Json, *lines: tuple[str, str]) -> None:
        """The container writes lines: (time, text)."""
        async with self._changed:
            self.log(found).lines.extend(lines)
            self._changed.notify_all()

    async def end(self, found: Json) -> None:
        """The container ends."""
        ended = {**found, "status": {"phase": "Succeeded", "containerStatuses": [_container("terminated")]}}
        self.log(found).ended = True
        await self.put(ended)

    async def remove(self, found: Json) -> None:
        metadata = found["metadata"]
        del self.pods[metadata["namespace"], metadata["name"]]
        self.log(found).ended = True
        await self._tell("DELETED", found)

    def log(self, found: Json) -> Log:
        metadata = found["metadata"]
        return self.logs.setdefault((metadata["namespace"], metadata["name"]), Log())

    async def _tell(self, kind: str, found: Json) -> None:
        async with self._changed:
            self._events.append({"type": kind, "object": found})
            self._changed.notify_all()

    # HTTP

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._fail])
        application.add_routes(
            [
                web.post("/apis/authentication.k8s.io/v1/tokenreviews", self._review),
                web.get("/api/v1/pods", self._pods),
                web.get("/api/v1/namespaces/{namespace}/pods", self._pods),
                web.get("/api/v1/namespaces/{namespace}/pods/{name}", self._pod),
                web.get("/api/v1/namespaces/{namespace}/pods/{name}/log", self._log),
            ]
        )
        return application

    @web.middleware
    async def _fail(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.failing:
            return _status(self.failing, "as the test wants it")
        response: web.StreamResponse = await handler(request)
        return response

    async def _review(self, request: web.Request) -> web.Response:
        self.reviews += 1
        if self.slow:
            await self.slow.wait()
        spec = (await request.json())["spec"]
        (audience,) = spec["audiences"]
        user = self.users.get((spec["token"], audience))
        if user is None:
            return web.json_response({"status": {"authenticated": False, "error": "unknown token"}})
        return web.json_response({"status": {"authenticated": True, "user": user, "audiences": [audience]}})

    async def _pod(self, request: web.Request) -> web.Response:
        found = self.pods.get((request.match_info["namespace"], request.match_info["name"]))
        return web.json_response(found) if found else _status(404, "no such pod")

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        wanted = dict(part.split("=") for part in request.query["labelSelector"].split(","))
        if "watch" in request.query:
            return await self._watch(request, wanted, int(request.query["resourceVersion"]))
        items = [found for found in self.pods.values() if _matches(found, wanted)]
        return web.json_response({"metadata": {"resourceVersion": str(len(self._events))}, "items": items})

    async def _watch(self, request: web.Request, wanted: Mapping[str, str], version: int) -> web.StreamResponse:
        self.watches += 1
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            for event in self._events[version:]:
                version += 1
                if _matches(event["object"], wanted):
                    metadata = {**event["object"]["metadata"], "resourceVersion": str(version)}
                    line = {**event, "object": {**event["object"], "metadata": metadata}}
                    await response.write(json.dumps(line).encode() + b"\n")
            async with self._changed:
                while len(self._events) <= version:
                    await self._changed.wait()

    async def _log(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["namespace"], request.match_info["name"]
        if key not in self.pods:
            return _status(404, "no such pod")
        log = self.logs.setdefault(key, Log())
        log.streams += 1
        since = request.query.get("sinceTime", "")[:19]  # the kubelet knows whole seconds only
        follow = request.query["follow"] == "true"
        most, clean = log.cuts.pop(0) if log.cuts else (None, True)
        response = web.StreamResponse()
        await response.prepare(request)
        position, sent = 0, 0
        while True:
            for time, text in log.lines[position:]:
                position += 1
                if time[:19] >= since:
                    if sent == most:
                        return self._cut(request, response, clean)
                    sent += 1
                    await response.write(f"{time} {text}\n".encode())
            if not follow or (log.ended and position == len(log.lines)):
                return response
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()

    def _cut(self, request: web.Request, response: web.StreamResponse, clean: bool) -> web.StreamResponse:
        if not clean and request.transport:
            request.transport.abort()
        return response


def _matches(found: Json, wanted: Mapping[str, str]) -> bool:
    labels = found["metadata"]["labels"]
    return all(labels.get(name) == value for name, value in wanted.items())


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "code": code, "message": message}, status=code)


class World:
    """One thread with one event loop, in which API server and gateways run."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()
        self.run(self._start())

    async def _start(self) -> None:
        self.api = ApiServer()
        runner = web.AppRunner(self.api.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(KUBECONFIG.format(port=runner.addresses[0][1]))

    def run(self, work: Coroutine[Any, Any, Result], patience: float = 60.0) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(patience)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self.run(self._settle())
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _settle(self) -> None:
        """Connections that were closed are gone some turns of the loop later."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0.01)

    @contextlib.contextmanager
    def gateway(self, storage: base.GatewayStorage, secure: bool = True, **settings: Any) -> Iterator["Running"]:
        """A gateway over the storage for the length of the block; ``settings`` as in `Settings`."""
        directory = str(certificates(self.folder / "tls")) if secure else ""
        given = {"listen_port": 0, "http_port": 0, "tls_directory": directory, **settings}
        context = app.gateway(Settings(**given), storage, Credentials.load(str(self.kubeconfig)), "127.0.0.1")
        served = self.run(context.__aenter__())
        running = Running(self, served, f"http{'s' if secure else ''}://127.0.0.1:{served.ports[0]}")
        try:
            yield running
        finally:
            running.hang_up()
            self.run(context.__aexit__(None, None, None))


@dataclasses.dataclass
class Running:
    """A gateway that runs, and a way to talk to it."""

    world: World
    served: app.Served
    url: str

    def __post_init__(self) -> None:
        ca = self.world.folder / "tls" / "ca.crt"
        self._pool = urllib3.PoolManager(ca_certs=str(ca) if ca.exists() else None, retries=False, timeout=30)

    def call(
        self, method: str, path: str, body: Any = None, token: str = "", **headers: str
    ) -> tuple[int, Json, Mapping[str, str]]:
        """(status, body, headers) of an answer. ``body``: JSON, or bytes as they are."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        response = self._pool.request(method, self.url + path, body=data, headers=sent)
        return response.status, json.loads(response.data), response.headers

    def hang_up(self) -> None:
        self._pool.clear()

    def http(self, path: str) -> tuple[int, bytes]:
        """The other port's answer."""
        response = self._pool.request("GET", f"http://127.0.0.1:{self.served.ports[1]}{path}")
        return response.status, response.data

    def environment(self, token_file: pathlib.Path) -> dict[str, str]:
        """What a trial's pod has to reach it."""
        authority = (self.world.folder / "tls" / "ca.crt").read_text()
        return {names.ENV_GATEWAY: self.url, names.ENV_GATEWAY_CA: authority, names.ENV_TOKEN_FILE: str(token_file)}


def certificates(directory: pathlib.Path, authority: tls.Pair | None = None) -> pathlib.Path:
    """A directory as the kubelet would mount it; what is there already stays, unless an authority is given."""
    if authority is None and (directory / "tls.crt").exists():
        return directory
    now = datetime.datetime.now(datetime.UTC)
    authority = authority or tls.make_authority(now)
    leaf = tls.make_leaf(authority, ["127.0.0.1", "localhost"], now)
    directory.mkdir(exist_ok=True)
    (directory / "ca.crt").write_bytes(authority.certificate)
    (directory / "tls.key").write_bytes(leaf.key)
    (directory / "tls.crt").write_bytes(leaf.certificate)
    return directory
