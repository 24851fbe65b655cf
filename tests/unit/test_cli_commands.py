"""`kubectl tune` as it is typed, against a small HTTP server with the paths of API server and gateway."""

import http.server
import json
import pathlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from kubetune.api.spec import Algorithm, Double, Int, Parameter
from kubetune.api.trial import TrialState
from kubetune.cli import access, explain, main, watch
from kubetune.cli import logs as trial_logs
from kubetune.engine import check, samplers
from kubetune.engine.history import History, Past
from tests.unit.engine_objects import spec
from tests.unit.test_cli_views import answer, ended, resource

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts:
- {{name: here, context: {{cluster: here, user: me, namespace: team-a}}}}
- {{name: bare, context: {{cluster: here, user: me}}}}
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{token: sesame}}}}]
"""
EXPERIMENTS = "/apis/kubetune.dev/v1alpha1/namespaces/team-a/experiments"
PODS = "/api/v1/namespaces/team-a/pods"
TOKEN = "/api/v1/namespaces/team-a/serviceaccounts/default/token"
PROXY = "/api/v1/namespaces/kubetune/services/https:kubetune-gateway:8443/proxy/v1/experiments/team-a/digits"
Answer = tuple[int, Any]


class World:
    """What the server answers: by ``METHOD path``, an answer or a function of (query, body, headers)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.answers: dict[str, Answer | Callable[[dict[str, str], Any, Any], Answer]] = {
            f"POST {TOKEN}": (201, {"status": {"token": "read-me"}})
        }

    def experiment(self, made: dict[str, Any]) -> None:
        made["metadata"].setdefault("resourceVersion", "7")
        made["metadata"].setdefault("uid", "u-1")
        self.answers[f"GET {EXPERIMENTS}/digits"] = (200, made)
        self.answers[f"GET {EXPERIMENTS}"] = (200, {"items": [made], "metadata": {}})

    def trials(self, *trials: dict[str, Any]) -> None:
        def page(query: dict[str, str], body: Any, headers: Any) -> Answer:
            if headers["X-Kubetune-Token"] != "read-me":
                return 401, {"error": "no token"}
            wanted = [one for one in trials if query.get("state") in (None, one["state"])]
            offset, limit = int(query["offset"]), int(query["limit"])
            return 200, {"study": "s", "counts": {}, "trials": wanted[offset : offset + limit]}

        def record(query: dict[str, str], body: Any, headers: Any) -> Answer:
            offset, limit = int(query["offset"]), int(query["limit"])
            return 200, {"trials": trials[offset : offset + limit]}

        self.answers[f"GET {PROXY}/trials"] = page
        self.answers[f"GET {PROXY}/record"] = record
        study = {"uid": "u-1", "study": "s", "created": 0.0, "ended": None, "steering": [], "warm": []}
        self.answers[f"GET {PROXY}/history"] = (200, study)

    def answer(self, method: str, address: str, body: Any, headers: Any) -> Answer:
        path, _, query = address.partition("?")
        self.seen.append((f"{method} {path}", body))
        given = self.answers.get(f"{method} {urllib.parse.unquote(path)}", status(404, "NotFound", "not found"))
        return given(dict(urllib.parse.parse_qsl(query)), body, headers) if callable(given) else given


def status(code: int, reason: str, message: str) -> Answer:
    """An error of the API server itself."""
    return code, {"kind": "Status", "reason": reason, "message": message, "code": code}


