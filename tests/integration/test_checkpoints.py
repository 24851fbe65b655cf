"""Trials that keep checkpoints in a folder, over a real gateway: what survives, what is removed, what is damaged."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import kubetune_trial as kt
from kubetune.api import names
from kubetune.api.trial import Reason
from kubetune.storage import base
from tests import gateway_world
from tests.integration.experiments import Experiment

CLIENT = pathlib.Path(kt.__file__)


@dataclasses.dataclass
class Pods:
    """Puts this process in the place of a trial's pod."""

    world: gateway_world.World
    gateway: gateway_world.Running
    experiment: Experiment
    patch: pytest.MonkeyPatch

    @property
    def volume(self) -> pathlib.Path:
        return self.world.folder / "volume"

    def environment(self, number: int, attempt: int = 1) -> dict[str, str]:
        token = self.world.folder / f"token-{number}-{attempt}"
        token.write_text(self.world.api.knows(self.experiment.who(number, attempt)))
        return {
            names.ENV_GATEWAY: self.gateway.url,
            names.ENV_TOKEN_FILE: str(token),
            names.ENV_TRIAL: str(number),
            names.ENV_ATTEMPT: str(attempt),
            names.ENV_CHECKPOINTS: str(self.volume),
        }

    def become(self, number: int, attempt: int = 1) -> None:
        for name, value in self.environment(number, attempt).items():
            self.patch.setenv(name, value)
        kt._session._hang_up()
        self.patch.setattr(kt, "_session", kt._Session())

    def lose(self, number: int, attempt: int = 1) -> None:
        """The pod is lost, and the next attempt runs here."""
        assert self.experiment.lose(number, attempt)
        assert self.experiment.record(number, attempt + 1)
        self.become(number, attempt + 1)


@pytest.fixture
def pods(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pods]:
    experiment.create(0, 1)
    made = Pods(world, gateway, experiment, monkeypatch)
    made.become(0)
    yield made
    kt._session._hang_up()


def save(step: int, text: str = "weights") -> None:
    with kt.save_checkpoint(step) as folder:
        pathlib.Path(folder, "model.txt").write_text(f"{text} {step}")
        pathlib.Path(folder, "inner").mkdir()
        pathlib.Path(folder, "inner", "optimizer.bin").write_bytes(bytes(range(256)) * step)


def load() -> tuple[int, str] | None:
    found = kt.load_checkpoint()
    return (found.step, pathlib.Path(found, "model.txt").read_text()) if found else None


def on_volume(pods: Pods, number: int = 0) -> list[str]:
    return sorted(path.name for path in (pods.volume / str(number)).iterdir())


def test_a_trial_that_has_none_begins_anew(pods: Pods) -> None:
    assert kt.load_checkpoint() is None


def test_the_next_attempt_goes_on_from_the_latest(pods: Pods) -> None:
    kt.report(2, loss=0.5)
    save(1)
    save(2)
    pods.lose(0)
    found = kt.load_checkpoint()
    assert found is not None
    assert (found.step, found.trial, found.attempt) == (2, 0, 1)
    assert (pathlib.Path(found) / "inner" / "optimizer.bin").read_bytes() == bytes(range(256)) * 2
    (resumed,) = pods.experiment.storage.resumes(pods.experiment.uid)
    assert (resumed.trial, resumed.attempt, resumed.source, resumed.source_attempt, resumed.step) == (0, 2, 0, 1, 2)
    kt.report(loss=0.4)
    assert [report.step for report in pods.experiment.reports(0)] == [2, 3]


def test_other_trials_go_their_own_way(pods: Pods) -> None:
    save(1)
    pods.become(1)
    assert kt.load_checkpoint() is None
    save(7, "other")
    assert load() == (7, "other 7")


def test_an_exception_in_the_block_leaves_nothing(pods: Pods) -> None:
    def fails() -> None:
        with kt.save_checkpoint(1) as folder:
            pathlib.Path(folder, "half").write_text("half")
            raise KeyError("half")

    with pytest.raises(KeyError, match="half"):
        fails()
    assert on_volume(pods) == []
    assert kt.load_checkpoint() is None


