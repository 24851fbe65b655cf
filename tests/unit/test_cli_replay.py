"""`kubectl tune export`, `history` and `replay` on a real record, as the gateway answers it."""

import json
import pathlib
from typing import Any

import pytest

from kubetune.api.spec import Algorithm
from kubetune.api.trial import Reason
from kubetune.cli import replay
from kubetune.controller import epilogue_status
from kubetune.controller.epilogue import Epilogue
from kubetune.controller.plan import Plan
from kubetune.storage import record_json
from tests.unit.test_cli_commands import PROXY, Answer, Tune
from tests.unit.test_cli_commands import World as Server
from tests.unit.test_cli_commands import tune as tune
from tests.unit.test_cli_commands import world as world
from tests.unit.test_cli_views import ended
from tests.unit.test_replay import World, in_legs, made, with_phases

SPACE = {"x": {"double": [0, 1]}, "lr": {"double": [1e-4, 1], "scale": "log"}, "n": {"int": [1, 9]}}


@pytest.fixture
def record(world: Server) -> Any:
    """An experiment that ran, behind the gateway."""
    study = World(made("tpe", pruner=Algorithm("asha", {"reductionFactor": 2})), seed=9)
    study.run(60)
    study.engine.record_images({"digits@sha256:a": ("digits:1", 0)})
    resource = ended()
    resource["metadata"] = {**resource["metadata"], "name": "digits", "namespace": "team", "uid": "uid-1"}
    resource["spec"] = {
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": SPACE,
        "sampler": {"name": "tpe", "settings": {"nStartupTrials": 5}},
        "pruner": {"name": "asha", "settings": {"reductionFactor": 2}},
        "seed": 11,
        "maxTrials": 36,
        "template": {"spec": {"containers": [{"name": "t", "image": "digits:1"}]}},
    }
    world.experiment(resource)
    trials = [record_json.trial(each) for each in study.storage.record("team", "digits", 0, 1000)]
    world.trials(*trials)

    def page(query: dict[str, str], body: Any, headers: Any) -> Answer:
        offset, limit = int(query["offset"]), int(query["limit"])
        return 200, {"trials": trials[offset : offset + limit]}

    world.answers[f"GET {PROXY}/record"] = page
    history = record_json.history(study.storage.history("team", "digits"))
    world.answers[f"GET {PROXY}/history"] = (200, history)
    return study


def test_an_exported_experiment_is_decided_again_offline(
    record: World, tune: Tune, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = tune("export", "digits")
    assert code == 0
    assert len(json.loads(out)["trials"]) == record.engine.counts.total
    file = tmp_path / "digits.json"
    file.write_text(out)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, out, _ = tune("replay", str(file))
    assert code == 0
    stops = sum(each.kind == "stop" for trial in record.record().trials for each in trial.judged)
    assert out.startswith(f"the same: {record.engine.counts.total} sets of parameters, {stops} stops, ")


def test_an_experiment_is_decided_again_where_it_is(record: World, tune: Tune) -> None:
    code, out, _ = tune("replay", "digits")
    assert (code, out.startswith("the same: ")) == (0, True)


def test_a_difference_is_told_with_what_else_differs(record: World, tune: Tune, tmp_path: pathlib.Path) -> None:
    document = json.loads(tune("export", "digits")[1])
    document["trials"][9]["parameters"]["x"] = 0.125
    document["record"]["steering"][0]["detail"]["versions"]["optuna"] = "3.0.0"
    file = tmp_path / "digits.json"
    file.write_text(json.dumps(document))
    code, out, _ = tune("replay", str(file))
    assert code == 1
    assert "differ; the first:\n  trial 9: x is 0.125 in the record, 0." in out
    assert "versions differ (that may be why): optuna 3.0.0, here " in out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no JSON", "is no export of an experiment"),
        ("{}", "is no export of an experiment"),
        ('{"spec": {}, "trials": []}', "exported before kubetune kept the order"),
        ('{"metadata": {"name": "a", "uid": "u"}, "spec": {}, "trials": [], "record": {}}', "cannot be decided again"),
    ],
)
def test_what_is_no_export_is_said_so(tune: Tune, tmp_path: pathlib.Path, content: str, told: str) -> None:
    file = tmp_path / "some.json"
    file.write_text(content)
    code, _, err = tune("replay", str(file))
    assert (code, told in err) == (1, True)