@pytest.fixture
def world(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, body = world.answer(self.command, self.path, json.loads(raw) if raw else None, self.headers)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _serve  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.format(port=server.server_address[1]))
    monkeypatch.setenv("TEST_KUBECONFIG", str(path))
    monkeypatch.delenv(main.ENV_GATEWAY, raising=False)
    for pause in ("INTERVAL", "PLAIN_INTERVAL"):
        monkeypatch.setattr(watch, pause, 0.0)
    yield world
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def tune(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        code = main.main([*words, "--kubeconfig", str(tmp_path / "kubeconfig")])
        out, err = capsys.readouterr()
        return code, out, err

    return run


Tune = Callable[..., tuple[int, str, str]]


# reading


def test_get_lists_the_experiments_of_the_contexts_namespace(world: World, tune: Tune) -> None:
    world.experiment(resource())
    code, out, _ = tune("get")
    assert code == 0
    assert out.splitlines()[0].split() == ["NAME", "STATE", "BEST", "FINISHED", "ACTIVE", "AGE"]
    assert out.splitlines()[1].split()[:5] == ["digits", "Running", "0.9722", "19/40", "4"]


@pytest.mark.parametrize(
    ("words", "namespace"),
    [
        (["get"], "team-a"),
        (["get", "-n", "other"], "other"),
        (["-n", "other", "get"], "other"),
        (["get", "--context", "bare"], "default"),
    ],
)
def test_the_namespace_is_the_flags_then_the_contexts_then_default(
    world: World, tune: Tune, words: list[str], namespace: str
) -> None:
    path = f"/apis/kubetune.dev/v1alpha1/namespaces/{namespace}/experiments"
    world.answers[f"GET {path}"] = (200, {"items": [], "metadata": {}})
    code, out, err = tune(*words)
    assert (code, out) == (0, "")
    assert f"no experiments in namespace {namespace}" in err


def test_trials_are_read_page_by_page_with_a_token_of_the_namespace(world: World, tune: Tune) -> None:
    world.experiment(resource())
    world.trials(*(answer(number) for number in range(1203)))
    code, out, _ = tune("trials", "digits", "-o", "json")
    assert code == 0
    assert [trial["number"] for trial in json.loads(out)] == list(range(1203))
    asked = [body for path, body in world.seen if path == f"POST {TOKEN}"]
    assert [body["spec"]["audiences"] for body in asked] == [["kubetune-read"]]


def test_trials_by_state_sorted_and_limited(world: World, tune: Tune) -> None:
    world.experiment(resource())
    world.trials(answer(0, value=0.5), answer(1, "FAIL", None), answer(2, value=0.9), answer(3, value=0.7))
    _, out, _ = tune("trials", "digits", "--state", "complete", "--sort", "value", "--limit", "2", "-o", "csv")
    assert [line.split(",")[0] for line in out.splitlines()] == ["number", "2", "3"]


@pytest.mark.parametrize(("state", "numbers"), [("running", [0]), ("paused", [1]), ("complete", [2])])
def test_a_trial_that_waits_at_a_rung_is_paused_and_not_running(
    world: World, tune: Tune, state: str, numbers: list[int]
) -> None:
    world.experiment(resource())
    world.trials(answer(0, "RUNNING"), answer(1, "RUNNING", paused=True, leg=1), answer(2))
    _, out, _ = tune("trials", "digits", "--state", state, "-o", "json")
    assert [trial["number"] for trial in json.loads(out)] == numbers


def test_a_token_that_is_no_longer_taken_is_asked_for_once_more(world: World, tune: Tune) -> None:
    tokens = iter(["stale", "read-me"])
    world.experiment(resource())
    world.trials(answer(0))
    world.answers[f"POST {TOKEN}"] = lambda query, body, headers: (201, {"status": {"token": next(tokens)}})
    code, out, _ = tune("trials", "digits")
    assert code == 0
    assert "COMPLETE" in out


def test_best_ready_to_paste(world: World, tune: Tune) -> None:
    world.experiment(ended())
    given = "--lr=0.00123456 --layers=2 --batch=64.5 --activation=relu --nesterov=true"
    assert tune("best", "digits", "-o", "args") == (0, given + "\n", "")
    assert json.loads(tune("best", "digits", "-o", "json")[1])["trial"] == 12
    assert tune("best", "digits", "-o", "env")[1].splitlines()[1] == "layers=2"


def test_best_before_there_is_one(world: World, tune: Tune) -> None:
    made = resource()
    del made["status"]["best"]
    world.experiment(made)
    code, out, err = tune("best", "digits")
    assert (code, out) == (1, "")
    assert "no complete trial yet" in err


# logs


def pod(attempt: int, **state: Any) -> dict[str, Any]:
    statuses = [{"name": "trial", "state": state}] if state else []
    metadata = {"name": f"digits-4-{attempt}", "labels": {"kubetune.dev/attempt": str(attempt)}}
    return {"metadata": metadata, "status": {"phase": "Pending", "containerStatuses": statuses}}


def test_the_log_comes_from_the_latest_attempts_pod_while_it_is_there(world: World, tune: Tune) -> None:
    world.experiment(resource())
    world.answers[f"GET {PODS}"] = (200, {"items": [pod(2, running={}), pod(1, terminated={})], "metadata": {}})
    log = "2026-01-01T00:00:00.1Z epoch 1\n2026-01-01T00:00:01.1Z epoch 2"
    world.answers[f"GET {PODS}/digits-4-2/log"] = (200, log)
    assert tune("logs", "digits", "4") == (0, "epoch 1\nepoch 2\n", "")


def test_the_log_of_a_pod_that_is_gone_is_what_was_kept(world: World, tune: Tune) -> None:
    world.experiment(ended())
    world.answers[f"GET {PODS}"] = (200, {"items": [], "metadata": {}})
    world.answers[f"GET {PROXY}/trials/4/log"] = (200, {"log": "epoch 30"})
    code, out, err = tune("logs", "digits", "4")
    assert (code, out) == (0, "epoch 30\n")
    assert "gone" in err


def test_no_log_at_all_says_of_which_trials_it_is_kept(world: World, tune: Tune) -> None:
    world.experiment(ended())
    world.answers[f"GET {PODS}"] = (200, {"items": [], "metadata": {}})
    world.answers[f"GET {PROXY}/trials/4/log"] = (200, {"log": None})
    code, out, err = tune("logs", "digits", "4")
    assert (code, out) == (1, "")
    assert "failed and pruned trials and of the best" in err


def in_worker(world: World, lines: str, *, found: bool = True, **kept: Any) -> None:
    """Trial 4 has no pod of its own, but worker 2 (its third incarnation) has this log."""

    def pods(query: dict[str, str], body: Any, headers: Any) -> Answer:
        of_worker = "kubetune.dev/worker=2,kubetune.dev/incarnation=3" in query["labelSelector"]
        state = {"name": "trial", "state": {"running": {}}}
        worker = {"metadata": {"name": "digits-w2-3"}, "status": {"phase": "Running", "containerStatuses": [state]}}
        return 200, {"items": [worker] if of_worker and found else [], "metadata": {}}

    world.answers[f"GET {PODS}"] = pods
    place = {"attempt": 2, "running": False, "started": 1e9, "worker": {"number": 2, "incarnation": 3}}
    world.answers[f"GET {PROXY}/trials/4/log"] = (200, {"log": None, **place, **kept})
    world.answers[f"GET {PODS}/digits-w2-3/log"] = (200, lines)


WORKER_LOG = "".join(
    f"2026-01-01T00:00:0{n}.1Z {line}\n"
    for n, line in enumerate(
        ["[4/1] lost", "[3/2] other", "[4/2] epoch 1", "[44/2] another", "[4/2] ", "[4/2]  epoch 2"]
    )
)


def test_a_trial_in_a_worker_has_its_lines_of_the_workers_log(world: World, tune: Tune) -> None:
    world.experiment(resource())
    in_worker(world, WORKER_LOG)
    assert tune("logs", "digits", "4") == (0, "epoch 1\n\n epoch 2\n", "")


def test_followed_it_ends_with_the_trial(world: World, tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_logs, "INTERVAL", 0.01)
    world.experiment(resource())
    in_worker(world, WORKER_LOG, running=True)
    assert tune("logs", "digits", "4", "-f") == (0, "epoch 1\n\n epoch 2\n", "")


def test_followed_it_waits_for_a_worker(world: World, tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_logs, "INTERVAL", 0.01)
    world.experiment(resource())
    in_worker(world, WORKER_LOG, running=True)
    leased = world.answers[f"GET {PROXY}/trials/4/log"]
    assert isinstance(leased, tuple)
    asked = 0

    def later(query: dict[str, str], body: Any, headers: Any) -> Answer:
        nonlocal asked
        asked += 1
        return leased if asked > 3 else (200, {**leased[1], "worker": None})

    world.answers[f"GET {PROXY}/trials/4/log"] = later
    assert tune("logs", "digits", "4", "-f") == (0, "epoch 1\n\n epoch 2\n", "")


@pytest.mark.parametrize(("lines", "found"), [("2026-01-01T00:00:00.1Z [5/1] other", True), ("", False)])
def test_what_the_worker_has_no_more_is_what_was_kept(world: World, tune: Tune, lines: str, found: bool) -> None:
    world.experiment(resource())
    in_worker(world, lines, found=found, log="epoch 30")
    assert tune("logs", "digits", "4")[:2] == (0, "epoch 30\n")


def test_a_pod_that_waits_says_for_what(world: World, tune: Tune) -> None:
    world.experiment(resource())
    waits = pod(1, waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    world.answers[f"GET {PODS}"] = (200, {"items": [waits], "metadata": {}})
    code, _, err = tune("logs", "digits", "4")
    assert code == 1
    assert "ImagePullBackOff no such image" in err


# writing


def test_stop_merges_under_the_resource_version_and_again_after_a_conflict(world: World, tune: Tune) -> None:
    world.experiment(resource())
    patches: list[Any] = []

    def patch(query: dict[str, str], body: Any, headers: Any) -> Answer:
        patches.append(body)
        if len(patches) == 1:  # someone else stopped trial 9 in between
            made = resource({"stopTrials": [3, 9]})
            made["metadata"]["resourceVersion"] = "8"
            world.experiment(made)
            return status(409, "Conflict", "the object has been modified")
        return 200, resource()

    world.answers[f"PATCH {EXPERIMENTS}/digits"] = patch
    code, out, _ = tune("stop", "digits", "17", "4")
    assert code == 0
    assert "trials 17, 4" in out
    assert patches == [
        {"metadata": {"resourceVersion": "7"}, "spec": {"stopTrials": [3, 4, 17]}},
        {"metadata": {"resourceVersion": "8"}, "spec": {"stopTrials": [3, 4, 9, 17]}},
    ]


def test_enqueue_adds_a_set_with_the_types_that_its_parameters_have(world: World, tune: Tune) -> None:
    forms = {
        "lr": {"double": [0.001, 0.1]},
        "layers": {"int": [1, 4]},
        "batch": {"values": [16, 32.5]},
        "nesterov": {"bool": {}},
        "act": {"choice": ["relu", "2"]},
    }
    mine = {"name": "mine", "parameters": {"lr": 0.02}}
    world.experiment(resource({"parameters": forms, "enqueue": [mine]}))
    world.answers[f"PATCH {EXPERIMENTS}/digits"] = (200, resource())
    code, out, _ = tune("enqueue", "digits", "lr=1e-2", "layers=3", "batch=16", "nesterov=true", "act=2", "--name", "b")
    assert code == 0
    assert "b of digits is tried next" in out
    assert tune("enqueue", "digits", "--name=mine", "lr=0.02")[0] == 0  # is there
    assert tune("enqueue", "digits", "lr=0.02")[0] == 0  # a name of its own
    first, second = (body["spec"]["enqueue"] for path, body in world.seen if path.startswith("PATCH"))
    params = {"lr": 0.01, "layers": 3, "batch": 16, "nesterov": True, "act": "2"}
    assert first == [mine, {"name": "b", "parameters": params}]
    assert [type(value) for value in first[1]["parameters"].values()] == [float, int, int, bool, str]
    assert second[1]["parameters"] == {"lr": 0.02}
    assert second[1]["name"] not in ("mine", "b")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lr"], "'lr' is no parameter with its value; write for example lr=0.01"),
        (["lr=1", "lr=2"], "lr is there twice"),
        (["rate=1"], "digits.rate: there is no such parameter; there are lr"),
        (["lr=high"], "digits.lr: 'high' is no value of it, which is 0.001 to 0.1"),
        (["lr=7"], "digits.lr: 7 is no value of it"),
        (["lr=0.05", "--name", "mine"], "digits has a set named mine with other values; choose another name"),
    ],
)
def test_enqueue_says_what_cannot_be_tried(world: World, tune: Tune, words: list[str], said: str) -> None:
    spec = {"parameters": {"lr": {"double": [0.001, 0.1]}}, "enqueue": [{"name": "mine", "parameters": {"lr": 0.02}}]}
    world.experiment(resource(spec))
    code, _, err = tune("enqueue", "digits", *words)
    assert code == 1
    assert said in err
    assert not [path for path, _ in world.seen if path.startswith("PATCH")]


