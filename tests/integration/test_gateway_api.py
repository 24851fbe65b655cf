"""The gateway's HTTP interface, as docs/gateway-api.md says it, over real loopback TLS."""

import asyncio
import dataclasses
import json
import pathlib
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from kubetune.api import names
from kubetune.api.trial import Ending, Reason, TrialState
from kubetune.gateway import certificate
from kubetune.storage import base, memory
from kubetune.storage.base import Steer
from tests import gateway_world
from tests.integration.experiments import Experiment


class Faults:
    """What the database does wrong, by name of the method."""

    def __init__(self) -> None:
        self.wrong: dict[str, Exception] = {}
        self.calls: list[str] = []

    def __call__(self, where: str) -> None:
        self.calls.append(where)
        if where in self.wrong:
            raise self.wrong[where]


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def experiment(faults: Faults) -> Experiment:
    """Trials 0 and 1 run; the Job of trial 2 is not recorded yet."""
    storage = memory.MemoryStorage(time.time, fault=faults)
    storage.acquire("test")
    made = Experiment(storage)
    made.create(0, 1)
    made.create(2, recorded=False)
    return made


@pytest.fixture
def gateway(world: gateway_world.World, experiment: Experiment) -> Iterator[gateway_world.Running]:
    with world.gateway(experiment.storage) as running:
        yield running


@pytest.fixture
def token(world: gateway_world.World, experiment: Experiment) -> str:
    """Trial 0's."""
    return world.api.knows(experiment.who(0))


def reports(experiment: Experiment, number: int = 0) -> list[tuple[int, int, dict[str, float]]]:
    found = experiment.storage.trial_reports(experiment.namespace, experiment.name, number)
    return [(report.seq, report.step, dict(report.metrics)) for report in found]


def test_a_report_is_answered_after_its_commit(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    body = {"metrics": {"accuracy": 0.91, "loss": "NaN"}, "step": 3, "key": "a"}
    status, answer, _ = gateway.call("POST", "/v1/report", body, token)
    assert (status, answer) == (200, {"seq": 1, "stop": False, "reason": ""})
    assert [(seq, step, str(metrics["loss"])) for seq, step, metrics in reports(experiment)] == [(1, 3, "nan")]


def test_a_key_seen_before_is_answered_as_the_first_time(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    first = gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}, "key": "same"}, token)
    again = gateway.call("POST", "/v1/report", {"metrics": {"loss": 2}, "key": "same"}, token)
    assert first[:2] == again[:2]
    assert reports(experiment) == [(1, 0, {"loss": 1.0})]


def test_reports_without_a_key_each_count(gateway: gateway_world.Running, experiment: Experiment, token: str) -> None:
    for _ in range(2):
        gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}}, token)
    assert [step for _, step, _ in reports(experiment)] == [0, 1]


def test_a_batch_keeps_its_order_and_is_answered_by_its_last(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    body = {"reports": [{"metrics": {"loss": number}, "step": number} for number in range(500)]}
    status, answer, _ = gateway.call("POST", "/v1/report", body, token)
    assert (status, answer["seq"]) == (200, 500)
    assert reports(experiment) == [(number + 1, number, {"loss": float(number)}) for number in range(500)]


def test_a_stop_is_told_with_its_reason(gateway: gateway_world.Running, experiment: Experiment, token: str) -> None:
    experiment.storage.request_stop(experiment.uid, {0: Reason.PRUNED})
    _, answer, _ = gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}}, token)
    assert answer == {"seq": 1, "stop": True, "reason": "Pruned"}


