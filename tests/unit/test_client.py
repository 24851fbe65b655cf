"""The trials' client against the real gateway over loopback: what it sends, what it bears, what it says."""

import hashlib
import itertools
import json
import math
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import kubetune_trial as kt
from kubetune.api import names
from kubetune.api.trial import Reason
from kubetune.storage import base, memory
from tests import gateway_world
from tests.integration.experiments import Experiment

CLIENT = pathlib.Path(kt.__file__)


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[gateway_world.World]:
    made = gateway_world.World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def storage() -> memory.MemoryStorage:
    made = memory.MemoryStorage(time.time)
    made.acquire("test")
    return made


@pytest.fixture
def experiment(storage: memory.MemoryStorage) -> Experiment:
    made = Experiment(storage)
    made.create(0)
    return made


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has said nothing yet, outside any cluster."""
    for name in [name for name in os.environ if name.startswith("KUBETUNE_")]:
        monkeypatch.delenv(name)
    fresh = kt._Session()
    monkeypatch.setattr(kt, "_session", fresh)
    yield
    fresh._hang_up()


@pytest.fixture
def token_file(world: gateway_world.World, experiment: Experiment, tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "token"
    path.write_text(world.api.knows(experiment.who(0)))
    return path


@pytest.fixture
def gateway(
    world: gateway_world.World,
    storage: memory.MemoryStorage,
    token_file: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[gateway_world.Running]:
    """The trial's pod: its environment says where the gateway is."""
    with world.gateway(storage) as running:
        for name, value in running.environment(token_file).items():
            monkeypatch.setenv(name, value)
        yield running
        kt._session._hang_up()


def taken(experiment: Experiment) -> list[tuple[int, dict[str, float]]]:
    found = experiment.storage.trial_reports(experiment.namespace, experiment.name, 0)
    return [(report.step, dict(report.metrics)) for report in found]


class Scalar:
    """As numpy and torch have it: not a float, but float() takes it."""

    def __float__(self) -> float:
        return 0.5

    def __index__(self) -> int:
        return 7


# ---- in a cluster


def test_a_report_is_there_when_it_returns(gateway: gateway_world.Running, experiment: Experiment) -> None:
    assert kt.report(3, accuracy=0.9, **{"val/loss": 1}) is False
    assert taken(experiment) == [(3, {"accuracy": 0.9, "val/loss": 1.0})]
    assert kt.report(accuracy=0.8) is False
    assert kt.report(step=9, accuracy=0.7) is False
    assert [step for step, _ in taken(experiment)] == [3, 4, 9]


def test_scalars_of_other_libraries(gateway: gateway_world.Running, experiment: Experiment) -> None:
    kt.report(Scalar(), loss=Scalar())  # type: ignore[arg-type]
    assert taken(experiment) == [(7, {"loss": 0.5})]


def test_what_is_no_number_in_json(gateway: gateway_world.Running, experiment: Experiment) -> None:
    kt.report(0, a=math.nan, b=math.inf, c=-math.inf)
    ((_, metrics),) = taken(experiment)
    assert math.isnan(metrics["a"])
    assert (metrics["b"], metrics["c"]) == (math.inf, -math.inf)


def test_a_gradient_is_there_beside_the_metrics(gateway: gateway_world.Running, experiment: Experiment) -> None:
    kt.report(0, loss=1.0, gradient={"x": Scalar()})
    kt.report(1, loss=0.9, gradient=3)
    assert taken(experiment) == [(0, {"loss": 1.0, "gradient:x": 0.5}), (1, {"loss": 0.9, "gradient": 3.0})]
    with pytest.raises(kt.Refused, match=r"gradient.lr: trial 0 has no such continuous parameter; it has x \(400\)"):
        kt.report(2, loss=1.0, gradient={"lr": 0.1})
    with pytest.raises(ValueError, match="x: nan is no slope"):
        kt.report(2, loss=1.0, gradient={"x": math.nan})


def test_a_stop_is_told_by_the_next_report(gateway: gateway_world.Running, experiment: Experiment) -> None:
    assert not kt.report(0, loss=1)
    experiment.storage.request_stop(experiment.uid, {0: Reason.PRUNED})
    assert kt.report(1, loss=1)
    assert kt.should_stop()


def test_a_stop_is_told_without_a_report(
    gateway: gateway_world.Running, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kt, "ASK_AGAIN", 0.0)
    assert not kt.should_stop()
    experiment.storage.request_stop(experiment.uid, {0: Reason.STOPPED})
    assert kt.should_stop()


def test_should_stop_asks_rarely(gateway: gateway_world.Running, storage: memory.MemoryStorage) -> None:
    calls: list[str] = []
    storage.fault = calls.append
    kt.report(0, loss=1)
    for _ in range(10):
        assert not kt.should_stop()
    assert calls.count("before:look") == 0


