"""Trials that keep checkpoints in the object storage: the credential stays with the gateway; else as on a volume."""

import dataclasses
import errno
import hashlib
import io
import pathlib
import tarfile
import tempfile
from collections.abc import Iterator

import pytest
from aiohttp import web

import kubetune_trial as kt
from kubetune import s3
from kubetune.api import names
from kubetune.api.checkpoints import Taken
from kubetune.api.trial import Reason
from kubetune.controller import clearing, sweeping
from kubetune.settings import Settings
from kubetune.storage import base
from tests import gateway_world, s3_server
from tests.integration.experiments import Experiment


@dataclasses.dataclass
class Pods:
    """Puts this process in the place of a trial's pod."""

    world: gateway_world.World
    gateway: gateway_world.Running
    experiment: Experiment
    patch: pytest.MonkeyPatch
    server: s3_server.S3Server
    store: s3.Store

    def become(self, number: int, attempt: int = 1) -> None:
        token = self.world.folder / f"token-{number}-{attempt}"
        token.write_text(self.world.api.knows(self.experiment.who(number, attempt)))
        for name, value in (
            (names.ENV_GATEWAY, self.gateway.url),
            (names.ENV_TOKEN_FILE, str(token)),
            (names.ENV_TRIAL, str(number)),
            (names.ENV_ATTEMPT, str(attempt)),
            (names.ENV_CHECKPOINTS, names.IN_STORE),
        ):
            self.patch.setenv(name, value)
        kt._session._hang_up()
        self.patch.setattr(kt, "_session", kt._Session())

    @property
    def keys(self) -> list[str]:
        """Objects, without the experiment's part of their keys and the random one."""
        folder = f"kubetune/{self.experiment.uid}/"
        assert all(key.startswith(folder) for key in self.server.objects)
        return sorted("-".join(key.removeprefix(folder).split("-")[:2]) for key in self.server.objects)

    def chore(self) -> None:
        objects = s3.Objects(self.store)
        clearing.Clearing(None, self.experiment.storage, lambda: "", objects).turn()  # type: ignore[arg-type]
        objects._pool.clear()


