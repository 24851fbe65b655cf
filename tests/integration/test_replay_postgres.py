"""What PostgreSQL keeps of legs, promotions and what comes after a search is enough to decide all of it again."""

import itertools
import uuid
from collections.abc import Iterator

import pytest

from kubetune.engine import again
from kubetune.storage.postgres import PostgresStorage
from tests.unit.test_replay import in_legs, phases_of, with_phases


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresStorage]:
    ticks = itertools.count(1_700_000_000)
    storage = PostgresStorage(postgres_url, clock=lambda: float(next(ticks) // 7))
    yield storage
    storage.close()


@pytest.mark.parametrize("name", ["asha", "folds, halved", "replicates"])
def test_trials_of_several_legs_decide_the_same_again(database: PostgresStorage, name: str) -> None:
    uid = str(uuid.uuid4())
    world = in_legs(name, 1, database, uid=uid, max_trials=12)
    verdict = again.replay(world.record())
    assert (verdict.differences, verdict.notes) == ([], [])
    assert (verdict.asked, verdict.legs > 12, verdict.promotions > 0) == (12, True, name == "asha")


def test_what_came_after_the_search_is_decided_again(database: PostgresStorage) -> None:
    uid = str(uuid.uuid4())
    world, winner = with_phases(database, uid=uid, max_trials=8)
    search, versions, found = world.record(), database.versions(uid), phases_of(world, winner)
    history = database.history("team", world.spec.name)
    assert (list(history.phases), list(history.versions)) == (["finalists", "refit", "test"], versions)
    for place, each in enumerate(found):
        verdict = again.replay_phase(search, found[:place], each, versions)
        assert (verdict.differences, verdict.notes) == ([], []), each.name
        assert verdict.asked == len(each.study.trials) > 0
