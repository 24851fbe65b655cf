"""Searchers from outside: told everything once and in order, asked, and never believed blindly."""

import http.server
import json
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from kubetune.api import searcher
from kubetune.api.parameters import Categorical, Double, Int, Params
from kubetune.api.spec import Algorithm, ExperimentSpec, InvalidSpec
from kubetune.api.trial import TrialState
from kubetune.engine import samplers
from kubetune.engine.history import History, Past
from kubetune.engine.samplers.external import ExternalSampler
from kubetune.engine.samplers.speaking import HttpSearcher, description
from tests.unit.engine_objects import LOSS, SPACE, spec

POINT: Params = {"lr": 0.01, "momentum": 0.3, "layers": 2, "optimizer": "sgd"}


class Counting:
    """Answers `POINT`, with the number of trials that it was told of as its layers."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.told: list[searcher.Told] = []
        self.running: list[Mapping[int, Params]] = []

    def tell(self, trials: Sequence[searcher.Told]) -> None:
        self.told += trials

    def ask(self, number: int, running: Mapping[int, Params]) -> Params:
        self.running.append(running)
        return {**POINT, "layers": 1 + len(self.told)}


def grown(history: History, *states: TrialState) -> History:
    for state in states:
        values = (0.5,) if state is TrialState.COMPLETE else None
        history.add(Past(len(history), state, POINT, values, ended=float(len(history))))
    return history


def test_it_is_told_each_trial_once_in_the_order_of_their_ends_and_shown_what_runs() -> None:
    one = Counting()
    sampler = ExternalSampler(spec(), lambda: one)
    history = grown(History([LOSS], SPACE), TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL)
    assert sampler.suggest(history, 3) == {**POINT, "layers": 3}
    history.replace(Past(1, TrialState.COMPLETE, POINT, (0.1,), ended=9.0))
    assert sampler.suggest(history, 3)["layers"] == 4
    assert [(told.number, told.state, told.values) for told in one.told] == [
        (0, "COMPLETE", (0.5,)),
        (2, "FAIL", None),
        (1, "COMPLETE", (0.1,)),
    ]
    assert one.told[0].params == POINT
    assert one.running == [{1: POINT}, {}]


def test_a_new_one_is_told_everything_after_a_failure_and_when_the_past_is_another() -> None:
    ones: list[Counting] = []

    def make() -> Counting:
        ones.append(Counting())
        return ones[-1]

    sampler = ExternalSampler(spec(), make)
    history = grown(History([LOSS], SPACE), TrialState.COMPLETE)
    sampler.suggest(history, 1)
    ones[0].ask = lambda number, running: {}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="layers is missing"):
        sampler.suggest(grown(history, TrialState.COMPLETE), 2)
    assert sampler.suggest(history, 2)["layers"] == 3
    loaded = grown(History([LOSS], SPACE), TrialState.COMPLETE)  # as after a restart of the operator
    assert sampler.suggest(loaded, 1)["layers"] == 2
    assert [len(one.told) for one in ones] == [2, 2, 1]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({**POINT, "lr": 1.0}, "1.0 is no value of lr"),
        ({**POINT, "layers": 2.5}, "2.5 is no value of layers"),
        ({**POINT, "optimizer": "lion"}, "'lion' is no value of optimizer"),
        ({**POINT, "depth": 1}, "there is no parameter depth"),
        ({"lr": 0.01}, "is missing"),
    ],
)
def test_what_no_trial_can_have_is_not_tried(answer: Params, told: str) -> None:
    one = Counting()
    one.ask = lambda number, running: answer  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="the searcher's answer cannot be a trial") as failed:
        ExternalSampler(spec(), lambda: one).suggest(History([LOSS], SPACE), 0)
    assert told in str(failed.value)


def test_values_are_the_spaces_own_whatever_json_made_of_them() -> None:
    one = Counting()
    one.ask = lambda number, running: {**POINT, "lr": 1e-2, "layers": 3.0}  # type: ignore[method-assign]
    given = ExternalSampler(spec(), lambda: one).suggest(History([LOSS], SPACE), 0)
    assert (given["layers"], type(given["layers"])) == (3, int)


@pytest.mark.parametrize(
    ("settings", "field", "told"),
    [
        ({}, "sampler.settings", "either plugin"),
        ({"plugin": "x", "service": "y"}, "sampler.settings", "give one of them"),
        ({"plugin": "nobody"}, "sampler.settings.plugin", "no searcher 'nobody'"),
        ({"service": "evil.example.com"}, "sampler.settings.service", "a Service of the experiment's namespace"),
        ({"service": "a", "port": 70000}, "sampler.settings.port", "no port"),
        ({"service": "a", "path": "ask"}, "sampler.settings.path", "a path"),
        ({"service": "a", "path": "/x?y@z"}, "sampler.settings.path", "a path"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        samplers.build(spec(sampler=Algorithm("external", settings)))
    assert (refused.value.field, told in refused.value.message) == (field, True)


def test_an_entry_point_is_found_by_name(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[{searcher.GROUP}]\nmiddle = mine_searcher:Middle\n")
    (tmp_path / "mine_searcher.py").write_text(
        "class Middle:\n"
        "    def __init__(self, study):\n"
        "        self.study = study\n"
        "    def tell(self, trials):\n"
        "        pass\n"
        "    def ask(self, number, running):\n"
        "        return {'x': (self.study.parameters['x'].low + self.study.parameters['x'].high) / 2}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made = spec(sampler=Algorithm("external", {"plugin": "middle"}), parameters={"x": Double(0.0, 3.0)})
    assert samplers.build(made).suggest(History([LOSS], made.parameters), 0) == {"x": 1.5}


# ---- over HTTP


class Server:
    """A searcher that remembers what it was told, until it is asked to forget."""

    def __init__(self) -> None:
        self.known: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []
        self.answer: tuple[int, Any] = (200, {"parameters": dict(POINT)})
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.seen.append({**body, "path": self.path})
                code, answer = server.take(body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "http://127.0.0.1:1/ask")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/tpe"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def take(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["first"] > len(self.known):
            return 409, {"known": len(self.known)}
        self.known = [*self.known[: body["first"]], *body["ended"]]
        return self.answer


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def study(made: ExperimentSpec) -> searcher.Study:
    return searcher.Study(made.namespace, made.name, made.uid, 7, made.parameters, made.objectives)


def test_a_server_is_told_what_is_new_and_one_that_forgot_everything(server: Server) -> None:
    one = HttpSearcher(study(spec()), server.address, 5.0)
    for count in range(3):
        one.tell([searcher.Told(count, "COMPLETE", POINT, (0.5,))])
        assert one.ask(10 + count, {9: POINT}) == POINT
    assert [(seen["first"], len(seen["ended"])) for seen in server.seen] == [(0, 1), (1, 1), (2, 1)]
    assert server.seen[0]["path"] == "/tpe/ask"
    assert server.seen[0]["running"] == [{"number": 9, "parameters": POINT}]
    server.known.clear()
    one.ask(13, {})
    assert [told["number"] for told in server.known] == [0, 1, 2]


def test_what_it_is_told_is_plain_json(server: Server) -> None:
    space = {
        "x": Double(0.1, 1.0, log=True),
        "n": Int(1, 9, step=2),
        "kind": Categorical(("a", "b")),
        "size": Categorical(("s", "m", "l"), ordered=True),
        "only": Int(1, 2, when=(("kind", ("a",)),)),
    }
    assert description(study(spec(parameters=space)))["parameters"] == {
        "x": {"kind": "double", "low": 0.1, "high": 1.0, "log": True, "step": None},
        "n": {"kind": "int", "low": 1, "high": 9, "log": False, "step": 2},
        "kind": {"kind": "categorical", "choices": ["a", "b"]},
        "size": {"kind": "categorical", "choices": ["s", "m", "l"], "ordered": True},
        "only": {"kind": "int", "low": 1, "high": 2, "log": False, "step": 1, "when": {"kind": ["a"]}},
    }
    one = HttpSearcher(study(spec()), server.address, 5.0)
    one.tell([searcher.Told(0, "COMPLETE", POINT, (float("inf"),)), searcher.Told(1, "FAIL", POINT, None)])
    one.ask(2, {})
    assert [told["values"] for told in server.known] == [["Infinity"], None]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((500, b"out of memory"), "answers 500: out of memory"),
        ((200, b"<html>"), "no JSON object"),
        ((200, {"params": {}}), "answers 200"),
        ((409, {"known": 7}), "without `known` from 0 to 0"),
        ((302, b""), "answers 302"),
        ((200, b" " * (2 << 20)), "more than"),
    ],
)
def test_an_answer_that_is_none_says_what_came(server: Server, answer: tuple[int, Any], told: str) -> None:
    server.answer = answer
    with pytest.raises((OSError, ValueError)) as failed:
        HttpSearcher(study(spec()), server.address, 5.0).ask(0, {})
    assert told in str(failed.value)


def test_a_server_that_is_not_there(server: Server) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(OSError, match=r"cannot be asked: .*refused"):
        HttpSearcher(study(spec()), server.address, 5.0).ask(0, {})
