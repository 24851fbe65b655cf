"""A small synchronous client of the API server: JSON in, JSON out, errors with names.

The official package's models cost more CPU than the requests themselves (FACTS.md), so only its credentials and its
TLS set-up are used. Controller, gateway and command line share this one; all methods may be called from any thread.
"""

import dataclasses
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import urllib3

from kubetune.kube import errors, resources
from kubetune.kube.credentials import Credentials
from kubetune.kube.resources import Resource

Json: TypeAlias = dict[str, Any]
Params: TypeAlias = Mapping[str, str | int | bool]
# verb, plural, code (0: none came), seconds, and the seconds that the server asked to wait (Retry-After)
Observer: TypeAlias = Callable[[str, str, int, float, float | None], None]

_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"
PAGE = 500


@dataclasses.dataclass(frozen=True)
class _Call:
    """One request: what it is called in metrics, and what is sent."""

    verb: str
    method: str
    plural: str
    path: str
    params: Params = dataclasses.field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = _JSON
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.path + ("?" + urllib.parse.urlencode(self.params) if self.params else "")

    @property
    def data(self) -> bytes | None:
        return None if self.body is None else json.dumps(self.body).encode()


def _unobserved(verb: str, plural: str, code: int, seconds: float, wait: float | None) -> None:
    pass