def test_a_refit_tells_of_its_model(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    uid = names.phase_uid(experiment.uid, "refit")
    refit = Experiment(experiment.storage, [names.MODEL_METRIC], ["maximize"], uid=uid, name=experiment.name)
    refit.create(3)
    body = {"address": "s3://models/digits", "digest": "sha256:" + "0" * 64}
    for _ in range(2):
        status, answer, _ = gateway.call("POST", "/v1/model", body, world.api.knows(refit.who(3), "refit"))
        assert (status, answer.get("version"), answer.get("seq")) == (200, 1, 1), answer
    (version,) = experiment.storage.versions(experiment.uid)
    assert (version.address, version.digest, version.phase) == (body["address"], body["digest"], "refit")
    told = experiment.storage.trial_reports(refit.namespace, refit.name, 3, "refit")
    assert [report.metrics for report in told] == [{names.MODEL_METRIC: 1.0}]
    status, answer, _ = gateway.call("POST", "/v1/model", body, token)
    assert (status, "only a refit's run" in answer["error"]) == (400, True)
    for wrong in ({"address": ""}, {"digest": "sha256:00"}, {**body, "digest": "md5"}, {**body, "size": 1}):
        assert gateway.call("POST", "/v1/model", wrong, token)[0] == 400


def test_a_trial_learns_who_it_is(gateway: gateway_world.Running, experiment: Experiment, token: str) -> None:
    status, answer, _ = gateway.call("GET", "/v1/trial", token=token)
    assert status == 200
    assert answer == {
        "namespace": "team-a",
        "experiment": experiment.name,
        "trial": 0,
        "attempt": 1,
        "parameters": {"x": 0.5},
        "stop": False,
        "reason": "",
    }


def test_what_a_trial_says_first_of_its_end_stands(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    for status in ("failed", "complete"):
        assert gateway.call("POST", "/v1/finish", {"status": status, "message": "no data"}, token)[0] == 200
    finish = experiment.storage.news(experiment.uid, {}).finishes[0]
    assert (finish.status, finish.message) == ("failed", "no data")


# ---- refusals


def test_an_attempt_that_is_over_is_told_to_stop(
    gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    experiment.storage.new_attempt(experiment.uid, 0, 1, Reason.EVICTED, "")
    for method, path, body in (
        ("POST", "/v1/report", {"metrics": {"loss": 1}}),
        ("POST", "/v1/finish", {"status": "complete"}),
        ("GET", "/v1/trial", None),
    ):
        status, answer, _ = gateway.call(method, path, body, token)
        assert status == 409
        assert "attempt 1 of trial 0 is over" in answer["error"]
    assert reports(experiment) == []


def test_a_trial_that_has_ended_is_told_so(gateway: gateway_world.Running, experiment: Experiment, token: str) -> None:
    ending = Ending(TrialState.FAIL, Reason.NO_METRIC, "", None)
    experiment.storage.finish_trial(experiment.uid, 0, 1, lambda reports, finish: ending, None)
    status, answer, _ = gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}}, token)
    assert status == 409
    assert "has ended" in answer["error"]


def test_before_the_job_is_recorded_it_is_to_be_sent_again(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    token = world.api.knows(experiment.who(2))
    status, answer, headers = gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}, "key": "a"}, token)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "not recorded yet" in answer["error"]
    experiment.record(2)
    assert gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}, "key": "a"}, token)[0] == 200


@pytest.mark.parametrize("where", ["before:accept", "after:accept"])
def test_the_database_away_is_no_loss_and_no_second_report(
    gateway: gateway_world.Running, experiment: Experiment, token: str, faults: Faults, where: str
) -> None:
    """Also when the connection broke after the commit: the same key finds the report there."""
    body = {"metrics": {"loss": 1}, "key": "a"}
    faults.wrong[where] = base.StorageUnavailable("connection refused")
    status, answer, headers = gateway.call("POST", "/v1/report", body, token)
    assert (status, headers["Retry-After"]) == (503, "2")
    assert "connection refused" in answer["error"]
    faults.wrong.clear()
    assert gateway.call("POST", "/v1/report", body, token)[1]["seq"] == 1
    assert len(reports(experiment)) == 1


def test_a_fault_of_ours_is_a_500_without_its_inside(
    gateway: gateway_world.Running, token: str, faults: Faults
) -> None:
    faults.wrong["before:accept"] = RuntimeError("secret")
    status, answer, _ = gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}}, token)
    assert status == 500
    assert "secret" not in json.dumps(answer)