def test_narrow_writes_ranges_and_takes_them_back(world: World, tune: Tune) -> None:
    forms = {"lr": {"double": [0.001, 0.1]}, "act": {"choice": ["relu", "tanh"]}, "nesterov": {"bool": {}}}
    world.experiment(resource({"parameters": forms, "narrow": {"lr": {"min": 0.01}}}))
    world.answers[f"PATCH {EXPERIMENTS}/digits"] = (200, resource())
    assert tune("narrow", "digits", "lr=..0.05", "act=tanh", "nesterov=true")[0] == 0
    assert tune("narrow", "digits", "lr=")[0] == 0
    code, out, _ = tune("narrow", "digits")
    assert code == 0
    assert "the whole declared space" in out
    assert [body["spec"]["narrow"] for path, body in world.seen if path.startswith("PATCH")] == [
        {"lr": {"min": None, "max": 0.05}, "act": {"choice": ["tanh"]}, "nesterov": {"bool": True}},
        {"lr": None},
        None,
    ]
    for word, said in (
        ("lr=0.02", "'0.02' is no range"),
        ("lr=0.2..", "narrow.lr.min: 0.2 is outside of what is declared"),
    ):
        code, _, err = tune("narrow", "digits", word)
        assert code == 1
        assert said in err


def test_suspending_twice_writes_once(world: World, tune: Tune) -> None:
    world.experiment(resource())
    world.answers[f"PATCH {EXPERIMENTS}/digits"] = (200, resource({"suspend": True}))
    assert tune("suspend", "digits")[0] == 0
    world.experiment(resource({"suspend": True}))
    assert tune("suspend", "digits")[0] == 0
    assert [body["spec"] for path, body in world.seen if path.startswith("PATCH")] == [{"suspend": True}]


