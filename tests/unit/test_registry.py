"""Which experiments there are, by what watches and lists say; and when a study is marked deleted."""

from typing import Any

import pytest

from kubetune.api import spec
from kubetune.api.trial import TrialRow
from kubetune.controller.registry import Deleted, Registry, is_deleting
from kubetune.storage.base import KeptSpec, StorageUnavailable, StudyRow, Version

Json = dict[str, Any]


class Studies:
    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.kept: dict[str, KeptSpec] = {}
        self.away = False

    def studies(self) -> list[StudyRow]:
        return []

    def delete_study(self, uid: str) -> None:
        if self.away:
            raise StorageUnavailable("away")
        self.deleted.append(uid)

    def phases(self, uid: str) -> list[StudyRow]:
        return []

    def versions(self, uid: str) -> list[Version]:
        return []

    def load_trials(self, uid: str) -> list[TrialRow]:
        return []

    def load_spec(self, uid: str) -> KeptSpec | None:
        return self.kept.get(uid)

    def save_spec(self, uid: str, kept: KeptSpec) -> None:
        self.kept[uid] = kept


class Bench:
    """A registry that notes whose engines it builds."""

    def __init__(self) -> None:
        self.now = 100.0
        self.studies = Studies()
        self.built: list[str] = []
        self.told: list[Deleted] = []
        self.registry = Registry(self.studies, self._build, self.told.append, lambda: self.now)

    def _build(self, what: spec.ExperimentSpec) -> Any:
        self.built.append(what.uid)
        return object()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def experiment(uid: str = "u1", version: int = 5, generation: int = 1, namespace: str = "ns", **more: Any) -> Json:
    metadata = {"uid": uid, "namespace": namespace, "name": f"x-{uid}", "resourceVersion": str(version)}
    return {
        "metadata": {**metadata, "generation": generation, **more},
        "spec": {
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": {"lr": {"double": [0, 1]}},
            "template": {"spec": {"containers": [{"name": "trial", "image": "x"}]}},
        },
    }


def study(uid: str, namespace: str = "ns") -> StudyRow:
    return StudyRow(uid, namespace, f"x-{uid}", f"{namespace}/x-{uid}", 0.0)


def test_news_are_a_new_experiment_a_new_spec_and_a_deletion_begun(bench: Bench) -> None:
    put = bench.registry.put
    assert put(experiment(version=5))
    assert not put(experiment(version=5))
    assert not put(experiment(version=6))  # its status changed: our own doing
    assert put(experiment(version=7, generation=2))
    assert not put(experiment(version=6, generation=1))  # late
    assert bench.registry.resource("u1") == experiment(version=7, generation=2)
    assert put(experiment(version=8, generation=2, deletionTimestamp="2026-01-01T00:00:00Z"))
    assert is_deleting(bench.registry.resource("u1") or {})


def test_a_deleted_experiment_is_recorded_once_and_does_not_come_back(bench: Bench) -> None:
    bench.registry.put(experiment())
    assert bench.registry.gone(experiment(version=9))
    assert bench.registry.resource("u1") is None
    assert not bench.registry.put(experiment(version=10))
    assert bench.registry.bury("u1")
    assert not bench.registry.bury("u1")
    assert not bench.registry.gone(experiment(version=9))
    assert not bench.registry.put(experiment(version=11))
    assert bench.studies.deleted == ["u1"]
    assert bench.told == [Deleted("u1", "ns", "x-u1")]


def test_a_deletion_that_the_database_did_not_take_is_still_to_be_done(bench: Bench) -> None:
    bench.registry.gone(experiment())
    bench.studies.away = True
    with pytest.raises(StorageUnavailable):
        bench.registry.bury("u1")
    bench.studies.away = False
    assert bench.registry.bury("u1")
    assert bench.studies.deleted == ["u1"]


def test_not_being_known_is_no_proof_of_deletion(bench: Bench) -> None:
    assert not bench.registry.bury("never heard of")
    assert bench.studies.deleted == []


def test_a_list_brings_in_what_watches_missed(bench: Bench) -> None:
    bench.registry.put(experiment("u1"))
    bench.registry.put(experiment("u2"))
    listed = [experiment("u1", version=9, generation=2), experiment("u3")]
    assert bench.registry.reconcile_with(listed, [], begun=150, namespaces=()) == {"u1", "u2", "u3"}
    assert sorted(bench.registry.uids()) == ["u1", "u3"]
    assert bench.registry.bury("u2")


def test_a_list_does_not_remove_what_came_after_it_began(bench: Bench) -> None:
    bench.now = 160
    bench.registry.put(experiment("u1"))
    assert bench.registry.reconcile_with([], [], begun=150, namespaces=()) == set()
    assert bench.registry.uids() == ["u1"]


def test_studies_whose_experiment_was_deleted_while_nobody_watched(bench: Bench) -> None:
    studies = [study("u1"), study("gone"), study("foreign", "elsewhere")]
    woken = bench.registry.reconcile_with([experiment("u1")], studies, begun=150, namespaces=["ns"])
    assert woken == {"u1", "gone"}
    assert bench.registry.bury("gone")
    assert not bench.registry.bury("foreign")
    assert bench.registry.reconcile_with([experiment("u1")], studies, begun=150, namespaces=()) == {"foreign"}


def test_an_engine_is_loaded_once_until_it_is_dropped(bench: Bench) -> None:
    parsed = spec.parse(experiment())
    first = bench.registry.engine(parsed)
    assert bench.registry.engine(parsed) is first
    bench.registry.drop_engine("u1")
    assert bench.registry.engine(parsed) is not first
    bench.registry.gone(experiment())
    bench.registry.bury("u1")
    bench.registry.engine(parsed)
    assert bench.built == ["u1"] * 3


def test_where_an_experiment_is_at_home(bench: Bench) -> None:
    bench.registry.put(experiment(namespace="team-a"))
    assert (bench.registry.home("u1"), bench.registry.home("u2")) == ("team-a", None)
