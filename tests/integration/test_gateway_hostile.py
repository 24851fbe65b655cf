"""What anyone in the cluster may send to a gateway: it is refused in words, costs a bounded time, and harms nobody."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies as st

from kubetune.gateway import app
from kubetune.storage import postgres
from tests import gateway_world
from tests.integration.experiments import Experiment

texts = st.text(max_size=20)
numbers = st.one_of(
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.sampled_from(["nan", "-Infinity", "1e999", "", "\0", "\ud800"]),
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=10,
)
reports = st.fixed_dictionaries(
    {"metrics": st.one_of(anything, st.dictionaries(texts, numbers, max_size=4))},
    optional={"step": st.one_of(anything, numbers), "key": st.one_of(anything, texts), "stepp": anything},
)
bodies = st.one_of(
    st.binary(max_size=200),
    st.one_of(anything, reports, st.fixed_dictionaries({"reports": st.lists(reports, max_size=4)})).map(
        lambda form: json.dumps(form).encode()
    ),
    st.sampled_from(
        [b"[" * 60_000, b'{"metrics":{"a":' + b"9" * 60_000 + b"}}", b'{"metrics":{"a":1e400}}', b"\xff\xfe"]
    ),
)
lines = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                b"Content-Length: 5",
                b"Content-Length: -1",
                b"Content-Length: 99999999999999999999",
                b"Content-Length: 5\r\nContent-Length: 6",
                b"Transfer-Encoding: chunked",
                b"Transfer-Encoding: chunked, gzip",
                b"Content-Encoding: gzip",
                b"Content-Encoding: br",
                b"Expect: 100-continue",
                b"Upgrade: websocket\r\nConnection: upgrade",
                b"Authorization: Bearer head.x.signature",
                b"Authorization: Bearer " + b"x" * 7000,
                b"X: " + b"y" * 20_000,
            ]
        ),
    ),
    max_size=5,
)
heads = st.sampled_from(
    [b"POST /v1/report HTTP/1.1", b"GET /v1/trial HTTP/1.1", b"PUT /%ff HTTP/1.0", b"PRI * HTTP/2.0"]
)
requests = st.one_of(
    st.binary(max_size=300),
    st.tuples(
        heads, lines, st.one_of(bodies, st.just(b"5\r\nhello\r\n0\r\n\r\n"), st.just(b"ffffffffffffffff\r\n"))
    ).map(lambda parts: b"\r\n".join([parts[0], b"Host: gateway", *parts[1], b"", parts[2]])),
)


@pytest.fixture
def experiment(postgres_url: str) -> Iterator[Experiment]:
    storage = postgres.PostgresStorage(postgres_url)
    storage.acquire("test")
    made = Experiment(storage)
    made.create(0)
    yield made
    storage.close()


def connected(gateway: gateway_world.Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.served.ports[0]), timeout=20)


def test_no_body_makes_it_fail(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    token = world.api.knows(experiment.who(0))

    @hypothesis.given(bodies)
    @hypothesis.settings(max_examples=200)
    def send(body: bytes) -> None:
        status, answer, _ = gateway.call("POST", "/v1/report", body, token)
        assert status in (200, 400), answer
        assert status == 200 or answer["error"]

    send()
    assert gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}, "step": 0}, token)[0] == 200


def test_no_bytes_make_it_fail(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    token = world.api.knows(experiment.who(0))

    @hypothesis.given(requests)
    @hypothesis.settings(max_examples=200)
    def send(request: bytes) -> None:
        answer = b""
        with connected(gateway) as connection, contextlib.suppress(ConnectionError):  # it need not read all of it
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while came := connection.recv(65536):
                answer += came
        assert not answer or answer.startswith(b"HTTP/1.")
        assert b" 500 " not in answer.partition(b"\r\n")[0]

    send()
    assert gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}}, token)[0] == 200


def test_connections_beyond_the_limit_are_closed_and_the_others_go_on(
    world: gateway_world.World,
    gateway: gateway_world.Running,
    experiment: Experiment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = world.api.knows(experiment.who(0))
    monkeypatch.setattr(app, "MOST_CONNECTIONS", 2)
    request = f"GET /v1/trial HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    def answered(connection: socket.socket) -> bool:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
        return False

    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(connected(gateway)) for _ in range(2))
        assert answered(first)
        assert answered(second)
        assert not answered(stack.enter_context(connected(gateway)))
        assert answered(first)
        second.close()
        end = time.monotonic() + 20
        while not answered(stack.enter_context(connected(gateway))):
            assert time.monotonic() < end
            time.sleep(0.05)