# watching


def course(world: World, *moments: Any) -> None:
    """The experiment as each look finds it; the last one for ever."""
    left = list(moments)

    def look(query: dict[str, str], body: Any, headers: Any) -> Answer:
        made = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(made, tuple):
            return made
        made["metadata"].setdefault("uid", "u-1")
        return 200, made

    world.answers[f"GET {EXPERIMENTS}/digits"] = look


@pytest.mark.parametrize(("state", "code"), [("Complete", 0), ("Failed", 1), ("Invalid", 1)])
def test_watch_ends_with_the_experiment_and_its_exit_code(world: World, tune: Tune, state: str, code: int) -> None:
    course(world, resource(), resource(), resource(counts={"total": 23, "complete": 20}), ended(state))
    world.trials(answer(0), answer(1, "RUNNING", None))
    got, out, _ = tune("watch", "digits")
    lines = [line.split(" ", 1)[-1] for line in out.splitlines() if " · " in line]
    assert got == code
    assert [line.split(" · ")[1] for line in lines] == ["19/40 finished", "20/40 finished", "19/40 finished"]
    assert f"\n{state}: all done\n" in out


def test_watch_goes_on_over_an_api_server_that_is_away_for_a_moment(world: World, tune: Tune) -> None:
    course(world, resource(), status(503, "ServiceUnavailable", "starting"), ended())
    world.trials(answer(0))
    code, out, _ = tune("watch", "digits")
    assert code == 0
    assert "! cannot get experiment digits: the API server does not answer" in out