def test_a_body_beyond_the_limit(gateway: gateway_world.Running, token: str) -> None:
    status, answer, _ = gateway.call("POST", "/v1/report", b"x" * 70_000, token)
    assert status == 413
    assert "65536" in answer["error"]


def test_what_is_wrong_in_a_body_is_said(gateway: gateway_world.Running, token: str) -> None:
    status, answer, _ = gateway.call("POST", "/v1/report", {"metrics": {"accuracy": "high"}}, token)
    assert (status, answer) == (400, {"error": "metrics.accuracy: 'high' is not a number"})


@pytest.mark.parametrize(("method", "path", "expected"), [("GET", "/v1/report", 405), ("GET", "/v2/report", 404)])
def test_other_paths_and_methods(gateway: gateway_world.Running, method: str, path: str, expected: int) -> None:
    status, answer, headers = gateway.call(method, path)
    assert status == expected
    assert answer["error"]
    assert expected != 405 or headers["Allow"] == "POST"


# ---- tokens


@pytest.mark.parametrize("header", ["", "Basic eDp5", "Bearer", "Bearer nonsense"])
def test_without_a_token_nothing_is_asked_of_anyone(
    world: gateway_world.World, gateway: gateway_world.Running, header: str
) -> None:
    status, answer, _ = gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}}, Authorization=header)
    assert status == 401
    assert answer["error"]
    assert world.api.reviews == 0


def test_a_token_of_another_audience(world: gateway_world.World, gateway: gateway_world.Running) -> None:
    status, answer, _ = gateway.call("GET", "/v1/trial", token=world.api.lets_read("team-a"))
    assert status == 401
    assert "kubetune-gateway" in answer["error"]


def test_a_token_is_reviewed_once_a_minute(
    world: gateway_world.World, gateway: gateway_world.Running, token: str
) -> None:
    for _ in range(5):
        gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}}, token)
    assert world.api.reviews == 1


