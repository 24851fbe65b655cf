"""What is left of an experiment that is over: the Job that removes it, when it is made, and what it removes."""

import pathlib
from collections.abc import Collection
from typing import Any

import pytest

import kubetune_clear
from kubetune import s3
from kubetune.api import names
from kubetune.api.checkpoints import S3, Checkpoint, Leftover, Place
from kubetune.api.trial import Reason
from kubetune.controller import clearing
from kubetune.kube import errors, resources
from kubetune.storage import base, memory
from tests.integration.experiments import Experiment
from tests.unit.clock import Time

Json = dict[str, Any]
SPEC: Json = {
    "checkpoints": {"claim": "shared", "path": "team"},
    "template": {
        "spec": {
            "securityContext": {"fsGroup": 7},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "containers": [{"name": "trial", "image": "x", "securityContext": {"runAsUser": 8, "privileged": True}}],
        }
    },
}
LEFT = Leftover("uid-1", "team-a", "digits", SPEC, False, ("3/1-5-ab",))
PLACE = Place("shared", "team")


def test_the_job_is_restricted_and_writes_as_the_trials_did() -> None:
    job = clearing.build(LEFT, PLACE, "kubetune/trial:1")
    assert "ownerReferences" not in job["metadata"]
    assert "finalizers" not in job["metadata"]
    assert names.LABEL_EXPERIMENT_UID not in job["metadata"]["labels"]  # it is no trial
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["fsGroup"] == 7
    assert pod["tolerations"] == SPEC["template"]["spec"]["tolerations"]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "runAsUser": 8,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (mount,) = container["volumeMounts"]
    assert mount["subPath"] == "team/uid-1"
    assert [*container["command"][3:], *container["args"]] == ["/checkpoints", "--keep", "3/1-5-ab"]


def make(root: pathlib.Path, *locations: str) -> None:
    for location in locations:
        (root / location).mkdir(parents=True)
        (root / location / "model").write_text("x")