def test_watch_without_the_right_to_read_trials_shows_the_status(world: World, tune: Tune) -> None:
    course(world, resource(), resource(counts={"total": 23, "complete": 20}), ended())
    world.answers[f"POST {TOKEN}"] = status(403, "Forbidden", "may not create serviceaccounts/token")
    code, out, _ = tune("watch", "digits")
    assert code == 0
    assert "! no right to read the trials of namespace team-a" in out
    assert len([path for path, _ in world.seen if path == f"POST {TOKEN}"]) == 1


def test_watch_reads_no_trial_again_that_has_ended(world: World, tune: Tune) -> None:
    course(world, resource(), resource(), ended())
    offsets: list[str] = []

    def page(query: dict[str, str], body: Any, headers: Any) -> Answer:
        offsets.append(query["offset"])
        rows = [answer(0), answer(1), answer(2, "RUNNING", None), answer(3)]
        return 200, {"trials": rows[int(query["offset"]) :]}

    world.answers[f"GET {PROXY}/trials"] = page
    assert tune("watch", "digits")[0] == 0
    assert offsets == ["0", "2", "2"]


def test_watch_of_an_experiment_that_is_deleted_ends(world: World, tune: Tune) -> None:
    course(world, resource(), status(404, "NotFound", "gone"))
    world.trials(answer(0))
    world.answers[f"GET {EXPERIMENTS}"] = (200, {"items": [], "metadata": {}})
    code, _, err = tune("watch", "digits")
    assert code == 1
    assert "no experiment digits in namespace team-a" in err


# errors


def test_an_unknown_name_lists_those_that_are_there(world: World, tune: Tune) -> None:
    world.experiment(resource())
    code, out, err = tune("get", "digist")
    assert (code, out) == (1, "")
    assert err == "kubectl tune: no experiment digist in namespace team-a; did you mean digits?\nthere: digits\n"


def test_a_cluster_without_kubetune_says_so(world: World, tune: Tune) -> None:
    code, _, err = tune("get")
    assert code == 1
    assert "not installed here" in err


@pytest.mark.parametrize(
    ("request_", "answered", "told"),
    [
        (f"POST {TOKEN}", status(403, "Forbidden", "no"), "`create` on serviceaccounts/token"),
        (f"POST {TOKEN}", status(404, "NotFound", "no"), "--service-account"),
        (f"GET {PROXY}/trials", status(403, "Forbidden", "no"), "`get` on services/proxy"),
        (f"GET {PROXY}/trials", status(404, "NotFound", "no service"), "KUBETUNE_GATEWAY_SERVICE"),
        (f"GET {PROXY}/trials", status(503, "ServiceUnavailable", "no endpoints"), "component=gateway"),
        (f"GET {PROXY}/trials", (503, {"error": "database away"}), "database away"),
        (f"GET {PROXY}/trials", (401, {"error": "expired"}), "did not take our token: expired"),
        (f"GET {PROXY}/trials", (404, {"error": "no study"}), "the gateway says: no study"),
        (f"GET {PROXY}/trials", (200, "<html>"), "does not speak as kubetune's gateway does"),
    ],
)
def test_what_stands_between_a_person_and_the_trials(
    world: World, tune: Tune, request_: str, answered: Answer, told: str
) -> None:
    world.experiment(resource())
    world.trials(answer(0))
    world.answers[request_] = answered
    code, out, err = tune("trials", "digits")
    assert (code, out) == (1, "")
    assert told in err


