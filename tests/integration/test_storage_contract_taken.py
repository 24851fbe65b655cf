"""What every storage promises about checkpoints that other experiments start from, on memory and on PostgreSQL."""

import contextlib
import dataclasses
import threading

import pytest

from kubetune.api import names
from kubetune.api.checkpoints import S3, Checkpoint, Start, Taken
from kubetune.api.trial import Reason
from kubetune.storage import base, record_json
from tests.conftest import Storage
from tests.integration.experiments import Experiment

DIGEST = "a" * 64


def commit(experiment: Experiment, number: int, step: int, store: str = "claim") -> Checkpoint:
    made = Checkpoint(number, 1, step, f"{number}/1-{step}", DIGEST, 7, 2, store)
    experiment.storage.commit_checkpoint(experiment.who(number), made)
    return made


def latest(experiment: Experiment, number: int) -> Checkpoint | None:
    return experiment.storage.latest_checkpoint(experiment.uid, number)


@pytest.fixture
def source(storage: Storage) -> Experiment:
    """One whose trial 0 has ended, and has left two checkpoints."""
    made = Experiment(storage)
    made.create(0, 1)
    storage.save_spec(made.uid, base.KeptSpec(1, {}))
    commit(made, 0, 3)
    commit(made, 0, 4)
    made.finish(0)
    return made


def taken(source: Experiment) -> Taken:
    found = latest(source, 0)
    assert found is not None
    return Taken(source.name, source.uid, "c", f"kubetune/{source.uid}", found)


def test_the_latest_good_one_of_an_ended_trial(source: Experiment) -> None:
    commit(source, 1, 9)
    found = latest(source, 0)
    assert found is not None
    assert (found.location, found.step, found.digest) == ("0/1-4", 4, DIGEST)
    assert latest(source, 1) is None  # it runs
    assert latest(source, 7) is None
    assert source.storage.latest_checkpoint("nobody", 0) is None
    source.storage.release_checkpoints(source.uid, [])
    assert latest(source, 0) is None


def test_it_is_recorded_once(source: Experiment) -> None:
    storage, mine, one = source.storage, Experiment(source.storage), taken(source)
    assert storage.taken_checkpoint(mine.uid) is None
    assert storage.take_checkpoint(mine.uid, one) == one
    other = dataclasses.replace(one, source="another")
    assert storage.take_checkpoint(mine.uid, other) == one
    assert storage.taken_checkpoint(mine.uid) == one
    history = storage.history(mine.namespace, mine.name)
    assert history.taken == one
    assert record_json.history(history)["initCheckpoint"]["digest"] == DIGEST
    assert storage.history(source.namespace, source.name).taken is None
    with pytest.raises(KeyError):
        storage.take_checkpoint("nobody", one)


def test_what_is_gone_cannot_be_taken(source: Experiment) -> None:
    storage, mine, one = source.storage, Experiment(source.storage), taken(source)
    storage.release_checkpoints(source.uid, [])
    with pytest.raises(base.NotCurrent, match=r"0/1-4 .* was removed"):
        storage.take_checkpoint(mine.uid, one)
    storage.delete_study(source.uid)
    with pytest.raises(base.NotCurrent, match="was deleted"):
        storage.take_checkpoint(mine.uid, one)
    assert storage.taken_checkpoint(mine.uid) is None


def left(source: Experiment) -> tuple[str, ...] | None:
    """What stays of it when it is cleared; None: there is nothing to clear."""
    return next((each.keep for each in source.storage.leftovers() if each.uid == source.uid), None)


def test_what_is_taken_stays_until_the_taker_is_deleted(source: Experiment) -> None:
    storage, mine, one = source.storage, Experiment(source.storage), taken(source)
    storage.take_checkpoint(mine.uid, one)
    assert storage.release_checkpoints(source.uid, []) == 1  # the one before it
    storage.end_study(source.uid, Reason.MAX_TRIALS, "")
    storage.delete_study(source.uid)
    assert left(source) == ("0/1-4",)
    storage.purge(-1e6)
    assert left(source) == ("0/1-4",)
    assert storage.taken_checkpoint(mine.uid) == one
    storage.delete_study(mine.uid)
    storage.purge(-1e6)  # of the taker alone: what it held is to be removed first
    assert left(source) == ()
    storage.purge(-1e6)
    assert left(source) is None
    assert storage.taken_checkpoint(mine.uid) is None


