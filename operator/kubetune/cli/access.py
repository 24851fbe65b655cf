"""What the command line reads and writes: experiments at the API server, trials at the gateway behind it.

The gateway is reached through the API server's service proxy, with a token of the namespace
(docs/decisions/0001-read-access.md) that is asked for once a command and renewed before it runs out.
"""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubetune.api import names
from kubetune.cli import explain
from kubetune.kube import errors, resources
from kubetune.kube.client import Client, Json

RECORDS = 200  # trials with all their reports in one answer
PAGE = 500
TOKEN_SECONDS = 600  # the least that Kubernetes grants


@dataclasses.dataclass(frozen=True)
class Gateway:
    """The gateway's Service."""

    namespace: str = "kubetune"
    name: str = "kubetune-gateway"
    port: str = "8443"
    scheme: str = "https"

    @property
    def service(self) -> str:
        """As the service proxy names it."""
        return f"{self.scheme}:{self.name}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Gateway":
        """``[https://|http://]NAMESPACE/NAME[:PORT]``. Raises Problem."""
        match = re.fullmatch(r"(?:(https?)://)?([a-z0-9-]+)/([a-z0-9-]+)(?::([a-z0-9-]+))?", text)
        if not match:
            raise explain.Problem(
                f"{text!r} is not NAMESPACE/SERVICE[:PORT], for example kubetune/kubetune-gateway:8443"
            )
        scheme, namespace, name, port = match.groups()
        return cls(namespace, name, port or cls.port, scheme or cls.scheme)


@dataclasses.dataclass(frozen=True)
class Log:
    """What the gateway tells of a trial's log. ``worker``: (number, incarnation) of the one that runs or ran its latest
    attempt; ``started``: epoch seconds."""

    kept: str | None
    attempt: int
    running: bool
    started: float | None
    worker: tuple[int, int] | None