def test_no_cluster_at_all(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["get", "--kubeconfig", str(tmp_path / "none")]) == 1
    assert "no credentials for the API server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "namespace", "service"),
    [
        ("tuning/gw", "tuning", "https:gw:8443"),
        ("tuning/gw:9000", "tuning", "https:gw:9000"),
        ("http://tuning/gw:http", "tuning", "http:gw:http"),
    ],
)
def test_the_gateway_may_be_elsewhere(given: str, namespace: str, service: str) -> None:
    gateway = access.Gateway.parse(given)
    assert (gateway.namespace, gateway.service) == (namespace, service)


@pytest.mark.parametrize("given", ["", "gw", "a/b/c", "ftp://a/b", "A/b"])
def test_a_gateway_that_cannot_be_one(given: str) -> None:
    with pytest.raises(explain.Problem, match="NAMESPACE/SERVICE"):
        access.Gateway.parse(given)


@pytest.mark.parametrize("words", [["trials"], ["logs", "digits", "best"], ["stop", "digits", "-1"], ["nothing"], []])
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended_with:
        main.main(words)
    assert ended_with.value.code == 2
    assert capsys.readouterr().err


# what it says about the search


def _search(world: World, count: int) -> None:
    """``count`` complete trials, the better the lower lr is."""
    status: dict[str, Any] = {
        "importances": [{"parameter": "lr", "share": 0.9, "effect": "0.1 → 0.0001: accuracy +0.05"}],
        "counts": {"total": count, "complete": count},
    }
    world.experiment(ended(**status))
    values = {"batch": 32, "activation": "relu", "nesterov": True}
    world.trials(
        *(
            answer(number, value=-lr, parameters={**values, "lr": lr, "layers": 1 + number % 4, "batch": 32})
            for number, lr in enumerate(10 ** (-4 + 3 * place / count) for place in range(count))
        )
    )


def test_importance_of_every_parameter_the_largest_first(world: World, tune: Tune) -> None:
    _search(world, 60)
    code, out, _ = tune("importance", "digits")
    assert code == 0
    head, columns, first, *rest = out.splitlines()
    assert "60 complete trials" in head
    assert columns.split() == ["PARAMETER", "SHARE", "FROM", "WORST", "TO", "BEST"]
    assert first.startswith("lr ")
    assert "█" in first
    assert "→ 0.0001" in first
    assert ": accuracy +0.0" in first
    assert len(rest) == 4
    _, out, _ = tune("importance", "digits", "-o", "json")
    shares = json.loads(out)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=shares.get) == "lr"


def test_importance_of_pairs(world: World, tune: Tune) -> None:
    pytest.importorskip("sklearn")
    _search(world, 60)
    _, out, _ = tune("importance", "digits", "--interactions")
    assert "no two parameters explain 3 % of the variance" in out
    _, out, _ = tune("importance", "digits", "--interactions", "-o", "json")
    found = json.loads(out)
    assert found.keys() == {"importances", "effects", "interactions"}
    assert all(0 <= pair["share"] < 0.03 for pair in found["interactions"])


@pytest.mark.parametrize(
    ("trials", "words", "told"),
    [
        (3, [], "3 trials complete so far"),
        (20, ["--metric", "loss"], "loss is no objective; there are accuracy"),
    ],
)
def test_importance_that_cannot_be_told(world: World, tune: Tune, trials: int, words: list[str], told: str) -> None:
    _search(world, trials)
    code, _, err = tune("importance", "digits", *words)
    assert (code, told in err) == (1, True)


def _population(world: World) -> None:
    """Two members: trial 3 goes on from 1, which goes on from 0."""
    sampler = {"name": "pbt", "settings": {"populationSize": 2}}
    world.experiment(resource(spec={"sampler": sampler}))
    parents = (None, 0, None, 1)
    world.trials(
        *(
            {
                **answer(number, value=0.5 + number / 10, parameters={"lr": 0.1 / 2 ** min(number, 2), "layers": 2}),
                "parent": parent,
                "member": number % 2,
                "lastStep": 4 + 5 * min(number, 2),
            }
            for number, parent in enumerate(parents)
        )
    )