def test_an_empty_checkpoint_is_refused(pods: Pods) -> None:
    with pytest.raises(ValueError, match="nothing was written"), kt.save_checkpoint(1):
        pass
    assert on_volume(pods) == []


def test_a_link_is_refused(pods: Pods) -> None:
    with pytest.raises(ValueError, match="passwd is no file"), kt.save_checkpoint(1) as folder:
        os.symlink("/etc/passwd", os.path.join(folder, "passwd"))


def test_older_ones_are_removed_from_the_volume(pods: Pods) -> None:
    for step in (1, 2, 3, 4):
        save(step)
    assert [name.split("-")[1] for name in on_volume(pods)] == ["3", "4"]
    assert load() == (4, "weights 4")


@pytest.mark.parametrize("how", ["changed", "cut", "missing", "manifest", "gone"])
def test_a_damaged_one_is_said_and_the_one_before_taken(
    pods: Pods, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(1)
    save(2)
    pods.lose(0)
    (latest,) = (pods.volume / "0").glob("1-2-*")
    file = latest / "inner" / "optimizer.bin"
    if how == "changed":
        file.write_bytes(b"\1" + file.read_bytes()[1:])
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "missing":
        file.unlink()
    elif how == "manifest":
        (latest / kt._MANIFEST).write_text('{"step": 2, "files": {}}')
    else:
        latest.rename(pods.volume / "elsewhere")
    assert load() == (1, "weights 1")
    assert f"checkpoint 0/{latest.name}: is damaged" in capsys.readouterr().err
    assert load() == (1, "weights 1")
    assert "damaged" not in capsys.readouterr().err  # the gateway offers it no more
    (resumed,) = pods.experiment.storage.resumes(pods.experiment.uid)
    assert resumed.step == 1


def test_all_damaged_is_to_begin_anew(pods: Pods) -> None:
    save(1)
    for manifest in pods.volume.glob("0/*/model.txt"):
        manifest.write_text("")
    assert kt.load_checkpoint() is None
    assert pods.experiment.storage.resumes(pods.experiment.uid) == []


def test_another_experiments_is_compared_with_what_was_recorded(pods: Pods) -> None:
    save(1)
    (latest,) = (pods.volume / "0").glob("1-1-*")
    recorded = pods.experiment.storage.resumable(pods.experiment.who(0))[0].digest
    pods.become(1)
    pods.patch.setenv(names.ENV_INIT_CHECKPOINT, str(latest))
    pods.patch.setenv(names.ENV_INIT_DIGEST, recorded)
    assert load() == (-1, "weights 1")
    (latest / "model.txt").write_text("weights 2")
    with pytest.raises(kt.NoCheckpoint, match=r"what spec.initCheckpoint gives is damaged: model.txt is not as it was"):
        kt.load_checkpoint()
    (latest / kt._MANIFEST).unlink()
    with pytest.raises(kt.NoCheckpoint, match="is damaged"):
        kt.load_checkpoint()


def test_what_a_trial_that_is_over_writes_does_not_count(pods: Pods) -> None:
    save(1)
    assert pods.experiment.lose(0, 1)
    save(2)  # by the old attempt, which does not know
    assert kt.should_stop()
    assert pods.experiment.record(0, 2)
    pods.become(0, 2)
    assert load() == (1, "weights 1")
    assert len(on_volume(pods)) == 1  # and it is cleared away


def test_a_stop_is_told(pods: Pods) -> None:
    pods.experiment.storage.request_stop(pods.experiment.uid, {0: Reason.PRUNED})
    save(1)
    assert kt.should_stop()
    assert load() == (1, "weights 1")


KILLED = """
import os, signal, sys
import kubetune_trial as kt
where = sys.argv[1]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
with kt.save_checkpoint(1) as folder:
    open(os.path.join(folder, "model.txt"), "w").write("weights 1")
if where == "rename":
    os.rename = die
if where == "commit":
    kt._session.ask = die
if where == "answer":
    ask = kt._session.ask
    kt._session.ask = lambda *given: (ask(*given), die())
with kt.save_checkpoint(2) as folder:
    open(os.path.join(folder, "model.txt"), "w").write("weights 2")
    if where == "write":
        die()
"""


@pytest.mark.parametrize(("where", "step"), [("write", 1), ("rename", 1), ("commit", 1), ("answer", 2)])
def test_killed_anywhere_the_last_committed_one_counts(pods: Pods, where: str, step: int) -> None:
    environment = {**os.environ, **pods.environment(0), "PYTHONPATH": str(CLIENT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, where], env=environment, timeout=60, check=False, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(on_volume(pods)) == 2
    pods.lose(0)
    assert load() == (step, f"weights {step}")
    assert len(on_volume(pods)) == step  # what was not committed is cleared away


def test_from_a_shell(pods: Pods, tmp_path: pathlib.Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(CLIENT), *arguments]
        environment = {**os.environ, **pods.environment(0)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    state = tmp_path / "state"
    (state / "deep").mkdir(parents=True)
    (state / "deep" / "weights").write_text("7")
    assert call("load").stdout == ""
    assert call("save", "--step", "7", str(state)).returncode == 0
    step, _, folder = call("load").stdout.strip().partition(" ")
    assert step == "7"
    assert pathlib.Path(folder, "deep", "weights").read_text() == "7"
    missing = call("save", "--step", "8", str(tmp_path / "nowhere"))
    assert missing.returncode == 1
    assert "nowhere" in missing.stderr


def test_what_every_trial_starts_from(pods: Pods, tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.txt").write_text("given")
    pods.patch.setenv(names.ENV_INIT_CHECKPOINT, str(tmp_path))
    assert load() == (-1, "given")
    save(0)
    assert load() == (0, "weights 0")


def test_an_experiment_that_keeps_none_throws_them_away(pods: Pods) -> None:
    pods.patch.delenv(names.ENV_CHECKPOINTS)
    with kt.save_checkpoint(3) as folder:
        pathlib.Path(folder, "model.txt").write_text("x")
    assert not os.path.exists(folder)
    assert kt.load_checkpoint() is None


def test_on_a_laptop(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(names.ENV_CHECKPOINTS, str(tmp_path))
    assert load() is None
    for step in (-1, 0, 1):
        save(step)
        time.sleep(0.01)  # the clock of the files' system
    assert load() == (1, "weights 1")
    assert len(list((tmp_path / "0").iterdir())) == 2
    for file in tmp_path.glob("0/1-1-*/model.txt"):
        file.write_text("")
    assert load() == (0, "weights 0")


def test_bad_bodies_are_told_what_to_send(pods: Pods) -> None:
    token = pathlib.Path(pods.environment(0)[names.ENV_TOKEN_FILE]).read_text()
    good = {"step": 1, "location": "0/1-1-x", "digest": "0" * 64, "bytes": 1, "files": 1}
    for change, message in (
        ({"location": "1/1-1-x"}, "begin it with 0/1-"),
        ({"location": "0/2-1-x"}, "begin it with 0/1-"),
        ({"location": "0/1-/../x"}, "location: send TRIAL/ATTEMPT-NAME"),
        ({"location": "../../etc"}, "location: send TRIAL/ATTEMPT-NAME"),
        ({"digest": "0"}, "digest: send a SHA-256"),
        ({"bytes": -1}, "bytes: send a whole number from 0"),
        ({"files": 0}, "files: send a whole number from 1"),
        ({"step": None}, "step: send a whole number"),
        ({"steps": 1}, "steps: there is no such field"),
    ):
        status, answer, _ = pods.gateway.call("POST", "/v1/checkpoint", {**good, **change}, token)
        assert (status, message in answer["error"]) == (400, True), answer
    for path, body in (
        ("resume", {"location": "0/1-9-x"}),
        ("resume", {"location": 3}),
        ("resume", {"damaged": "all"}),
        ("removed", {"locations": ["/etc"]}),
        ("removed", {}),
    ):
        assert pods.gateway.call("POST", f"/v1/checkpoint/{path}", body, token)[0] == 400
    assert pods.gateway.call("GET", "/v1/checkpoint", token="")[0] == 401
    assert pods.gateway.call("POST", "/v1/checkpoint", good, token)[1]["remove"] == []
    assert isinstance(pods.experiment.storage.resumable(pods.experiment.who(0))[0].time, float)
    with pytest.raises(base.NotCurrent):
        pods.experiment.storage.resumable(pods.experiment.who(0, 2))