def test_the_history_is_in_order(record: World, tune: Tune) -> None:
    code, out, _ = tune("history", "digits")
    assert code == 0
    assert "Searching" in out
    assert "by tpe, pruner asha, seed 11; kubetune " in out
    assert "digits:1 is digits@sha256:a, from trial 0 on" in out
    entries = json.loads(tune("history", "digits", "--all", "-o", "json")[1])
    assert [each["time"] for each in entries] == sorted(each["time"] for each in entries)
    what = [each["what"] for each in entries]
    assert what.count("Asked") == record.engine.counts.total
    assert what.count("Ended") == record.engine.counts.finished
    assert what.count("Pruned") == sum(each.kind == "stop" for trial in record.record().trials for each in trial.judged)


def test_the_report_says_how_it_was_searched(record: World, tune: Tune) -> None:
    _, out, _ = tune("export", "digits", "-o", "md")
    assert "## How it was searched" in out
    assert "- From trial 0: sampler `tpe` (nStartupTrials: 5), pruner `asha` (reductionFactor: 2), seed 11; " in out
    assert "- Image `digits:1` was `digits@sha256:a`, first in trial 0." in out
    assert '| lr | {"double": [0.0001, 1], "scale": "log"} |' in out


@pytest.fixture
def whole(world: Server) -> World:
    """An experiment with all that may come after its search, behind the gateway."""
    study, winner = with_phases()
    resource = ended()
    resource["metadata"] = {**resource["metadata"], "name": "digits", "namespace": "team", "uid": "uid-1"}
    resource["spec"] = {
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": SPACE,
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "seed": 11,
        "maxTrials": 36,
        "finalists": {"top": 2, "replicates": 3},
        "template": {"spec": {"containers": [{"name": "t", "image": "digits:1"}]}},
    }
    resource["status"] |= epilogue_status.fields(Epilogue(Plan((), "Complete", Reason.MAX_TRIALS, ""), winner=winner))
    world.experiment(resource)

    def history(query: dict[str, str], body: Any, headers: Any) -> Answer:
        return 200, record_json.history(study.storage.history("team", "digits", query.get("phase", "")))

    def page(query: dict[str, str], body: Any, headers: Any) -> Answer:
        offset, limit = int(query["offset"]), int(query["limit"])
        found = study.storage.record("team", "digits", offset, limit, query.get("phase", ""))
        return 200, {"trials": [record_json.trial(each) for each in found]}

    world.answers[f"GET {PROXY}/record"] = page
    world.answers[f"GET {PROXY}/history"] = history
    return study