def test_a_schedule_is_the_trial_and_all_that_it_went_on_from(world: World, tune: Tune) -> None:
    _population(world)
    code, out, _ = tune("schedule", "digits", "3")
    assert code == 0
    assert [line.split()[:5] for line in out.splitlines()[2:]] == [
        ["0", "0", "to", "4", "0.5"],
        ["1", "1", "5", "to", "9"],
        ["3", "1", "10", "to", "14"],
    ]
    _, out, _ = tune("schedule", "digits", "3", "-o", "json")
    found = json.loads(out)
    assert (found["trial"], found["metric"]) == (3, "accuracy")
    segments = [(one["trial"], one["parent"], one["after"], one["to"]) for one in found["segments"]]
    assert segments == [(0, None, None, 4), (1, 0, 4, 9), (3, 1, 9, 14)]
    _, out, _ = tune("trials", "digits")
    assert out.split()[:3] == ["TRIAL", "PARENT", "STATE"]
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["-", "0", "-", "1"]
    _, out, _ = tune("trials", "digits", "-o", "csv")
    assert out.splitlines()[0].split(",")[9:11] == ["parent", "member"]


def test_a_schedule_written_as_a_sampler_trains_it_again(world: World, tune: Tune) -> None:
    _population(world)
    _, out, _ = tune("schedule", "digits", "3", "-o", "sampler")
    written = yaml.safe_load(out)
    parameters: dict[str, Parameter] = {"lr": Double(0.0, 1.0), "layers": Int(1, 4)}
    made = spec(parameters=parameters, sampler=Algorithm(**written["sampler"]), parallelism=1)
    check.check(made)
    sampler, history = samplers.build(made), History(made.objectives, parameters)
    for number, lr in enumerate((0.1, 0.05, 0.025)):
        assert sampler.suggest(history, number) == {"lr": lr, "layers": 2}
        history.add(Past(number, TrialState.COMPLETE, {"lr": lr, "layers": 2}, (1.0,), ended=float(number), member=0))


def test_a_schedule_that_is_not_there(world: World, tune: Tune) -> None:
    _population(world)
    code, _, err = tune("schedule", "digits", "9")
    assert (code, "there is no trial 9" in err) == (1, True)


def test_export_is_the_whole_experiment_in_each_form(world: World, tune: Tune) -> None:
    _search(world, 30)
    _, out, _ = tune("export", "digits")
    record = json.loads(out)
    assert (record["spec"]["maxTrials"], len(record["trials"])) == (40, 30)
    assert record["trials"][7]["parameters"]["layers"] == 4
    assert "resourceVersion" not in record["metadata"]
    _, out, _ = tune("export", "digits", "-o", "csv")
    assert out == tune("trials", "digits", "-o", "csv")[1]
    _, out, _ = tune("export", "digits", "-o", "md")
    assert out.startswith("# team-a/digits\n")
    assert "## The best 20 of 30 trials" in out
    assert "| lr | 90 % | 0.1 → 0.0001: accuracy +0.05 |" in out


@pytest.mark.parametrize(
    ("uid", "whose"), [("u", "trial 3 of old-task"), ("u/refit", "the refit of old-task")], ids=["trial", "refit"]
)
def test_the_report_says_what_every_trial_started_from(world: World, tune: Tune, uid: str, whose: str) -> None:
    _search(world, 3)
    answered = world.answers[f"GET {PROXY}/history"]
    assert isinstance(answered, tuple)
    taken = {"experiment": "old-task", "uid": uid, "trial": 3, "step": 19, "digest": "9f86d0"}
    world.answers[f"GET {PROXY}/history"] = (200, {**answered[1], "initCheckpoint": taken})
    _, out, _ = tune("export", "digits", "-o", "md")
    assert f"- Every trial started from step 19 of {whose}, digest `9f86d0`." in out


def test_the_report_has_what_came_after_the_search(world: World, tune: Tune) -> None:
    test = {"name": "test", "value": 0.9611, "time": "2026-11-21T20:00:00Z"}
    world.experiment(ended(model={"version": 1, "address": "s3://models/digits"}, test=test))
    world.trials(answer(0))
    _, out, _ = tune("export", "digits", "-o", "md")
    assert "| model | version 1: s3://models/digits |" in out
    assert "| test set | 0.9611, scored as test at 2026-11-21T20:00:00Z |" in out


# what failed after the search


def failed_after(world: World, phase: str, spec: dict[str, Any], **more: Any) -> list[Any]:
    """An experiment whose phase has failed; the patches of it."""
    made = ended(
        "Failed", reason="PhaseFailed", phase={"name": phase, "finished": 1, "total": 1, "failed": True}, **more
    )
    made["spec"] |= spec
    world.experiment(made)
    patches: list[Any] = []

    def patch(query: dict[str, str], body: Any, headers: Any) -> Answer:
        patches.append(body["spec"])
        spec = {**made["spec"], **{kind: {**made["spec"][kind], **form} for kind, form in body["spec"].items()}}
        return 200, {**made, "spec": spec}

    world.answers[f"PATCH {EXPERIMENTS}/digits"] = patch
    return patches