def test_one_of_a_refit_holds_the_experiment(source: Experiment) -> None:
    """The spec, with where its checkpoints lie, is that of the search."""
    storage, mine = source.storage, Experiment(source.storage)
    refit = dataclasses.replace(source, uid=names.phase_uid(source.uid, "refit"))
    refit.create(0)
    commit(refit, 0, 5)
    refit.finish(0)
    storage.take_checkpoint(mine.uid, taken(refit))
    storage.delete_study(source.uid)
    assert (left(source), left(refit)) == ((), None)
    storage.purge(-1e6)
    storage.delete_study(mine.uid)
    storage.purge(-1e6)
    assert left(refit) == ()


def test_taken_and_released_at_once_it_is_either(storage: Storage) -> None:
    """Whoever comes first; never both."""
    for _ in range(10):
        source, mine = Experiment(storage), Experiment(storage)
        source.create(0)
        commit(source, 0, 4)
        source.finish(0)
        one = taken(source)
        got: list[Taken] = []

        def take(uid: str = mine.uid, one: Taken = one, got: list[Taken] = got) -> None:
            with contextlib.suppress(base.NotCurrent):
                got.append(storage.take_checkpoint(uid, one))

        other = threading.Thread(target=take)
        other.start()
        released = storage.release_checkpoints(source.uid, [])
        other.join()
        assert len(got) + released == 1


def test_a_trial_is_told_of_its_object(source: Experiment) -> None:
    storage, mine = source.storage, Experiment(source.storage)
    mine.create(0)
    storage.save_spec(mine.uid, base.KeptSpec(1, {"initCheckpoint": {"from": {"experiment": source.name}}}))
    commit(source, 1, 6, S3)
    source.finish(1)
    assert storage.start(mine.who(0)) is None  # it is not settled
    found = latest(source, 1)
    assert found is not None
    storage.take_checkpoint(mine.uid, Taken(source.name, source.uid, "", "", found))
    assert storage.start(mine.who(0)) == Start(source.uid, "1/1-6", DIGEST)
    refit = dataclasses.replace(mine, uid=names.phase_uid(mine.uid, "refit"))
    refit.create(0)
    assert storage.start(refit.who(0)) == Start(source.uid, "1/1-6", DIGEST)


def test_what_the_kept_spec_asks_for_is_told_whatever_was_recorded_before_it(source: Experiment) -> None:
    """An edit before the first trial may have taken an object in the place of another experiment's."""
    storage, mine = source.storage, Experiment(source.storage)
    mine.create(0)
    commit(source, 1, 6, S3)
    source.finish(1)
    found = latest(source, 1)
    assert found is not None
    storage.take_checkpoint(mine.uid, Taken(source.name, source.uid, "", "", found))
    form = {"key": "resnet.tar", "sha256": DIGEST}
    storage.save_spec(mine.uid, base.KeptSpec(1, {"initCheckpoint": {"s3": form}}))
    assert storage.start(mine.who(0)) == Start("", "resnet.tar", DIGEST)
    storage.save_spec(mine.uid, base.KeptSpec(2, {}))
    assert storage.start(mine.who(0)) is None


def test_one_on_a_claim_is_mounted_and_not_told(source: Experiment) -> None:
    storage, mine = source.storage, Experiment(source.storage)
    mine.create(0)
    storage.save_spec(mine.uid, base.KeptSpec(1, {}))
    storage.take_checkpoint(mine.uid, taken(source))
    assert storage.start(mine.who(0)) is None


def test_an_object_of_the_namespace_is_for_its_own_pods(storage: Storage) -> None:
    mine = Experiment(storage)
    mine.create(0)
    form = {"key": "resnet.tar", "sha256": DIGEST}
    storage.save_spec(mine.uid, base.KeptSpec(1, {"initCheckpoint": {"s3": form}}))
    assert storage.start(mine.who(0)) == Start("", "resnet.tar", DIGEST)
    forged = dataclasses.replace(mine.who(0), namespace="team-b")
    with contextlib.suppress(base.NotCurrent):
        assert storage.start(forged) is None
    mine.finish(0)
    with pytest.raises(base.NotCurrent):
        storage.start(mine.who(0))
