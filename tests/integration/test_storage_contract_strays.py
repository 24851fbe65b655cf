"""What every storage promises about objects that were sent and never committed, on memory and on PostgreSQL."""

import pytest

from kubetune.api.checkpoints import S3, Checkpoint
from kubetune.storage import base
from kubetune.storage.base import SETTLED, SWEEP_EVERY, SWEEP_PATIENCE
from tests.integration.experiments import Experiment


def wait(experiment: Experiment, seconds: float) -> None:
    """The clock says a second more whenever it is looked at."""
    for _ in range(int(seconds)):
        experiment.storage.clock()


def is_due(experiment: Experiment) -> bool:
    return experiment.uid in experiment.storage.unswept(10_000)


def test_who_sent_nothing_is_not_looked_through(experiment: Experiment) -> None:
    experiment.create(0)
    wait(experiment, SWEEP_EVERY + 10)
    assert not is_due(experiment)


def test_who_sends_is_looked_through_until_all_is_old(experiment: Experiment) -> None:
    storage = experiment.storage
    experiment.create(0)
    assert storage.uploading(experiment.who(0)) == base.Answer(0, False, "")
    assert not is_due(experiment)  # all of it is young
    wait(experiment, SWEEP_EVERY + 10)
    assert is_due(experiment)
    storage.uploading(experiment.who(0))
    storage.swept(experiment.uid, storage.clock())
    assert not is_due(experiment)
    wait(experiment, SWEEP_EVERY + 10)
    assert is_due(experiment)
    wait(experiment, SETTLED)
    storage.swept(experiment.uid, storage.clock())
    wait(experiment, 2 * SWEEP_EVERY)
    assert not is_due(experiment)
    storage.uploading(experiment.who(0))
    assert is_due(experiment)


def test_an_attempt_that_is_over_gets_no_address(experiment: Experiment) -> None:
    experiment.create(0)
    experiment.lose(0)
    with pytest.raises(base.NotCurrent):
        experiment.storage.uploading(experiment.who(0))
    wait(experiment, SWEEP_EVERY + 10)
    assert not is_due(experiment)


def test_what_is_recorded_is_no_stray(experiment: Experiment) -> None:
    storage = experiment.storage
    experiment.create(0)
    for step in (1, 2, 3):
        one = Checkpoint(0, 1, step, f"0/1-{step}", "a" * 64, 7, 2, S3)
        storage.commit_checkpoint(experiment.who(0), one)
    asked = ["0/1-1", "0/1-2", "0/1-3", "0/1-9"]
    assert storage.unrecorded(experiment.uid, asked) == ["0/1-9"]
    storage.removed_objects([(experiment.uid, "0/1-1")])
    assert storage.unrecorded(experiment.uid, asked) == ["0/1-1", "0/1-9"]
    assert storage.unrecorded(experiment.uid, []) == []


def test_a_study_is_purged_once_it_was_looked_through(experiment: Experiment) -> None:
    storage, other = experiment.storage, Experiment(experiment.storage)
    for each in (experiment, other):
        each.create(0)
        storage.uploading(each.who(0))
        storage.delete_study(each.uid)
    wait(experiment, SETTLED + 10)
    assert is_due(experiment)
    storage.swept(experiment.uid, storage.clock())
    storage.purge(1)
    assert storage.load_trials(experiment.uid) == []
    assert len(storage.load_trials(other.uid)) == 1
    storage.purge(1 - SWEEP_PATIENCE)  # as if so much time had gone by
    assert storage.load_trials(other.uid) == []