@pytest.mark.parametrize(
    ("phase", "name", "again"),
    [
        ("refit", None, "retry-1"),
        ("refit.retry-1", "retry-1", "retry-2"),
        ("finalists.mended", "mended", "mended-retry-1"),
        ("test.mended-retry-9", "mended-retry-9", "mended-retry-10"),
    ],
)
def test_retry_gives_what_failed_another_name(
    world: World, tune: Tune, phase: str, name: str | None, again: str
) -> None:
    kind = phase.partition(".")[0]
    patches = failed_after(world, phase, {kind: {} if name is None else {"name": name}})
    code, out, _ = tune("retry", "digits", "--phase", kind)
    assert code == 0
    assert patches == [{kind: {"name": again}}]
    assert f"{kind}.{again} of digits is run" in out


def test_retry_of_what_is_asked_again_already_changes_nothing(world: World, tune: Tune) -> None:
    patches = failed_after(world, "refit", {"refit": {"name": "mended"}})
    assert tune("retry", "digits")[0] == 0
    assert patches == []


def test_retry_says_what_it_does_not_do(world: World, tune: Tune) -> None:
    world.experiment(resource())
    assert "nothing that comes after the search of digits has failed" in tune("retry", "digits")[2]
    patches = failed_after(world, "refit", {"refit": {}})
    assert "test of digits has not failed, but refit has" in tune("retry", "digits", "--phase", "test")[2]
    looked = {"name": "test", "time": "2026-11-21T20:00:00Z", "message": "no score", "seen": True}
    failed_after(world, "test", {"test": {}}, test=looked, scorings=[looked])
    code, _, err = tune("retry", "digits")
    assert code == 1
    assert "kubectl tune test digits --again second-look" in err
    failed_after(world, "refit", {})
    assert "has no spec.refit any more" in tune("retry", "digits")[2]
    assert patches == []


MODELS = PROXY.replace("/experiments/team-a/digits", "/models/team-a")


def test_models_are_listed_with_their_scores(world: World, tune: Tune) -> None:
    model = {
        "experiment": "digits",
        "version": 1,
        "address": "/models/digits.pickle",
        "digest": "sha256:" + 64 * "9",
        "image": "digits:1",
        "parameters": {"lr": 0.0031, "layers": 2},
        "phase": "refit",
        "time": 1800000000.0,
        "scores": [{"name": "test", "value": 0.9611, "time": 1.0}, {"name": "test.b", "value": "nan", "time": 2.0}],
    }
    second = {**model, "version": 2, "digest": "", "scores": []}
    world.experiment(resource())
    world.answers[f"GET {MODELS}"] = (200, {"models": [model, second]})
    code, out, _ = tune("models", "digits")
    assert code == 0
    head, first, last = out.splitlines()
    assert head.split() == ["EXPERIMENT", "VERSION", "TEST", "MADE", "ADDRESS", "DIGEST", "PARAMETERS"]
    assert "0.9611, nan" in first
    assert "2027-01-15 08:00" in first
    assert "sha256:99999999999…" in first
    assert last.split()[1:3] == ["2", "-"]
    assert tune("models", "-o", "json")[1] == json.dumps([model, second], indent=2) + "\n"
    world.answers[f"GET {MODELS}"] = (200, {"models": []})
    assert "spec.refit makes one" in tune("models")[2]


def test_watch_does_not_take_the_end_before_an_edit_for_the_end(world: World, tune: Tune) -> None:
    """`retry && watch`: the status is that of the spec before for a moment."""
    stale = ended("Failed", observedGeneration=1)
    stale["metadata"] |= {"generation": 2, "uid": "u-1", "resourceVersion": "7"}
    mended = ended("Complete", observedGeneration=2)
    mended["metadata"] |= {"generation": 2, "uid": "u-1", "resourceVersion": "8"}
    looks = iter([stale, stale])
    world.experiment(stale)
    world.trials()
    world.answers[f"GET {EXPERIMENTS}/digits"] = lambda query, body, headers: (200, next(looks, mended))
    assert tune("watch", "digits")[0] == 0
    refused = {"type": "Invalid", "status": "True", "observedGeneration": 3, "message": "no such field"}
    last = ended("Failed", observedGeneration=2, conditions=[refused])
    last["metadata"] |= {"generation": 3, "uid": "u-1"}
    world.experiment(last)
    assert tune("watch", "digits")[0] == 1
