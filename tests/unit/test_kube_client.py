"""The client against a small HTTP server that answers as an API server would: what is sent, what comes back as what."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from kubetune.kube import client, credentials, errors, resources, stream

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me, namespace: team-a}}}}]
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{token: sesame}}}}]
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from a list of (status, body, headers), one for each request; keeps what it was sent."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[list[tuple[int, bytes, dict[str, str]]]] = []
    seen: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.command, self.path, dict(self.headers), body))
        status, answer, headers = self.answers.pop(0)
        if status == 0:  # the connection breaks without an answer
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def access(tmp_path: Any) -> Iterator[credentials.Credentials]:
    Handler.answers, Handler.seen = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.format(port=server.server_address[1]))
    yield credentials.Credentials.load(str(path))
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(access: credentials.Credentials) -> Iterator[client.Client]:
    made = client.Client(access, pool_size=2, timeout=5)
    yield made
    made.close()


def answer(status: int, body: Any = None, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    Handler.answers.append((status, data, {name.replace("_", "-"): value for name, value in headers.items()}))


def status(reason: str, message: str = "no", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "details": details}


def test_sends_the_token_and_takes_the_namespace_of_the_context(
    api: client.Client, access: credentials.Credentials
) -> None:
    answer(200, {"metadata": {"name": "x"}})
    assert api.get(resources.JOBS, "ns", "x")["metadata"]["name"] == "x"
    method, path, headers, _ = Handler.seen[0]
    assert (method, path) == ("GET", "/apis/batch/v1/namespaces/ns/jobs/x")
    assert headers["Authorization"] == "Bearer sesame"
    assert access.namespace == "team-a"


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (400, status("BadRequest"), errors.Invalid),
        (401, status("Unauthorized"), errors.Unauthorized),
        (403, status("Forbidden", "jobs is forbidden: User cannot create"), errors.Forbidden),
        (403, status("Forbidden", 'pods "x" is forbidden: exceeded quota: q, requested: …'), errors.QuotaExceeded),
        (
            403,
            status("Forbidden", "ns is being terminated", causes=[{"reason": "NamespaceTerminating"}]),
            errors.NamespaceTerminating,
        ),
        (404, status("NotFound"), errors.NotFound),
        (404, b"404 page not found", errors.NotFound),
        (409, status("AlreadyExists"), errors.AlreadyExists),
        (409, status("Conflict"), errors.Conflict),
        (422, status("Invalid", "spec.template: field is immutable"), errors.Invalid),
        (429, status("TooManyRequests"), errors.Unavailable),
        (500, status("InternalError"), errors.Unavailable),
        (503, b"upstream connect error", errors.Unavailable),
        (504, status("Timeout"), errors.Unavailable),
        (405, status("MethodNotAllowed"), errors.ApiError),
    ],
)
def test_each_refusal_has_its_class(api: client.Client, code: int, body: Any, expected: type[errors.ApiError]) -> None:
    answer(code, body)
    answer(code, body)  # a 401 is tried twice
    with pytest.raises(errors.ApiError) as caught:
        api.create(resources.JOBS, "ns", {})
    assert type(caught.value) is expected
    assert caught.value.status == code


def test_the_servers_wish_to_wait_is_kept(api: client.Client) -> None:
    answer(429, status("TooManyRequests"), Retry_After="7")
    with pytest.raises(errors.Unavailable) as caught:
        api.get(resources.JOBS, "ns", "x")
    assert caught.value.retry_after == 7


def test_who_watches_the_requests_hears_of_that_wish(access: credentials.Credentials) -> None:
    told: list[tuple[str, int, float | None]] = []
    api = client.Client(access, timeout=5, on_request=lambda verb, _, code, __, wait: told.append((verb, code, wait)))
    answer(201, {"kind": "Job"})
    answer(429, status("TooManyRequests"), Retry_After="7")
    answer(429, status("TooManyRequests", retryAfterSeconds=3))
    answer(503, status("ServiceUnavailable"))
    api.create(resources.JOBS, "ns", {})
    for _ in range(3):
        with pytest.raises(errors.Unavailable):
            api.create(resources.JOBS, "ns", {})
    api.close()
    assert told == [("create", 201, None), ("create", 429, 7), ("create", 429, 3), ("create", 503, None)]


def test_a_read_on_a_connection_that_broke_is_repeated_once_and_a_write_never(api: client.Client) -> None:
    answer(0)
    answer(200, {"kind": "Job"})
    assert api.get(resources.JOBS, "ns", "x") == {"kind": "Job"}
    answer(0)
    answer(200)
    with pytest.raises(errors.Unavailable) as caught:
        api.create(resources.JOBS, "ns", {})
    assert caught.value.status == 0
    assert [method for method, *_ in Handler.seen] == ["GET", "GET", "POST"]


def test_nobody_listening_is_unavailable(tmp_path: Any) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.format(port=1))
    with pytest.raises(errors.Unavailable):
        client.Client(credentials.Credentials.load(str(path)), timeout=5).version()


def test_a_list_is_read_page_by_page(api: client.Client) -> None:
    answer(200, {"metadata": {"resourceVersion": "5", "continue": "a&b"}, "items": [{"n": 1}, {"n": 2}]})
    answer(200, {"metadata": {"resourceVersion": "5"}, "items": [{"n": 3}]})
    items, version = api.list(resources.PODS, None, labels="a=b", page=2)
    assert ([item["n"] for item in items], version) == ([1, 2, 3], "5")
    assert Handler.seen[0][1] == "/api/v1/pods?limit=2&labelSelector=a%3Db"
    assert Handler.seen[1][1] == "/api/v1/pods?limit=2&labelSelector=a%3Db&continue=a%26b"


def test_a_list_whose_pages_expired_begins_again(api: client.Client) -> None:
    answer(200, {"metadata": {"resourceVersion": "5", "continue": "x"}, "items": [{"n": 1}]})
    answer(410, status("Expired"))
    answer(200, {"metadata": {"resourceVersion": "9"}, "items": [{"n": 1}]})
    assert api.list(resources.PODS) == ([{"n": 1}], "9")


def test_deletes_only_the_object_meant_and_its_dependents_in_the_background(api: client.Client) -> None:
    answer(200)
    api.delete(resources.JOBS, "ns", "x", uid="u-1")
    assert json.loads(Handler.seen[0][3]) == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u-1"},
    }


def test_applies_a_status_by_force_under_its_managers_name(api: client.Client) -> None:
    answer(200)
    api.apply(resources.EXPERIMENTS, "ns", "x", {"status": {"a": 1}}, manager="kubetune", subresource="status")
    method, path, headers, body = Handler.seen[0]
    assert method == "PATCH"
    assert path == "/apis/kubetune.dev/v1alpha1/namespaces/ns/experiments/x/status?fieldManager=kubetune&force=true"
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert json.loads(body) == {"status": {"a": 1}}


def test_a_dry_run_is_strict_about_unknown_fields(api: client.Client) -> None:
    answer(201)
    api.create(resources.JOBS, "ns", {}, dry_run=True, strict=True)
    assert Handler.seen[0][1].endswith("/jobs?dryRun=All&fieldValidation=Strict")


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("one\ntwo\n", 100, "one\ntwo\n"),
        ("first\nsecond\nthird\n", 13, "third\n"),  # a line cut in the middle is dropped
        ("x" * 300_000, 10, "x" * 10),  # unless it is all there is
        ("one\n", 0, ""),
    ],
)
def test_the_end_of_a_log(api: client.Client, text: str, limit: int, expected: str) -> None:
    answer(200, text.encode())
    assert api.log_tail("ns", "pod", limit, container="trial") == expected
    assert Handler.seen[0][1] == "/api/v1/namespaces/ns/pods/pod/log?tailLines=2000&container=trial"


def test_token_review_and_request(api: client.Client) -> None:
    answer(201, {"status": {"authenticated": True, "user": {"username": "u"}}})
    assert api.token_review("t", ["aud"])["authenticated"] is True
    assert json.loads(Handler.seen[0][3])["spec"] == {"token": "t", "audiences": ["aud"]}
    answer(201, {"status": {"token": "minted"}})
    assert api.token_request("ns", "default", "aud", pod={"name": "p", "uid": "u"}) == "minted"
    assert Handler.seen[1][1] == "/api/v1/namespaces/ns/serviceaccounts/default/token"
    assert json.loads(Handler.seen[1][3])["spec"]["boundObjectRef"]["uid"] == "u"


def test_a_service_is_reached_through_the_api_server(api: client.Client) -> None:
    answer(404, {"error": "no experiment digits in team-a"})
    with pytest.raises(errors.NotFound, match="no experiment digits"):
        api.service_proxy("kt", "https:gateway:8443", "/v1/x", {"limit": 5}, {"X-Kubetune-Token": "t"})
    _, path, headers, _ = Handler.seen[0]
    assert path == "/api/v1/namespaces/kt/services/https:gateway:8443/proxy/v1/x?limit=5"
    assert headers["X-Kubetune-Token"] == "t"


def test_requests_are_counted_by_verb_and_code(access: credentials.Credentials) -> None:
    counted: list[tuple[str, str, int]] = []
    api = client.Client(
        access, timeout=5, on_request=lambda verb, plural, code, *_: counted.append((verb, plural, code))
    )
    answer(200)
    answer(404)
    api.get(resources.JOBS, "ns", "x")
    with pytest.raises(errors.NotFound):
        api.delete(resources.JOBS, "ns", "x")
    api.close()
    assert counted == [("get", "jobs", 200), ("delete", "jobs", 404)]


def follow(access: credentials.Credentials, **arguments: Any) -> list[tuple[str, str]]:
    async def read() -> list[tuple[str, str]]:
        async with stream.LogStreams(access) as streams:
            return [line async for line in streams.follow("ns", "pod", "trial", **arguments)]

    return asyncio.run(read())


def test_a_log_is_followed_line_by_line_with_its_times(access: credentials.Credentials) -> None:
    answer(200, b"2026-01-01T00:00:00.1Z loss=0.5\n2026-01-01T00:00:01.2Z \n2026-01-01T00:00:02.3Z end")
    assert follow(access, since="2026-01-01T00:00:00Z") == [
        ("2026-01-01T00:00:00.1Z", "loss=0.5"),
        ("2026-01-01T00:00:01.2Z", ""),
        ("2026-01-01T00:00:02.3Z", "end"),
    ]
    _, path, headers, _ = Handler.seen[0]
    assert path == (
        "/api/v1/namespaces/ns/pods/pod/log?timestamps=true&follow=true&container=trial&sinceTime=2026-01-01T00:00:00Z"
    )
    assert headers["Authorization"] == "Bearer sesame"


def test_a_log_of_a_pod_that_is_gone_or_not_started(access: credentials.Credentials) -> None:
    answer(404, status("NotFound"))
    with pytest.raises(errors.NotFound):
        follow(access)
    answer(400, status("BadRequest", 'container "trial" in pod "pod" is waiting to start: ContainerCreating'))
    with pytest.raises(errors.Invalid, match="waiting to start"):
        follow(access)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], []),
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a", b"b\nc", b"", b"\n"], ["ab", "c"]),
        ([b"a\n\nb"], ["a", "", "b"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([b"x" * 70_000, b"y" * 70_000 + b"\nz\n"], ["x" * stream.MAX_LINE, "z"]),
    ],
)
def test_chunks_become_lines(chunks: list[bytes], expected: list[str]) -> None:
    async def read() -> list[str]:
        async def source() -> Any:
            for chunk in chunks:
                yield chunk

        return [line async for line in stream.lines(source())]

    assert asyncio.run(read()) == expected