@pytest.fixture
def pods(world: gateway_world.World, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    server = s3_server.S3Server()

    async def serve() -> web.AppRunner:
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = world.run(serve())
    settings = {
        "s3_endpoint": f"http://127.0.0.1:{runner.addresses[0][1]}",
        "s3_bucket": s3_server.BUCKET,
        "s3_region": s3_server.REGION,
        "s3_access_key": s3_server.ACCESS,
        "s3_secret_key": s3_server.SECRET,
    }
    store = s3.Store.of(Settings(**settings))  # type: ignore[arg-type]
    assert store is not None
    experiment.create(0, 1)
    experiment.storage.save_spec(experiment.uid, base.KeptSpec(1, {"checkpoints": {"s3": {}}}))
    with world.gateway(experiment.storage, secure=False, **settings) as gateway:
        made = Pods(world, gateway, experiment, monkeypatch, server, store)
        made.become(0)
        yield made
        kt._session._hang_up()
    world.run(runner.cleanup())


def save(step: int) -> None:
    with kt.save_checkpoint(step) as folder:
        pathlib.Path(folder, "model.txt").write_text(f"weights {step}")
        pathlib.Path(folder, "inner").mkdir()
        pathlib.Path(folder, "inner", "optimizer.bin").write_bytes(bytes(range(256)) * 100)


def load() -> tuple[int, str] | None:
    found = kt.load_checkpoint()
    if not found:
        return None
    assert pathlib.Path(found, "inner", "optimizer.bin").read_bytes() == bytes(range(256)) * 100
    return found.step, pathlib.Path(found, "model.txt").read_text()


def test_the_next_attempt_goes_on_from_the_latest(pods: Pods) -> None:
    assert kt.load_checkpoint() is None
    save(1)
    save(2)
    assert pods.keys == ["0/1-1", "0/1-2"]
    assert pods.experiment.lose(0)
    assert pods.experiment.record(0, 2)
    pods.become(0, 2)
    assert load() == (2, "weights 2")
    (resumed,) = pods.experiment.storage.resumes(pods.experiment.uid)
    assert (resumed.attempt, resumed.source_attempt, resumed.step) == (2, 1, 2)


def test_a_store_that_is_away_for_a_moment_is_waited_for(pods: Pods) -> None:
    pods.server.failing = 2
    save(1)
    pods.server.failing = 2
    assert load() == (1, "weights 1")


def test_an_address_that_is_not_for_this_is_refused(pods: Pods) -> None:
    save(1)
    (key,) = pods.server.objects
    other = dataclasses.replace(pods.store, secret_key="guessed")
    objects = s3.Objects(other)
    with pytest.raises(s3.Unavailable, match="403"):
        objects.remove_but(pods.experiment.uid, [])
    objects._pool.clear()
    assert list(pods.server.objects) == [key]
    token = pathlib.Path(pods.world.folder / "token-0-1").read_text()
    body = {"location": "1/1-1-x", "bytes": 1}
    status, answer, _ = pods.gateway.call("POST", "/v1/checkpoint/upload", body, token)
    assert (status, "begin it with 0/1-" in answer["error"]) == (400, True)
    body = {"location": "0/1-1-x", "bytes": 6 * 2**30}
    status, answer, _ = pods.gateway.call("POST", "/v1/checkpoint/upload", body, token)
    assert (status, "bytes: send a whole number" in answer["error"]) == (400, True)


@pytest.mark.parametrize("how", ["cut", "gone", "other"])
def test_a_damaged_one_is_said_and_the_one_before_taken(
    pods: Pods, how: str, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    save(1)
    save(2)
    tmp_path = tmp_path / "scratch"
    tmp_path.mkdir()
    key = next(key for key in pods.server.objects if "/1-2-" in key)
    if how == "cut":
        pods.server.objects[key] = pods.server.objects[key][:-600]
    elif how == "gone":
        del pods.server.objects[key]
    else:
        pods.server.objects[key] = b"something else"
    pods.patch.setattr(tempfile, "tempdir", str(tmp_path))
    assert load() == (1, "weights 1")
    assert "is damaged" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1  # what was damaged takes no room


def test_what_nobody_needs_is_removed_by_the_operator(pods: Pods) -> None:
    storage, uid = pods.experiment.storage, pods.experiment.uid
    for step in (1, 2, 3):
        save(step)
    pods.become(1)
    save(1)
    pods.chore()
    assert pods.keys == ["0/1-2", "0/1-3", "1/1-1"]
    assert load() == (1, "weights 1")
    pods.server.objects[f"kubetune/{uid}/0/1-9-uncommitted.tar"] = b"half"
    pods.experiment.finish(0)
    pods.experiment.finish(1)
    storage.release_checkpoints(uid, [1])
    storage.end_study(uid, Reason.MAX_TRIALS, "")
    pods.server.failing = 100
    pods.chore()
    pods.server.failing = 0
    assert len(pods.keys) == 4  # it was away
    pods.chore()
    assert pods.keys == ["1/1-1"]
    storage.delete_study(uid)
    pods.chore()
    assert pods.keys == []
    assert all(left.uid != uid for left in storage.leftovers())


def test_without_one_it_says_so(
    world: gateway_world.World, gateway: gateway_world.Running, experiment: Experiment
) -> None:
    experiment.create(0)
    token = world.api.knows(experiment.who(0))
    status, answer, _ = gateway.call("POST", "/v1/checkpoint/upload", {"location": "0/1-1-x", "bytes": 1}, token)
    assert (status, "has no object storage" in answer["error"]) == (400, True)


def settle(pods: Pods, form: dict[str, object]) -> Experiment:
    """An experiment that begins with something given, its trial 0 this process."""
    mine = Experiment(pods.experiment.storage)
    mine.create(0)
    mine.storage.save_spec(mine.uid, base.KeptSpec(1, {"initCheckpoint": form}))
    dataclasses.replace(pods, experiment=mine).become(0)
    pods.patch.delenv(names.ENV_CHECKPOINTS)  # it keeps none of its own
    pods.patch.setenv(names.ENV_INIT_CHECKPOINT, names.IN_STORE)
    return mine


def take(pods: Pods) -> Experiment:
    """One that begins with the checkpoint of trial 0."""
    storage, source = pods.experiment.storage, pods.experiment
    save(7)
    source.finish(0)
    found = storage.latest_checkpoint(source.uid, 0)
    assert found is not None
    mine = settle(pods, {"from": {"experiment": source.name}})
    storage.take_checkpoint(mine.uid, Taken(source.name, source.uid, "", "", found))
    return mine


def test_a_trial_starts_from_another_experiments_checkpoint(pods: Pods) -> None:
    mine = take(pods)
    assert load() == (-1, "weights 7")
    storage, source = pods.experiment.storage, pods.experiment
    storage.release_checkpoints(source.uid, [])
    storage.delete_study(source.uid)
    pods.chore()
    assert load() == (-1, "weights 7")  # the other is gone
    pods.patch.setenv(names.ENV_CHECKPOINTS, names.IN_STORE)
    save(1)
    assert load() == (1, "weights 1")  # its own comes first
    storage.delete_study(mine.uid)
    pods.chore()
    pods.chore()
    assert pods.server.objects == {}


@pytest.mark.parametrize("how", ["cut", "gone", "other"])
def test_one_that_is_not_what_was_taken_is_no_beginning(pods: Pods, how: str) -> None:
    take(pods)
    (key,) = pods.server.objects
    if how == "gone":
        del pods.server.objects[key]
    else:
        pods.server.objects[key] = pods.server.objects[key][:-600] if how == "cut" else b"something else"
    with pytest.raises(kt.NoCheckpoint, match=r"what spec.initCheckpoint gives is damaged: the object is"):
        kt.load_checkpoint()


def tar(text: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("inner/model.txt")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


@pytest.mark.parametrize("name", ["weights.tar", "team/weights.pt"])
def test_a_trial_starts_from_an_object_of_its_namespace(pods: Pods, name: str) -> None:
    body = tar("good")
    pods.server.objects[f"kubetune/init/team-a/{name}"] = body
    pods.server.objects[f"kubetune/init/team-b/{name}"] = b"not yours"
    settle(pods, {"s3": {"key": name, "sha256": hashlib.sha256(body).hexdigest()}})
    found = kt.load_checkpoint()
    assert found is not None
    assert found.step == -1
    if name.endswith(".tar"):
        assert pathlib.Path(found, "inner", "model.txt").read_text() == "good"
    else:
        assert pathlib.Path(found, "weights.pt").read_bytes() == body


def test_the_pods_own_namespace_is_what_counts(pods: Pods) -> None:
    """A pod elsewhere that says it is this experiment's gets nothing of either namespace."""
    mine = settle(pods, {"s3": {"key": "weights.tar", "sha256": "0" * 64}})
    token = pods.world.api.knows(dataclasses.replace(mine.who(0), namespace="team-b"))
    status, answer, _ = pods.gateway.call("GET", "/v1/checkpoint/init", None, token)
    assert status in (400, 409)
    assert "url" not in answer


def test_an_experiment_that_starts_from_none_is_told_so(pods: Pods) -> None:
    token = pathlib.Path(pods.world.folder / "token-0-1").read_text()
    status, answer, _ = pods.gateway.call("GET", "/v1/checkpoint/init", None, token)
    assert (status, "start from no object" in answer["error"]) == (400, True)


# ---- what was sent, and is known to nobody


def sweep(pods: Pods) -> None:
    """Until nothing is left to look through."""
    objects, storage = s3.Objects(pods.store), pods.experiment.storage
    chore = sweeping.Sweeping(storage, objects, storage.clock)
    for _ in range(500):
        chore.turn()
        if pods.experiment.uid not in storage.unswept(10_000):
            break
    objects._pool.clear()


def stray(pods: Pods, key: str, age: float) -> str:
    pods.server.objects[key], pods.server.modified[key] = b"half", pods.experiment.storage.clock() - age
    return key


def wait(pods: Pods, seconds: float) -> None:
    for _ in range(int(seconds)):
        pods.experiment.storage.clock()


def test_what_was_never_committed_goes_once_it_is_old_and_nothing_else(pods: Pods) -> None:
    uid = pods.experiment.uid
    save(1)
    save(2)
    for key in list(pods.server.objects):
        pods.server.modified[key] = pods.experiment.storage.clock()
    wait(pods, base.SWEEP_EVERY + 60)
    before = set(pods.server.objects)
    old, young = 2 * base.YOUNG, base.YOUNG / 2
    for location in ("0/1-9-half", "1/1-1-lost", "1/1-2-lost"):
        stray(pods, pods.store.key(uid, location), old)
    stays = {
        stray(pods, pods.store.key(uid, "0/1-8-young"), young),
        stray(pods, pods.store.key(f"{uid}/refit", "0/1-1-x"), old),  # another study's, which is looked through itself
        stray(pods, pods.store.key("somebody-elses", "0/1-1-x"), old),
        stray(pods, pods.store.folder(uid) + "notes.txt", old),
        stray(pods, "kubetune/init/team-a/resnet.tar", old),
    }
    sweep(pods)
    assert set(pods.server.objects) == before | stays
    assert load() == (2, "weights 2")


def test_so_it_does_of_an_experiment_that_was_deleted(pods: Pods) -> None:
    """It has committed nothing, so the clearing of what it left does not know it."""
    token = pathlib.Path(pods.world.folder / "token-0-1").read_text()
    assert pods.gateway.call("POST", "/v1/checkpoint/upload", {"location": "0/1-1-x", "bytes": 4}, token)[0] == 200
    stray(pods, pods.store.key(pods.experiment.uid, "0/1-1-x"), 0)
    pods.experiment.storage.delete_study(pods.experiment.uid)
    pods.chore()
    assert len(pods.server.objects) == 1
    wait(pods, base.SETTLED + 60)
    sweep(pods)
    assert pods.server.objects == {}
    pods.experiment.storage.purge(1)
    assert pods.experiment.storage.load_trials(pods.experiment.uid) == []


def test_a_store_that_is_away_is_looked_through_later(pods: Pods) -> None:
    save(1)
    wait(pods, base.SWEEP_EVERY + 60)
    stray(pods, pods.store.key(pods.experiment.uid, "0/1-9-half"), 2 * base.YOUNG)
    objects = s3.Objects(pods.store)
    chore = sweeping.Sweeping(pods.experiment.storage, objects, pods.experiment.storage.clock)
    pods.server.failing = 1000
    chore.turn()
    objects._pool.clear()
    assert len(pods.server.objects) == 2
    pods.server.failing = 0
    sweep(pods)
    assert len(pods.server.objects) == 1


def test_many_are_removed_in_several_turns(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "REMOVED_AT_ONCE", 3)
    save(1)
    wait(pods, base.SWEEP_EVERY + 60)
    for number in range(8):
        stray(pods, pods.store.key(pods.experiment.uid, f"{number}/1-9-half"), 2 * base.YOUNG)
    objects, before = s3.Objects(pods.store), len(pods.server.objects)
    chore = sweeping.Sweeping(pods.experiment.storage, objects, pods.experiment.storage.clock)
    for _ in range(100):
        chore.turn()
        assert before - len(pods.server.objects) <= 3
        before = len(pods.server.objects)
    objects._pool.clear()
    assert before == 1


# ---- what may go wrong on the way


def test_a_transfer_that_ends_early_is_made_again(pods: Pods) -> None:
    """It says nothing about the object: a good checkpoint is not called damaged for it."""
    save(1)
    pods.server.cutting = 2
    assert load() == (1, "weights 1")
    assert pods.server.cutting == 0
    assert [each.step for each in pods.experiment.storage.resumable(pods.experiment.who(0))] == [1]


def test_an_upload_that_ends_early_is_no_checkpoint(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    save(1)
    monkeypatch.setenv("KUBETUNE_PATIENCE", "1")
    pods.server.failing = 1000
    with pytest.raises(kt.Unreachable, match="the object storage does not take the checkpoint: HTTP Error 503"):
        save(2)
    with pytest.raises(kt.Unreachable, match="the object storage does not give the checkpoint: HTTP Error 503"):
        load()
    pods.server.failing = 0
    assert load() == (1, "weights 1")


def test_a_digest_that_is_not_the_objects_is_found_by_who_loads(pods: Pods, capsys: pytest.CaptureFixture[str]) -> None:
    save(1)
    save(2)
    body = pods.experiment.storage.resumable(pods.experiment.who(0))[0]
    assert body.step == 2
    key = pods.store.key(pods.experiment.uid, body.location)
    pods.server.objects[key] = tar("whole, and another one")
    assert load() == (1, "weights 1")
    assert "the object is not the one that was committed" in capsys.readouterr().err


def test_an_attempt_that_is_over_neither_sends_nor_commits(pods: Pods) -> None:
    save(1)
    pods.experiment.lose(0)
    pods.experiment.record(0, 2)
    save(2)  # the first attempt, which has not heard of it
    assert pods.keys == ["0/1-1"]
    assert kt.should_stop()
    token = pathlib.Path(pods.world.folder / "token-0-1").read_text()
    late = {"step": 2, "location": "0/1-2-x", "digest": "0" * 64, "bytes": 1, "files": 1, "store": "s3"}
    assert pods.gateway.call("POST", "/v1/checkpoint", late, token)[0] == 409
    pods.become(0, 2)
    assert load() == (1, "weights 1")


def test_of_two_attempts_at_once_the_current_ones_counts(pods: Pods) -> None:
    """The first one is fenced while it sends: what it has sent is there, and counts for nothing."""
    send = kt._InStore._send

    def late(self: kt._InStore, location: str, packed: str, size: int) -> bool:
        done = send(self, location, packed, size)
        if self._attempt == 1:
            assert pods.experiment.lose(0)
            assert pods.experiment.record(0, 2)
        return done

    pods.patch.setattr(kt._InStore, "_send", late)
    save(1)
    assert kt.should_stop()
    pods.become(0, 2)
    assert kt.load_checkpoint() is None
    save(3)
    assert load() == (3, "weights 3")
    assert pods.keys == ["0/1-1", "0/2-3"]


def test_where_the_installations_store_was_taken_away_it_is_said(pods: Pods) -> None:
    save(1)
    with pods.world.gateway(pods.experiment.storage, secure=False) as bare:
        pods.patch.setenv(names.ENV_GATEWAY, bare.url)
        kt._session._hang_up()
        with pytest.raises(kt.Refused, match="has no object storage"):
            load()
        kt._session._hang_up()


def test_where_the_pod_has_no_room_it_is_said_at_once(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    save(1)

    def full(response: object, path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(kt, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            load()
    assert load() == (1, "weights 1")  # it is not called damaged for it
