"""Which checkpoint of another experiment a new one starts from, and what is said while there is none."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from kubetune.api import names
from kubetune.api.checkpoints import S3, Checkpoint, InitCheckpoint, Taken
from kubetune.api.spec import ExperimentSpec, InvalidSpec, Metrics
from kubetune.api.trial import Reason
from kubetune.engine import weights
from kubetune.engine.engine import Engine
from kubetune.storage.base import KeptSpec
from kubetune.storage.memory import MemoryStorage
from tests.integration.experiments import Experiment, completed, failed
from tests.unit.clock import Time
from tests.unit.engine_objects import spec

KEPT: dict[str, Any] = {"checkpoints": {"claim": "shared", "path": "team"}}
WANTED = InitCheckpoint(source="other")


@pytest.fixture
def storage() -> MemoryStorage:
    made = MemoryStorage(Time())
    made.acquire("test")
    return made


def other(storage: MemoryStorage, kept: dict[str, Any] = KEPT, **fields: Any) -> Experiment:
    made = Experiment(storage, namespace=fields.pop("namespace", "team"), name="other", **fields)
    storage.save_spec(made.uid, KeptSpec(1, kept))
    return made


def ended(
    experiment: Experiment, values: Sequence[float | tuple[float, ...] | None], over: bool = True, store: str = "claim"
) -> None:
    """One trial for each: with a checkpoint of its own, complete with this value, or failed."""
    experiment.create(*range(len(values)))
    for number, value in enumerate(values):
        one = Checkpoint(number, 1, number + 10, f"{number}/1-x", f"{number}" * 64, 1, 1, store)
        experiment.storage.commit_checkpoint(experiment.who(number), one)
        several = value if isinstance(value, tuple) else (value,)
        experiment.finish(number, failed() if value is None else completed(*(v for v in several if v is not None)))
    if over:
        experiment.storage.end_study(experiment.uid, Reason.MAX_TRIALS, "")


def found(storage: MemoryStorage, given: InitCheckpoint = WANTED, **changes: Any) -> Taken:
    return weights.find(spec(init_checkpoint=given, **changes), given, storage)


def refused(storage: MemoryStorage, given: InitCheckpoint = WANTED, **changes: Any) -> str:
    with pytest.raises(InvalidSpec) as caught:
        found(storage, given, **changes)
    return str(caught.value)


def test_the_best_trials_where_it_lies(storage: MemoryStorage) -> None:
    source = other(storage)
    ended(source, [0.5, 0.25, None, 0.25, 0.75])
    one = found(storage)
    assert (one.source, one.uid, one.claim, one.folder) == ("other", source.uid, "shared", f"team/{source.uid}")
    assert (one.checkpoint.trial, one.checkpoint.step, one.checkpoint.digest) == (1, 11, "1" * 64)


def test_what_is_to_be_maximized_is(storage: MemoryStorage) -> None:
    ended(other(storage, directions=("maximize",)), [0.5, 0.25, 0.75])
    assert found(storage).checkpoint.trial == 2


def test_of_one_name_the_newest(storage: MemoryStorage) -> None:
    ended(other(storage), [0.5])
    newer = other(storage)
    ended(newer, [0.5, 0.1])
    assert found(storage).uid == newer.uid


def test_a_trial_that_is_named(storage: MemoryStorage) -> None:
    source = other(storage)
    ended(source, [0.5, 0.25], over=False)
    assert found(storage, dataclasses.replace(WANTED, trial=0)).checkpoint.trial == 0
    source.create(2)
    assert "trial 2 of other is still running" in refused(storage, dataclasses.replace(WANTED, trial=2))
    assert "no checkpoint of trial 3 of other" in refused(storage, dataclasses.replace(WANTED, trial=3))


def test_of_a_front_one_must_be_named(storage: MemoryStorage) -> None:
    source = other(storage, metrics=("loss", "size"), directions=("minimize", "minimize"))
    ended(source, [(0.5, 1.0), (0.25, 2.0), (0.6, 3.0)])
    assert "initCheckpoint.from.trial: other has 2 best trials, on a Pareto front; name one of them: 0, 1" in refused(
        storage
    )
    assert found(storage, dataclasses.replace(WANTED, trial=1)).checkpoint.trial == 1


def test_its_refits_comes_first_once_it_is_done(storage: MemoryStorage) -> None:
    source = other(storage, {**KEPT, "refit": {"args": ["--all"]}})
    ended(source, [0.5])
    assert "the refit of other is not done" in refused(storage)  # nor begun
    refit = dataclasses.replace(source, uid=names.phase_uid(source.uid, "refit"))
    ended(refit, [1.0], over=False)
    assert "the refit of other is not done" in refused(storage)
    assert found(storage, dataclasses.replace(WANTED, trial=0)).uid == source.uid
    storage.end_study(refit.uid, Reason.MAX_TRIALS, "")
    one = found(storage)
    assert (one.uid, one.folder) == (refit.uid, f"team/{source.uid}/refit")


def test_a_refit_that_saved_none_or_failed_leaves_the_best_trials(storage: MemoryStorage) -> None:
    source = other(storage, {**KEPT, "refit": {}})
    ended(source, [0.5])
    refit = dataclasses.replace(source, uid=names.phase_uid(source.uid, "refit"))
    ended(refit, [None])
    assert found(storage).uid == source.uid


def test_what_a_test_or_finalists_saved_is_not_taken(storage: MemoryStorage) -> None:
    source = other(storage)
    ended(source, [0.5])
    for phase in ("test", "finalists"):
        ended(dataclasses.replace(source, uid=names.phase_uid(source.uid, phase)), [0.1])
    assert found(storage).uid == source.uid


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({}, "initCheckpoint.from.experiment: there is no experiment other in this namespace"),
        ({"namespace": "team-b"}, "there is no experiment other in this namespace"),
        ({"kept": {}}, "other has no spec.checkpoints"),
        ({"over": False}, "other is still running; this experiment begins once that one has ended"),
        ({"values": [None]}, "other has no complete trial"),
        ({"released": True}, "no checkpoint of trial 0 of other is there"),
    ],
)
def test_what_cannot_be_found_is_said(storage: MemoryStorage, there: dict[str, Any], message: str) -> None:
    if there:
        source = other(storage, there.get("kept", KEPT), namespace=there.get("namespace", "team"))
        ended(source, there.get("values", [0.5]), there.get("over", True))
        if there.get("released"):
            storage.release_checkpoints(source.uid, [])
    assert message in refused(storage)


def test_itself_is_no_other() -> None:
    with pytest.raises(InvalidSpec, match="digits is this experiment itself"):
        weights.check(spec(init_checkpoint=InitCheckpoint(source="digits")))


def test_an_object_takes_the_client(storage: MemoryStorage) -> None:
    ended(other(storage, {"checkpoints": {"s3": {}}}), [0.5], store=S3)
    one = found(storage)
    assert (one.claim, one.folder, one.checkpoint.store) == ("", "", S3)
    assert "takes metrics.from: push" in refused(storage, metrics=Metrics("log"))


def opened(storage: MemoryStorage, made: ExperimentSpec) -> Engine:
    return Engine(made, storage, storage.clock)


def test_it_is_settled_when_the_experiment_begins(storage: MemoryStorage) -> None:
    made = spec(init_checkpoint=WANTED)
    with pytest.raises(InvalidSpec, match="there is no experiment other"):
        opened(storage, made)
    assert storage.studies() == []  # nothing that would bind it later
    source = other(storage)
    ended(source, [0.5])
    first = opened(storage, made).taken
    assert first is not None
    assert first.uid == source.uid
    ended(other(storage), [0.5, 0.1])
    storage.delete_study(source.uid)
    assert opened(storage, made).taken == first


@pytest.mark.parametrize("changed", [InitCheckpoint(source="another"), InitCheckpoint(source="other", trial=1)])
def test_what_it_began_with_is_not_changed_by_an_edit_before_its_first_trial(
    storage: MemoryStorage, changed: InitCheckpoint
) -> None:
    """Else its trials would start from what the spec does not say."""
    for name in ("other", "another"):
        source = Experiment(storage, namespace="team", name=name)
        storage.save_spec(source.uid, KeptSpec(1, KEPT))
        ended(source, [0.5, 0.75])
    made, edited = spec(init_checkpoint=WANTED), spec(init_checkpoint=changed)
    engine = opened(storage, made)
    for give in (lambda: engine.update(edited), lambda: opened(storage, edited)):
        with pytest.raises(InvalidSpec, match="has begun with the checkpoint of trial 0 of other; create a new"):
            give()
    assert engine.taken == opened(storage, made).taken


def test_another_experiments_cannot_be_given_to_one_that_has_begun(storage: MemoryStorage) -> None:
    ended(other(storage), [0.5])
    engine = opened(storage, spec())
    with pytest.raises(InvalidSpec, match=r"initCheckpoint\.from: it cannot be given once started"):
        engine.update(spec(init_checkpoint=WANTED))


def test_removed_between_being_found_and_being_recorded_it_is_found_again(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = other(storage)
    ended(source, [0.5, 0.75])
    find = weights.find

    def late(*arguments: Any) -> Taken:
        one = find(*arguments)
        storage.release_checkpoints(source.uid, [1])
        return one

    monkeypatch.setattr(weights, "find", late)
    with pytest.raises(InvalidSpec, match=r"initCheckpoint.from: the checkpoint 0/1-x of other was removed"):
        opened(storage, spec(init_checkpoint=WANTED))