def left(root: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*"))


def test_it_removes_all_but_what_stays(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "uid"
    make(root, "0/1-1-a", "0/1-2-b", "0/.1-3-c", "7/1-1-d", "finalists/0")
    assert kubetune_clear.main([str(root), "--keep", "0/1-2-b"]) == 0
    assert left(root) == ["0/1-2-b", "finalists/0"]
    assert kubetune_clear.main([str(root), "--keep", "0/1-2-b"]) == 0
    assert left(root) == ["0/1-2-b", "finalists/0"]
    assert kubetune_clear.main([str(root / "finalists")]) == 0
    assert kubetune_clear.main([str(root)]) == 0
    assert not root.exists()
    assert kubetune_clear.main([str(root)]) == 0


def test_it_follows_no_links(tmp_path: pathlib.Path) -> None:
    root, outside = tmp_path / "uid", tmp_path / "outside"
    make(outside, "precious")
    make(root, "0/1-1-a")
    (root / "1").symlink_to(outside)
    (root / "0" / "1-2-b").symlink_to(outside / "precious")
    kubetune_clear.main([str(root)])
    assert (outside / "precious" / "model").exists()
    assert not root.exists()


class Server:
    """Jobs by name, as `kube.client` has them."""

    def __init__(self) -> None:
        self.jobs: dict[str, Json] = {}
        self.refusal: errors.ApiError | None = None
        self.made = 0

    def get(self, resource: resources.Resource, namespace: str, name: str) -> Json:
        if name not in self.jobs:
            raise errors.NotFound(404, "NotFound", name)
        return self.jobs[name]

    def create(self, resource: resources.Resource, namespace: str, body: Json) -> Json:
        if self.refusal is not None:
            raise self.refusal
        self.made += 1
        metadata = {**body["metadata"], "uid": f"job-{self.made}"}
        self.jobs[metadata["name"]] = {**body, "metadata": metadata, "status": {}}
        return body

    def delete(self, resource: resources.Resource, namespace: str, name: str, uid: str) -> None:
        assert self.jobs.pop(name)["metadata"]["uid"] == uid

    def end(self, condition: str) -> None:
        for job in self.jobs.values():
            job["status"] = {"conditions": [{"type": condition, "status": "True"}]}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def experiment() -> Experiment:
    storage = memory.MemoryStorage(Time())
    storage.acquire("test")
    made = Experiment(storage)
    made.create(0, 1)
    storage.save_spec(made.uid, base.KeptSpec(1, SPEC))
    for number in (0, 1):
        checkpoint = Checkpoint(number, 1, 1, f"{number}/1-1", "0" * 64, 1, 1)
        storage.commit_checkpoint(made.who(number), checkpoint)
        made.finish(number)
    storage.release_checkpoints(made.uid, [1])
    return made


@pytest.fixture
def chore(server: Server, experiment: Experiment) -> clearing.Clearing:
    return clearing.Clearing(server, experiment.storage, lambda: "image")  # type: ignore[arg-type]


def end(experiment: Experiment) -> None:
    experiment.storage.end_study(experiment.uid, Reason.MAX_TRIALS, "")


def test_nothing_is_made_before_the_end(server: Server, chore: clearing.Clearing) -> None:
    chore.turn()
    assert server.made == 0


def test_one_job_until_it_is_done(server: Server, chore: clearing.Clearing, experiment: Experiment) -> None:
    end(experiment)
    chore.turn()
    chore.turn()
    assert server.made == 1
    assert len(experiment.storage.leftovers()) == 1
    server.end("Complete")
    chore.turn()
    assert (server.jobs, experiment.storage.leftovers()) == ({}, [])
    chore.turn()
    assert server.made == 1


def test_a_failed_one_is_left_to_be_looked_at(server: Server, chore: clearing.Clearing, experiment: Experiment) -> None:
    end(experiment)
    chore.turn()
    server.end("Failed")
    chore.turn()
    assert len(server.jobs) == 1
    server.jobs.clear()  # ttlSecondsAfterFinished
    chore.turn()
    assert server.made == 2


def test_deleted_meanwhile_the_best_goes_too(server: Server, chore: clearing.Clearing, experiment: Experiment) -> None:
    end(experiment)
    chore.turn()
    experiment.storage.delete_study(experiment.uid)
    server.end("Complete")
    chore.turn()  # it has kept the best's
    assert server.jobs == {}
    chore.turn()
    (job,) = server.jobs.values()
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == []
    server.end("Complete")
    chore.turn()
    assert experiment.storage.leftovers() == []


class Away:
    """An object storage that fails so."""

    def __init__(self, fault: s3.Unavailable) -> None:
        self.fault = fault
        self.asked: list[str] = []

    def remove_but(self, uid: str, keep: Collection[str]) -> None:
        self.asked.append(uid)
        raise self.fault

    def remove(self, uid: str, location: str) -> None:
        self.remove_but(uid, ())


@pytest.mark.parametrize(("fault", "times"), [(s3.NoAnswer("timeout"), 1), (s3.Unavailable("one is locked: 403"), 6)])
def test_a_store_that_does_not_answer_is_asked_once_in_a_turn(
    server: Server, experiment: Experiment, fault: s3.Unavailable, times: int
) -> None:
    """Each asking waits for a minute, while others of the chores wait too; one that answers is asked for all."""
    storage, store = experiment.storage, Away(fault)
    for _ in range(3):
        made = Experiment(storage)
        made.create(0)
        storage.save_spec(made.uid, base.KeptSpec(1, {**SPEC, "checkpoints": {"s3": {}}}))
        storage.commit_checkpoint(made.who(0), Checkpoint(0, 1, 1, "0/1-1", "0" * 64, 1, 1, S3))
        made.finish(0)
        storage.release_checkpoints(made.uid, [])
        end(made)
    chore = clearing.Clearing(server, storage, lambda: "image", store)  # type: ignore[arg-type]
    chore.turn()
    assert len(store.asked) == times
    chore.turn()
    assert len(store.asked) == 2 * times
    assert len(storage.leftovers()) == 3


class Locked:
    """An object storage that keeps one object, and removes all others."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.removed: list[str] = []

    def remove(self, uid: str, location: str) -> None:
        if location == self.location:
            raise s3.Unavailable("it is locked: 403")
        self.removed.append(location)


def test_an_object_that_is_locked_keeps_no_other_one(server: Server, experiment: Experiment) -> None:
    storage, store = experiment.storage, Locked("0/1-1")
    made = Experiment(storage)
    storage.save_spec(made.uid, base.KeptSpec(1, {**SPEC, "checkpoints": {"s3": {}}}))
    made.create(0)
    for step in (1, 2, 3):
        one = Checkpoint(0, 1, step, f"0/1-{step}", "0" * 64, 1, 1, S3)
        storage.commit_checkpoint(made.who(0), one)
    made.finish(0)
    storage.release_checkpoints(made.uid, [])
    chore = clearing.Clearing(server, storage, lambda: "image", store)  # type: ignore[arg-type]
    chore.turn()
    assert sorted(store.removed) == ["0/1-2", "0/1-3"]
    assert storage.released_objects(9) == [(made.uid, "0/1-1")]


def test_with_the_namespace_goes_the_claim(server: Server, chore: clearing.Clearing, experiment: Experiment) -> None:
    end(experiment)
    server.refusal = errors.NotFound(404, "NotFound", "namespace")
    chore.turn()
    assert experiment.storage.leftovers() == []


def test_a_quota_is_waited_for(server: Server, chore: clearing.Clearing, experiment: Experiment) -> None:
    end(experiment)
    server.refusal = errors.QuotaExceeded(403, "Forbidden", "quota")
    chore.turn()
    server.refusal = None
    chore.turn()
    assert server.made == 1