def test_many_who_ask_at_once_share_one_review(
    world: gateway_world.World, gateway: gateway_world.Running, token: str
) -> None:
    """The API server is slow; twenty requests with the same token wait for one answer."""

    async def become_slow() -> None:
        world.api.slow = asyncio.Event()

    world.run(become_slow())
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(gateway.call("GET", "/v1/trial", token=token)[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    while world.api.reviews == 0:
        time.sleep(0.01)

    async def answer() -> None:
        assert world.api.slow
        world.api.slow.set()

    world.run(answer())
    for thread in threads:
        thread.join()
    assert answers == [200] * 8
    assert world.api.reviews == 1


def test_the_api_server_away_is_to_be_tried_again(
    world: gateway_world.World, gateway: gateway_world.Running, token: str
) -> None:
    world.api.failing = 503
    status, _, headers = gateway.call("GET", "/v1/trial", token=token)
    assert (status, headers["Retry-After"]) == (503, "2")
    world.api.failing = None
    assert gateway.call("GET", "/v1/trial", token=token)[0] == 200


def test_missing_rights_of_the_gateway_are_not_the_trials_fault(
    world: gateway_world.World, gateway: gateway_world.Running, token: str
) -> None:
    world.api.failing = 403
    assert gateway.call("GET", "/v1/trial", token=token)[0] == 503


def test_a_pod_that_is_no_trial(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    found = gateway_world.pod(experiment.who(0))
    found["metadata"]["ownerReferences"][0]["kind"] = "ReplicaSet"
    token = world.api.knows(experiment.who(0), found=found)
    status, answer, _ = gateway.call("GET", "/v1/trial", token=token)
    assert status == 403
    assert "does not run a trial" in answer["error"]


def test_a_token_that_is_bound_to_no_pod(
    world: gateway_world.World, gateway: gateway_world.Running, token: str
) -> None:
    for user in world.api.users.values():
        del user["extra"]
    assert gateway.call("GET", "/v1/trial", token=token)[0] == 403


def test_a_pod_that_was_replaced_by_one_of_its_name(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment, token: str
) -> None:
    other = gateway_world.pod(dataclasses.replace(experiment.who(0), pod_uid="another"))
    world.api.pods["team-a", other["metadata"]["name"]] = other
    assert gateway.call("GET", "/v1/trial", token=token)[0] == 409


def test_a_pod_that_is_gone(world: gateway_world.World, gateway: gateway_world.Running, token: str) -> None:
    """TokenReview honours its token for a while."""
    world.api.pods.clear()
    assert gateway.call("GET", "/v1/trial", token=token)[0] == 409


# ---- people


def read(gateway: gateway_world.Running, path: str, token: str) -> tuple[int, gateway_world.Json]:
    status, answer, _ = gateway.call("GET", path, X_Kubetune_Token=token)
    return status, answer


def test_people_read_trials_by_page_and_state(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    token = world.api.lets_read("team-a")
    experiment.storage.accept([experiment.incoming(0, step=7, loss=float("inf"))])
    ending = Ending(TrialState.COMPLETE, Reason.COMPLETED, "", (float("inf"),))
    experiment.storage.finish_trial(experiment.uid, 0, 1, lambda reports, finish: ending, "the end")
    base_path = f"/v1/experiments/team-a/{experiment.name}/trials"
    status, answer = read(gateway, f"{base_path}?state=complete", token)
    assert status == 200
    assert answer["study"] == experiment.study.study_name
    assert answer["counts"] == {"running": 2, "complete": 1, "pruned": 0, "failed": 0, "lostAttempts": 0, "paused": 0}
    (row,) = answer["trials"]
    assert (row["number"], row["state"], row["values"], row["lastStep"]) == (0, "COMPLETE", ["inf"], 7)
    assert row["parameters"] == {"x": 0.5}
    assert [row["number"] for row in read(gateway, f"{base_path}?offset=1&limit=1", token)[1]["trials"]] == [1]
    alone = {"attempt": 1, "started": None, "worker": None}
    assert read(gateway, f"{base_path}/0/log", token) == (200, {"log": "the end", "running": False, **alone})
    assert read(gateway, f"{base_path}/1/log", token) == (200, {"log": None, "running": True, **alone})
    assert [report["step"] for report in read(gateway, f"{base_path}/0/reports", token)[1]["reports"]] == [7]


def test_people_read_the_record_of_decisions(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    token = world.api.lets_read("team-a")
    experiment.storage.accept([experiment.incoming(0, step=7, loss=float("inf"))])
    experiment.storage.record_steering(experiment.uid, [Steer("stop", "0", {}, trial=3, order=1)])
    base_path = f"/v1/experiments/team-a/{experiment.name}"
    status, answer = read(gateway, f"{base_path}/history", token)
    assert status == 200
    assert answer["uid"] == experiment.uid
    assert [(each["kind"], each["trial"], each["order"]) for each in answer["steering"]] == [("stop", 3, 1)]
    status, answer = read(gateway, f"{base_path}/record?offset=0&limit=1", token)
    assert status == 200
    assert [(each["number"], each["points"]) for each in answer["trials"]] == [(0, [[1, 1, 7, "inf"]])]
    Experiment(experiment.storage, uid=names.phase_uid(experiment.uid, "finalists"), name=experiment.name).create(0)
    assert read(gateway, f"{base_path}/history", token)[1]["phases"] == ["finalists"]
    for path in ("history", "record"):
        status, answer = read(gateway, f"{base_path}/{path}?phase=finalists", token)
        assert (status, answer.get("phases", []), len(answer.get("trials", [0]))) == (200, [], 1)
        assert read(gateway, f"{base_path}/{path}?phase=test", token)[0] == 404
        assert read(gateway, f"{base_path}/{path}", world.api.lets_read("team-b"))[0] == 403
        assert read(gateway, f"/v1/experiments/team-a/nothing/{path}", token)[0] == 404


def test_people_read_the_models_of_their_namespace(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    uid = names.phase_uid(experiment.uid, "refit")
    refit = Experiment(experiment.storage, [names.MODEL_METRIC], ["maximize"], uid=uid, name=experiment.name)
    refit.create(0)
    experiment.storage.model(refit.who(0), "s3://m", "sha256:00")
    refit.finish(0)
    token = world.api.lets_read("team-a")
    status, answer = read(gateway, f"/v1/models/team-a?experiment={experiment.name}", token)
    assert status == 200
    (model,) = answer["models"]
    assert (model["experiment"], model["version"], model["address"]) == (experiment.name, 1, "s3://m")
    assert (model["parameters"], model["scores"]) == ({"x": 0.5}, [])
    assert model in read(gateway, "/v1/models/team-a", token)[1]["models"]
    assert read(gateway, "/v1/models/team-a?experiment=nothing", token) == (200, {"models": []})
    assert read(gateway, "/v1/models/team-a", world.api.lets_read("team-b"))[0] == 403


def test_people_read_their_namespace_only(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    path = f"/v1/experiments/team-a/{experiment.name}/trials"
    assert read(gateway, path, world.api.lets_read("team-b"))[0] == 403
    assert read(gateway, path, world.api.knows(experiment.who(0)))[0] == 401  # a trial's token reads nothing
    assert gateway.call("GET", path)[0] == 401


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("nothing/trials", 404, "no experiment team-a/nothing"),
        ("{name}/trials/99/log", 404, "no trial 99"),
        ("{name}/trials/x/log", 400, "trial: 'x'"),
        ("{name}/trials?limit=0", 400, "limit: '0' is not a whole number from 1"),
        ("{name}/trials?offset=-1", 400, "offset"),
        ("{name}/trials?state=done", 400, "running, complete, pruned, fail"),
    ],
)
def test_questions_that_have_no_answer(
    world: gateway_world.World,
    gateway: gateway_world.Running,
    experiment: Experiment,
    path: str,
    status: int,
    says: str,
) -> None:
    token = world.api.lets_read("team-a")
    found, answer = read(gateway, f"/v1/experiments/team-a/{path.format(name=experiment.name)}", token)
    assert found == status
    assert says in answer["error"]


# ---- the process


def test_ready_when_the_database_has_answered_and_until_it_stops(
    gateway: gateway_world.Running, faults: Faults
) -> None:
    while gateway.http("/readyz")[0] != 200:
        time.sleep(0.01)
    assert gateway.http("/healthz")[0] == 200
    faults.wrong["before:healthy"] = base.StorageUnavailable("away")
    assert gateway.http("/readyz")[0] == 200  # it answers 503 with Retry-After, which tells more than no answer
    gateway.served.drain()
    status, body = gateway.http("/readyz")
    assert (status, json.loads(body)["reasons"]) == (503, ["it is stopping"])
    assert gateway.call("GET", "/v1/trial")[2]["Connection"] == "close"


def test_metrics_of_reports(gateway: gateway_world.Running, token: str) -> None:
    gateway.call("POST", "/v1/report", {"metrics": {"loss": 1}}, token)
    gateway.call("POST", "/v1/report", {"metrics": {}}, token)
    text = gateway.http("/metrics")[1].decode()
    assert "kubetune_reports_accepted_total 1.0" in text
    assert 'kubetune_reports_rejected_total{reason="bad_request"} 1.0' in text
    assert "kubetune_report_seconds_count 1.0" in text
    assert 'kubetune_api_requests_total{code="200",resource="tokenreviews",verb="create"} 1.0' in text


def test_a_certificate_is_shown_as_soon_as_it_is_there_and_anew_when_it_changes(
    world: gateway_world.World, experiment: Experiment, tmp_path: pathlib.Path
) -> None:
    directory = tmp_path / "mounted"
    directory.mkdir()
    shown = certificate.Certificate(str(directory))
    assert not shown.refresh()
    gateway_world.certificates(directory)
    assert shown.refresh()

    async def serial() -> bytes:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=shown.context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.to_thread(
                lambda: ssl.get_server_certificate(("127.0.0.1", port)).encode(),
            )

    first = world.run(serial())
    (directory / "tls.key").write_text("half of a new pair")
    assert shown.refresh()
    assert world.run(serial()) == first
    (directory / "tls.crt").unlink()
    gateway_world.certificates(directory)
    assert shown.refresh()
    assert world.run(serial()) != first