class Access:
    """One namespace's experiments and their trials. Every method raises `explain.Problem`, worded for a person."""

    def __init__(self, client: Client, namespace: str, gateway: Gateway, service_account: str) -> None:
        self._client = client
        self._gateway = gateway
        self._service_account = service_account
        self._token: tuple[str, float] | None = None  # and when it was asked for, by the monotonic clock
        self.namespace = namespace

    # experiments

    def experiment(self, name: str) -> Json:
        try:
            return self._client.get(resources.EXPERIMENTS, self.namespace, name)
        except errors.NotFound:
            there = [item["metadata"]["name"] for item in self.experiments()]
            raise explain.no_experiment(self.namespace, name, there) from None
        except errors.ApiError as error:
            raise explain.api(error, f"get experiment {name}") from error

    def experiments(self, everywhere: bool = False) -> Sequence[Json]:
        try:
            items, _ = self._client.list(resources.EXPERIMENTS, None if everywhere else self.namespace)
        except errors.NotFound:
            raise explain.not_installed() from None
        except errors.ApiError as error:
            raise explain.api(error, "list experiments") from error
        return sorted(items, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))

    def edit(self, name: str, change: Callable[[Json], Json | None]) -> Json:
        """Merge what ``change`` makes of the experiment into its spec; again from the start when another wrote in
        between. ``change`` returns None when there is nothing to do. Returns the experiment."""
        while True:
            experiment = self.experiment(name)
            spec = change(experiment)
            if spec is None:
                return experiment
            body = {"metadata": {"resourceVersion": experiment["metadata"]["resourceVersion"]}, "spec": spec}
            try:
                return self._client.patch(resources.EXPERIMENTS, self.namespace, name, body)
            except errors.Conflict:
                continue
            except errors.ApiError as error:
                raise explain.api(error, f"change experiment {name}") from error

    # pods

    def pods(self, name: str, trial: int, phase: str = "") -> Sequence[Json]:
        """The trial's pods, the latest attempt's last."""
        which = f"{names.LABEL_PHASE}={phase}" if phase else f"!{names.LABEL_PHASE}"
        labels = f"{names.LABEL_EXPERIMENT}={name},{names.LABEL_TRIAL}={trial},{which}"
        try:
            items, _ = self._client.list(resources.PODS, self.namespace, labels)
        except errors.ApiError as error:
            raise explain.api(error, f"list the pods of trial {trial}") from error
        return sorted(items, key=_attempt)

    def worker_pods(self, name: str, number: int, incarnation: int) -> Sequence[Json]:
        """The pod of a worker, if it is there."""
        own = f"{names.LABEL_WORKER}={number},{names.LABEL_INCARNATION}={incarnation}"
        try:
            return self._client.list(resources.PODS, self.namespace, f"{names.LABEL_EXPERIMENT}={name},{own}")[0]
        except errors.ApiError as error:
            raise explain.api(error, f"list the pods of worker {number}") from error

    # trials, at the gateway

    def trials(self, name: str, state: str | None = None, offset: int = 0, phase: str = "") -> list[Json]:
        """All trials by number, from ``offset`` on; ``state``: as Optuna names it; ``phase``: of what comes after the
        search."""
        found: list[Json] = []
        while True:
            params: dict[str, str | int | bool] = {"offset": offset + len(found), "limit": PAGE}
            if state:
                params["state"] = state
            if phase:
                params["phase"] = phase
            page = self._read(f"{name}/trials", params)["trials"]
            found.extend(page)
            if len(page) < PAGE:
                return found

    def history(self, name: str, phase: str = "") -> Json:
        """How it is searched, what people did, what began; or the same of a phase after the search."""
        found: Json = self._read(f"{name}/history", {"phase": phase} if phase else None)
        return found

    def record(self, name: str, phase: str = "") -> list[Json]:
        """All trials by number, with what was decided about them."""
        found: list[Json] = []
        while True:
            params: dict[str, str | int | bool] = {"offset": len(found), "limit": RECORDS}
            page = self._read(f"{name}/record", params | ({"phase": phase} if phase else {}))["trials"]
            found.extend(page)
            if len(page) < RECORDS:
                return found

    def log(self, name: str, trial: int, phase: str = "") -> Log:
        """The kept end of a trial's log, and where else to look."""
        answer = self._read(f"{name}/trials/{trial}/log", {"phase": phase} if phase else None)
        worker, started = answer.get("worker"), answer.get("started")
        return Log(
            None if answer["log"] is None else str(answer["log"]),
            int(answer.get("attempt") or 1),
            bool(answer.get("running")),
            None if started is None else float(started),
            None if worker is None else (int(worker["number"]), int(worker["incarnation"])),
        )

    def models(self, name: str | None) -> list[Json]:
        """The versions of models that refits of the namespace's experiments, or of one, told of."""
        path = f"v1/models/{self.namespace}"
        found: list[Json] = self._ask(path, {"experiment": name} if name else None)["models"]
        return found

    def _read(self, what: str, params: Mapping[str, str | int | bool] | None = None) -> Any:
        return self._ask(f"v1/experiments/{self.namespace}/{what}", params)

    def _ask(self, path: str, params: Mapping[str, str | int | bool] | None) -> Any:
        def send(token: str) -> bytes:
            headers = {names.READ_TOKEN_HEADER: token}
            return self._client.service_proxy(
                self._gateway.namespace, self._gateway.service, path, params, headers=headers
            )

        try:
            try:
                answer = send(self._read_token())
            except errors.Unauthorized:
                self._token = None
                answer = send(self._read_token())
        except errors.ApiError as error:
            raise explain.gateway(error, self._gateway.namespace, self._gateway.name, self._gateway.service) from error
        try:
            return json.loads(answer)
        except ValueError:
            raise explain.strange_gateway(self._gateway.namespace, self._gateway.service, answer) from None

    def _read_token(self) -> str:
        if self._token is None or time.monotonic() - self._token[1] > TOKEN_SECONDS * 0.8:
            account = self._service_account
            try:
                token = self._client.token_request(self.namespace, account, names.READ_AUDIENCE, TOKEN_SECONDS)
            except errors.ApiError as error:
                raise explain.token(error, self.namespace, account) from error
            self._token = (token, time.monotonic())
        return self._token[0]


def _attempt(pod: Json) -> int:
    return int(pod["metadata"].get("labels", {}).get(names.LABEL_ATTEMPT, 0))
