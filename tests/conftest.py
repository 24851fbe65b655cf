"""Fixtures of every suite: a real PostgreSQL that is thrown away, and the storages over it and over memory."""

import itertools
import os
from collections.abc import Iterator

import hypothesis
import pytest

from kubetune.storage import memory, migrate, postgres
from tests import postgresql

# How long an example takes says nothing on a machine that others use too; in CI the same examples come each time.
hypothesis.settings.register_profile(
    "kubetune",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
hypothesis.settings.load_profile("kubetune")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgresql.Server]:
    """A PostgreSQL server for the session. Fails, saying what to install, where there is none."""
    with postgresql.running() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: postgresql.Server) -> str:
    """A migrated database, shared by the session: tests tell their experiments apart by UID and name."""
    url = postgres_server.create_database()
    migrate.migrate(url)
    return url


@pytest.fixture
def empty_database(postgres_server: postgresql.Server) -> str:
    """The URL of a database of this test alone, without any table."""
    return postgres_server.create_database()


class TickingClock:
    """Seconds since the epoch, one more at each look: times of different events differ."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1_700_000_000)

    def __call__(self) -> float:
        return float(next(self._ticks))


Storage = memory.MemoryStorage | postgres.PostgresStorage


@pytest.fixture(params=["memory", "postgres"])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """A storage that has acquired the epoch, of each kind: the contract is one."""
    if request.param == "memory":
        in_memory = memory.MemoryStorage(TickingClock())
        in_memory.acquire("test")
        yield in_memory
        return
    real = postgres.PostgresStorage(request.getfixturevalue("postgres_url"), clock=TickingClock())
    real.acquire("test")
    yield real
    real.close()


@pytest.fixture
def successor(storage: Storage) -> Iterator[Storage]:
    """Another operator on the same database, which has not acquired anything yet."""
    if isinstance(storage, memory.MemoryStorage):
        yield memory.MemoryStorage(storage.clock, storage.database)
        return
    real = postgres.PostgresStorage(storage.url, clock=storage.clock)
    yield real
    real.close()
