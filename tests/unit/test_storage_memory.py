"""Faults of the storage in memory, which the simulator injects at every write."""

import pytest

from kubetune.api.trial import Ending, Reason, TrialState
from kubetune.storage import base, memory


class Faults:
    """Raises at the one place named."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.seen: list[str] = []

    def __call__(self, where: str) -> None:
        self.seen.append(where)
        if where == self.where:
            raise base.StorageUnavailable(where)


def opened(fault: Faults | None = None) -> memory.MemoryStorage:
    storage = memory.MemoryStorage(lambda: 1.0)
    storage.acquire("test")
    storage.open_study("uid", "ns", "name", ("loss",), ("minimize",))
    storage.create_trials("uid", {}, [base.NewTrial(0, {})])
    storage.record_job("uid", 0, 1, "job")
    storage.fault = fault
    return storage


def write(storage: memory.MemoryStorage) -> None:
    storage.finish_trial("uid", 0, 1, lambda *_: Ending(TrialState.COMPLETE, Reason.COMPLETED, "", (1.0,)), None)


def test_a_fault_before_leaves_everything_as_it_was() -> None:
    storage = opened(Faults("before:finish_trials"))
    with pytest.raises(base.StorageUnavailable):
        write(storage)
    assert storage.load_trials("uid")[0].state is TrialState.RUNNING


def test_a_fault_after_comes_when_all_is_written() -> None:
    storage = opened(Faults("after:finish_trials"))
    with pytest.raises(base.StorageUnavailable):
        write(storage)
    assert storage.load_trials("uid")[0].state is TrialState.COMPLETE


def test_every_method_is_called_for_twice() -> None:
    faults = Faults("nowhere")
    storage = opened(faults)
    who = base.Identity("uid", "ns", "name", 0, 1, "job", "pod")
    storage.accept([base.Incoming(who, "key", None, {"loss": 1.0})])
    storage.new_attempt("uid", 0, 1, Reason.EVICTED, "")
    assert faults.seen == ["before:accept", "after:accept", "before:new_attempt", "after:new_attempt"]


def test_a_database_that_is_away_is_not_healthy() -> None:
    assert opened().healthy()
    assert not opened(Faults("before:healthy")).healthy()