class Client:
    """Requests to one API server, at most ``pool_size`` at once. ``timeout``: seconds for one answer."""

    def __init__(
        self,
        credentials: Credentials,
        pool_size: int = 16,
        timeout: float = 30.0,
        on_request: Observer = _unobserved,
        user_agent: str = "kubetune",
    ) -> None:
        self._credentials = credentials
        self._pool = credentials.pool(pool_size)
        self._timeout = urllib3.Timeout(connect=min(timeout, 10.0), read=timeout)
        self._on_request = on_request
        self._user_agent = user_agent

    def close(self) -> None:
        """Close the kept connections; a request in flight ends by itself."""
        self._pool.clear()

    # objects

    def get(self, resource: Resource, namespace: str | None, name: str, subresource: str | None = None) -> Json:
        """Raises NotFound and the other errors of `kube.errors`, as every method here does."""
        return self._json(_Call("get", "GET", resource.plural, resource.path(namespace, name, subresource)))

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        page: int = PAGE,
    ) -> tuple[Sequence[Json], str]:
        """All objects and the list's resourceVersion. Read in pages; if the pages expire on the way, once more."""
        try:
            return self._list(resource, namespace, labels, fields, page)
        except errors.Gone:
            return self._list(resource, namespace, labels, fields, page)

    def _list(
        self, resource: Resource, namespace: str | None, labels: str, fields: str, page: int
    ) -> tuple[Sequence[Json], str]:
        items: list[Json] = []
        version = ""
        for answer in self.pages(resource, namespace, labels, fields, page):
            items.extend(answer.get("items") or ())
            version = (answer.get("metadata") or {}).get("resourceVersion", version)
        return items, version

    def pages(
        self, resource: Resource, namespace: str | None = None, labels: str = "", fields: str = "", page: int = PAGE
    ) -> Iterator[Json]:
        """The list's answers one by one, so that only one page of raw objects is held at a time. Raises Gone if
        the pages expired on the way."""
        params: dict[str, str | int | bool] = {"limit": page}
        if labels:
            params["labelSelector"] = labels
        if fields:
            params["fieldSelector"] = fields
        while True:
            answer = self._json(_Call("list", "GET", resource.plural, resource.path(namespace), params))
            yield answer
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                return
            params["continue"] = token

    def create(
        self,
        resource: Resource,
        namespace: str | None,
        body: Mapping[str, Any],
        dry_run: bool = False,
        strict: bool = False,
    ) -> Json:
        """The object as the server made it. ``strict``: a field that the server does not know is an error.
        Raises AlreadyExists, Invalid, Forbidden, QuotaExceeded, …"""
        params: dict[str, str | int | bool] = {}
        if dry_run:
            params["dryRun"] = "All"
        if strict:
            params["fieldValidation"] = "Strict"
        return self._json(_Call("create", "POST", resource.plural, resource.path(namespace), params, body))

    def delete(
        self, resource: Resource, namespace: str | None, name: str, uid: str | None = None, grace: int | None = None
    ) -> None:
        """Delete with dependents in the background; ``uid``: only if it is that object (else Conflict)."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        self._json(_Call("delete", "DELETE", resource.plural, resource.path(namespace, name), body=options))

    def replace(self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]) -> Json:
        """PUT; with metadata.resourceVersion in the body it raises Conflict when another wrote in between."""
        return self._json(_Call("update", "PUT", resource.plural, resource.path(namespace, name), body=body))

    def apply(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        manager: str,
        subresource: str | None = None,
    ) -> Json:
        """Server-side apply, by force: what ``manager`` says of its fields stands."""
        params: Params = {"fieldManager": manager, "force": "true"}
        path = resource.path(namespace, name, subresource)
        return self._json(_Call("apply", "PATCH", resource.plural, path, params, body, _APPLY))

    def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        subresource: str | None = None,
    ) -> Json:
        """JSON merge patch."""
        path = resource.path(namespace, name, subresource)
        return self._json(_Call("patch", "PATCH", resource.plural, path, body=body, content_type=_MERGE))

    # what is no object

    def version(self) -> Json:
        """GET /version: the cheapest question that proves the server answers."""
        return self._json(_Call("get", "GET", "version", "/version"))

    def token_request(
        self, namespace: str, service_account: str, audience: str, seconds: int = 600, pod: Json | None = None
    ) -> str:
        """A token of the service account for ``audience``; ``pod`` (its metadata) binds it to that pod."""
        spec: Json = {"audiences": [audience], "expirationSeconds": seconds}
        if pod is not None:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod["name"], "uid": pod["uid"]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = resources.SERVICE_ACCOUNTS.path(namespace, service_account, "token")
        answer = self._json(_Call("create", "POST", resources.SERVICE_ACCOUNTS.plural, path, body=body))
        return str(answer["status"]["token"])

    def token_review(self, token: str, audiences: Sequence[str]) -> Json:
        """TokenReview's status: ``authenticated``, ``user``, ``audiences``, ``error``."""
        body = {
            "apiVersion": resources.TOKEN_REVIEWS.api_version,
            "kind": resources.TOKEN_REVIEWS.kind,
            "spec": {"token": token, "audiences": list(audiences)},
        }
        reviews = resources.TOKEN_REVIEWS
        answer = self._json(_Call("create", "POST", reviews.plural, reviews.path(), body=body))
        status: Json = answer.get("status") or {}
        return status

    def log_tail(
        self, namespace: str, pod: str, limit_bytes: int, container: str | None = None, lines: int = 2000
    ) -> str:
        """The last ``limit_bytes`` of the log's last ``lines``, as it is now.

        The server's own limitBytes keeps the beginning, so the answer is read through and its end kept: a line may
        be very long (progress bars), memory stays bounded.
        """
        params: dict[str, str | int | bool] = {"tailLines": lines} | ({"container": container} if container else {})
        response = self._answer(_Call("get", "GET", "pods/log", resources.PODS.path(namespace, pod, "log"), params))
        tail, cut = bytearray(), False
        try:
            for chunk in response.stream(65536):
                tail += chunk
                cut = cut or len(tail) > limit_bytes
                del tail[: max(0, len(tail) - limit_bytes)]
        except urllib3.exceptions.HTTPError as error:
            raise errors.Unavailable(0, type(error).__name__, f"log of {pod}: {error}") from error
        finally:
            response.release_conn()
        text = tail.decode("utf-8", "replace")
        return text.partition("\n")[2] if cut and "\n" in text else text

    def service_proxy(
        self,
        namespace: str,
        service: str,
        path: str,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        """A request to a Service through the API server, with the caller's right to ``services/proxy``.

        Args:
            service: ``name``, ``name:port`` or ``https:name:port``.
            headers: passed on, but the server drops ``Authorization``.
        """
        address = resources.SERVICES.path(namespace, service, "proxy") + "/" + path.lstrip("/")
        return self._request(
            _Call("proxy", method, "services/proxy", address, params or {}, body, headers=headers or {})
        )

    # how

    def _json(self, call: _Call) -> Json:
        answer: Json = json.loads(self._request(call))
        return answer

    def _request(self, call: _Call) -> bytes:
        response = self._answer(call)
        try:
            return response.data
        except urllib3.exceptions.HTTPError as error:
            raise errors.Unavailable(0, type(error).__name__, f"{call.method} {call.path}: {error}") from error
        finally:
            response.release_conn()

    def _answer(self, call: _Call) -> urllib3.BaseHTTPResponse:
        """A response below 400 with its body unread. A GET on a kept connection that the server had closed, and
        any request that met a token just renewed, is sent a second time."""
        sent = {"Accept": "application/json, */*", "User-Agent": self._user_agent, **call.headers}
        url, data = call.url, call.data
        if data is not None:
            sent["Content-Type"] = call.content_type
        for again in (True, False):
            begun = time.monotonic()
            try:
                response = self._send(call.method, url, data, sent)
            except errors.Unavailable as error:
                self._on_request(call.verb, call.plural, 0, time.monotonic() - begun, None)
                if again and call.method == "GET" and error.reason == "ProtocolError":
                    continue
                raise
            seconds = time.monotonic() - begun
            if response.status < 400:
                self._on_request(call.verb, call.plural, response.status, seconds, None)
                return response
            refused = errors.from_response(response.status, response.data, response.headers)
            response.release_conn()
            self._on_request(call.verb, call.plural, response.status, seconds, _wait(refused))
            if not (again and isinstance(refused, errors.Unauthorized)):
                raise refused
        raise AssertionError("the second pass returns or raises")

    def _send(self, method: str, url: str, data: bytes | None, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                method,
                self._credentials.server + url,
                headers={**headers, **self._credentials.headers()},
                body=data,
                timeout=self._timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise errors.Unavailable(0, type(error).__name__, f"{method} {url}: {error}") from error


def _wait(refused: errors.ApiError) -> float | None:
    return refused.retry_after if isinstance(refused, errors.Unavailable) else None