def test_an_attempt_that_is_over_is_to_stop_and_sends_no_more(
    gateway: gateway_world.Running, experiment: Experiment
) -> None:
    experiment.storage.new_attempt(experiment.uid, 0, 1, Reason.NODE_LOST, "")
    assert kt.report(0, loss=1)
    assert kt.should_stop()
    kt.finish("complete")
    assert taken(experiment) == []


def test_finish(gateway: gateway_world.Running, experiment: Experiment) -> None:
    kt.finish("failed", "no data")
    finish = experiment.storage.news(experiment.uid, {}).finishes[0]
    assert (finish.status, finish.message) == ("failed", "no data")


def test_a_model_is_told_of_by_a_refit_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(kt._Session, "_tell", lambda self, method, path, body: told.append((method, path, body)))
    (tmp_path / "model").write_bytes(b"weights")
    digest = "sha256:" + hashlib.sha256(b"weights").hexdigest()
    kt.model(str(tmp_path / "model"))
    assert capsys.readouterr().out == f"model: {tmp_path / 'model'} {digest}\n"
    monkeypatch.setenv("KUBETUNE_GATEWAY", "https://gateway")
    kt.model(str(tmp_path / "model"))
    assert told == []
    monkeypatch.setenv("KUBETUNE_PHASE", "refit")
    kt.model(str(tmp_path / "model"))
    kt.model("s3://models/7")
    kt.model("s3://models/7", "etag:00112233")
    assert kt.main(["model", "--digest", "etag:00112233", "s3://models/8"]) == 0
    kt.model(str(tmp_path))
    listed = f"{hashlib.sha256(b'weights').hexdigest()}  model\n"
    assert [body for _, _, body in told] == [
        {"address": str(tmp_path / "model"), "digest": digest},
        {"address": "s3://models/7", "digest": ""},
        {"address": "s3://models/7", "digest": "etag:00112233"},
        {"address": "s3://models/8", "digest": "etag:00112233"},
        {"address": str(tmp_path), "digest": "sha256:" + hashlib.sha256(listed.encode()).hexdigest()},
    ]
    with pytest.raises(ValueError, match="address"):
        kt.model("")


@pytest.mark.parametrize("where", ["before:accept", "after:accept"])
def test_the_database_away_for_a_while(
    gateway: gateway_world.Running, experiment: Experiment, storage: memory.MemoryStorage, where: str
) -> None:
    """The report comes through once, also where its commit was done and only the answer was missing."""
    left = itertools.count(2, -1)

    def fault(at: str) -> None:
        if at == where and next(left) > 0:
            raise base.StorageUnavailable("away")

    storage.fault = fault
    kt.report(0, loss=1)
    assert next(left) < 0
    assert taken(experiment) == [(0, {"loss": 1.0})]