def test_an_export_holds_what_came_after_the_search(
    whole: World, tune: Tune, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads(tune("export", "digits")[1])
    finalists, refit, test = document["phases"]
    assert [each["phase"] for each in document["phases"]] == ["finalists", "refit", "test"]
    assert [len(each["trials"]) for each in document["phases"]] == [6, 1, 1]
    assert len(finalists["record"]["spec"]["sets"]) == 2
    assert finalists["winner"]["interval"]["low"] < finalists["winner"]["mean"]
    assert (refit["model"]["number"], refit["model"]["address"]) == (1, "s3://models/digits")
    assert test["score"] == test["trials"][0]["values"][0]
    file = tmp_path / "digits.json"
    file.write_text(json.dumps(document))
    at_once = tune("replay", "digits")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert tune("replay", str(file)) == at_once
    lines = at_once[1].splitlines()
    assert (at_once[0], len(lines)) == (0, 4)
    assert lines[0].startswith("the same: 36 sets of parameters, ")
    assert lines[1].startswith("finalists: the same: 6 sets of parameters, ")
    assert lines[1].endswith("2 decisions about the phase")
    assert tune("replay", str(file), "--phase", "test")[1].splitlines() == lines[3:]
    finalists["record"]["spec"]["seeds"][0] += 1
    file.write_text(json.dumps(document))
    code, out, _ = tune("replay", str(file))
    assert (code, "finalists: 1 decision of " in out) == (1, True)


def test_a_phase_that_is_not_there_is_said_so(whole: World, tune: Tune) -> None:
    code, _, err = tune("replay", "digits", "--phase", "test.second")
    assert (code, "there is no test.second in the record; there are finalists, refit, test" in err) == (1, True)


def test_the_history_goes_on_after_the_search(whole: World, tune: Tune) -> None:
    out = tune("history", "digits")[1]
    assert "finalists: what trials tried is run again (trials: " in out
    assert " wins: loss = " in out
    assert "the model is at s3://models/digits" in out
    entries = json.loads(tune("history", "digits", "--phase", "finalists", "-o", "json")[1])
    assert [each["what"] for each in entries].count("Ended") == 6
    assert all(each["message"].startswith("finalists: ") for each in entries)


def test_a_phase_in_which_nothing_was_decided_is_said_so(whole: World, tune: Tune, tmp_path: pathlib.Path) -> None:
    document = json.loads(tune("export", "digits")[1])
    document["phases"][2] = {"phase": "test", "record": {**document["phases"][2]["record"], "spec": None}, "trials": []}
    file = tmp_path / "digits.json"
    file.write_text(json.dumps(document))
    code, _, err = tune("replay", str(file), "--phase", "test")
    assert (code, "nothing was decided in test yet" in err) == (1, True)
    assert len(tune("replay", str(file))[1].splitlines()) == 3


def test_the_history_of_a_phase_that_is_not_there_is_no_empty_table(whole: World, tune: Tune) -> None:
    code, out, err = tune("history", "digits", "--phase", "test.second")
    assert (code, out) == (1, "")
    assert "there is no test.second in the record" in err


def test_where_nothing_can_be_decided_again_nothing_is_called_the_same(
    record: World, tune: Tune, tmp_path: pathlib.Path
) -> None:
    document = json.loads(tune("export", "digits")[1])
    for each in document["trials"]:
        each.update(known=None, judged=[])
    file = tmp_path / "digits.json"
    file.write_text(json.dumps(document))
    code, out, _ = tune("replay", str(file))
    assert (code, "the same" in out) == (0, False)
    assert out.splitlines()[0] == "nothing is there that could be decided again"
    assert "36 trials were asked before kubetune kept what their sampler knew" in out


def test_an_edit_that_was_refused_decides_nothing() -> None:
    """The experiment went on with the spec before: in legs by another factor others would have been promoted."""
    world = in_legs("asha", 1)
    search = record_json.history(world.storage.history("team", "digits"))
    trials = [record_json.trial(each) for each in world.storage.record("team", "digits", 0, 1000)]

    def spec(factor: int) -> dict[str, Any]:
        return {
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": SPACE,
            "sampler": {"name": "tpe", "settings": {"nStartupTrials": 5}},
            "pruner": {"name": "asha", "settings": {"type": "promotion", "reductionFactor": factor}},
            "fidelity": {"name": "epochs", "min": 1, "max": 8},
            "seed": 11,
            "maxTrials": 40,
            "template": {"spec": {"containers": [{"name": "t", "image": "digits:1"}]}},
        }

    def decided(written: int, in_force: int) -> tuple[list[str], bool]:
        record = json.loads(json.dumps({**search, "spec": spec(in_force)}))
        metadata = {"name": "digits", "namespace": "team", "uid": "uid-1"}
        document = {"metadata": metadata, "spec": spec(written), "record": record, "trials": trials}
        return replay.again({**document, "status": {"state": "Complete"}})

    said, same = decided(3, in_force=2)
    assert (said[0].startswith("the same: 40 sets of parameters, "), same) == (True, True)
    assert not decided(2, in_force=3)[1]


@pytest.mark.parametrize("state", ["Running", "Complete"])
def test_a_difference_in_what_went_on_meanwhile_says_what_may_be_behind_it(
    record: World, tune: Tune, tmp_path: pathlib.Path, state: str
) -> None:
    document = json.loads(tune("export", "digits")[1])
    document["trials"][9]["parameters"]["x"] = 0.125
    document["status"]["state"] = state
    file = tmp_path / "digits.json"
    file.write_text(json.dumps(document))
    code, out, _ = tune("replay", str(file))
    assert (code, "may have gone on while its record was read" in out) == (1, state == "Running")