def test_a_connection_that_breaks_after_the_commit(
    world: gateway_world.World,
    storage: memory.MemoryStorage,
    experiment: Experiment,
    token_file: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first answer never arrives; the second try has the same key, so the same sequence number."""
    with world.gateway(storage, secure=False) as running, Cutter(running.served.ports[0]) as cutter:
        monkeypatch.setenv(names.ENV_GATEWAY, f"http://127.0.0.1:{cutter.port}")
        monkeypatch.setenv(names.ENV_TOKEN_FILE, str(token_file))
        kt.report(0, loss=1)
        kt._session._hang_up()
    assert cutter.swallowed == [200]
    assert taken(experiment) == [(0, {"loss": 1.0})]


class Cutter:
    """A proxy that swallows the first answer and breaks the connection; later ones pass."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.swallowed: list[int] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Cutter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        for cut in (True, False):
            near, _ = self._server.accept()
            with near, socket.create_connection(("127.0.0.1", self._to)) as far:
                request = near.recv(65536)
                while b'"key"' not in request:
                    request += near.recv(65536)
                far.sendall(request)
                answer = far.recv(65536)
                if cut:
                    self.swallowed.append(int(answer.split()[1]))
                else:
                    near.sendall(answer)
                    near.recv(1)  # until the client hangs up


def test_the_token_is_read_again_when_it_is_not_taken(
    gateway: gateway_world.Running, experiment: Experiment, token_file: pathlib.Path
) -> None:
    good = token_file.read_text()
    token_file.write_text(gateway_world.token("expired"))
    timer = threading.Timer(0.2, token_file.write_text, [good])
    timer.start()
    kt.report(0, loss=1)
    timer.join()
    assert len(taken(experiment)) == 1


def test_a_token_that_stays_bad_is_refused(gateway: gateway_world.Running, token_file: pathlib.Path) -> None:
    token_file.write_text(gateway_world.token("forged"))
    with pytest.raises(kt.Refused, match="not good for audience") as caught:
        kt.report(0, loss=1)
    assert caught.value.status == 401


def test_a_gateway_that_stays_away(gateway: gateway_world.Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"https://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv(names.ENV_GATEWAY, address)
    monkeypatch.setenv("KUBETUNE_PATIENCE", "0.3")
    with pytest.raises(kt.Unreachable, match="Connection"):
        kt.report(0, loss=1)
    assert kt.should_stop() is False  # nobody says so


def test_another_certificate_authority_is_not_believed(
    gateway: gateway_world.Running, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    other = gateway_world.certificates(tmp_path / "other") / "ca.crt"
    monkeypatch.setenv(names.ENV_GATEWAY_CA, other.read_text())
    monkeypatch.setenv("KUBETUNE_PATIENCE", "0.1")
    with pytest.raises(kt.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        kt.report(0, loss=1)


def test_threads_share_it(gateway: gateway_world.Running, experiment: Experiment) -> None:
    threads = [threading.Thread(target=kt.report, args=(number,), kwargs={"loss": number}) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(step for step, _ in taken(experiment)) == list(range(16))


def test_a_forked_process_opens_a_connection_of_its_own(gateway: gateway_world.Running, experiment: Experiment) -> None:
    """A script that reports, forks as a data loader does, and reports from both."""
    script = (
        "import os, kubetune_trial as kt\n"
        "kt.report(0, loss=0)\n"
        "child = os.fork()\n"
        "kt.report(1 if child else 2, loss=1)\n"
        "if child: os.waitpid(child, 0)\n"
    )
    run(script=script)
    assert sorted(step for step, _ in taken(experiment)) == [0, 1, 2]


# ---- from a shell


def run(*arguments: str, script: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script] if script else [sys.executable, str(CLIENT), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(CLIENT.parent)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_the_command_line(gateway: gateway_world.Running, experiment: Experiment) -> None:
    first = run("report", "--step", "3", "accuracy=0.9", "loss=nan")
    assert (first.returncode, first.stdout) == (0, "")
    experiment.storage.request_stop(experiment.uid, {0: Reason.PRUNED})
    assert run("report", "accuracy=0.9").stdout == "stop\n"
    assert [step for step, _ in taken(experiment)] == [3, 4]
    assert run("finish", "--status", "failed", "--message", "no data").returncode == 0
    assert experiment.storage.news(experiment.uid, {}).finishes[0].message == "no data"


def test_the_command_line_fails_aloud(
    gateway: gateway_world.Running, token_file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'accuracy' is not NAME=NUMBER" in run("report", "accuracy").stderr
    token_file.unlink()
    monkeypatch.setenv("KUBETUNE_PATIENCE", "0.1")
    failed = run("report", "accuracy=1")
    assert failed.returncode == 1
    assert "No such file" in failed.stderr


# ---- on a laptop


def test_outside_a_cluster_reports_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert kt.report(3, accuracy=0.9, loss=math.nan) is False
    assert kt.report(accuracy=1) is False
    assert kt.should_stop() is False
    kt.finish("failed", "no data")
    assert capsys.readouterr().out == "step=3 accuracy=0.9 loss=nan\naccuracy=1.0\nfinished: failed no data\n"
    assert (kt.parameters(), kt.trial(), kt.attempt(), kt.seed()) == ({}, None, None, None)
    assert (kt.fold(), kt.folds(), kt.replicate()) == (0, 1, 0)


def test_what_the_pod_says_of_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"lr": 0.1, "layers": 3, "activation": "relu", "bias": True}
    monkeypatch.setenv(names.ENV_PARAMETERS, json.dumps(params))
    for name, value in ((names.ENV_TRIAL, "17"), (names.ENV_ATTEMPT, "2"), (names.ENV_SEED, "59")):
        monkeypatch.setenv(name, value)
    assert kt.parameters() == params
    assert [type(value) for value in kt.parameters().values()] == [float, int, str, bool]
    assert (kt.trial(), kt.attempt(), kt.seed()) == (17, 2, 59)


def test_what_the_pod_says_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ((names.ENV_FOLD, "3"), (names.ENV_FOLDS, "5"), (names.ENV_REPLICATE, "2")):
        monkeypatch.setenv(name, value)
    assert (kt.fold(), kt.folds(), kt.replicate()) == (3, 5, 2)


@pytest.mark.parametrize("value", ["0.9", b"1", None, [1], object(), 10**400])
def test_a_metric_that_is_no_number_is_an_error_everywhere(value: object) -> None:
    with pytest.raises(TypeError, match=r"loss: .* is not a number"):
        kt.report(0, loss=value)


@pytest.mark.parametrize("step", [1.5, "3", object()])
def test_a_step_that_is_no_whole_number(step: object) -> None:
    with pytest.raises(TypeError, match=r"step: .* is not a whole number"):
        kt.report(step, loss=1)  # type: ignore[arg-type]


def test_a_report_of_nothing_and_a_wrong_end() -> None:
    with pytest.raises(ValueError, match="at least one metric"):
        kt.report(3)
    with pytest.raises(ValueError, match="none of complete, failed, pruned"):
        kt.finish("done")
