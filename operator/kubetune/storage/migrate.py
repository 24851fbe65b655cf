"""Bring a database to what this version needs: Optuna's tables by Optuna, ours by alembic, both idempotent."""

import contextlib
import logging
import pathlib
import time
from collections.abc import Iterator

import alembic.command
import alembic.config
import alembic.script
import optuna
import psycopg2
import sqlalchemy

from kubetune.storage import base, pool

log = logging.getLogger(__name__)

SCHEMA = "kubetune"
VERSION_TABLE = "kubetune_version"  # not alembic's default: a role named kubetune has our schema first in its path
LOCK = 0x6B756265  # of pg_advisory_lock: one migration at a time
APPLICATION = "kubetune-migrate"
UNLIMITED = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}
LOOK = 2.0  # seconds between attempts to connect


def migrate(url: str, wait: float = 120.0) -> None:
    """Create or upgrade both schemas. Safe to run at any time, also twice at once.

    Args:
        url: as for `postgres.PostgresStorage`; the role must own the database or may create in it and in ``public``.
        wait: seconds to wait for the database to answer.

    Raises:
        TimeoutError: it did not answer.
        RuntimeError: Optuna's tables are of a version that this Optuna does not know.
    """
    _wait_for(url, wait)
    with _alone(url):
        _optuna_schema(url)
        _own_schema(url)
    log.info("the database is up to date")


def check(url: str) -> None:
    """Raises StorageUnavailable unless our tables are exactly of this version: an operator must not write to others,
    older or (in a rolling upgrade) newer ones."""
    needed = alembic.script.ScriptDirectory.from_config(_config()).get_current_head()
    try:
        with contextlib.closing(pool.connect(url, APPLICATION)) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}")
            (found,) = cursor.fetchone() or (None,)
    except psycopg2.Error as error:
        raise pool.translated(error) or error from error
    if found != needed:
        raise base.StorageUnavailable(f"the database is of version {found}, this operator needs {needed}")


def _wait_for(url: str, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            pool.connect(url, APPLICATION).close()
        except psycopg2.OperationalError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the database did not answer within {wait:.0f} s: {str(error).strip()}") from error
            log.info("waiting for the database, %.0f s left: %s", left, str(error).strip())
            time.sleep(min(LOOK, left))
        else:
            return


@contextlib.contextmanager
def _alone(url: str) -> Iterator[None]:
    with contextlib.closing(pool.connect(url, APPLICATION, **UNLIMITED)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
            if cursor.fetchone() == (False,):
                log.info("another migration is under way; waiting for it")
                cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            yield


def _engine(url: str) -> sqlalchemy.Engine:
    """Connections are made by libpq's rules, as everywhere in kubetune, whatever SQLAlchemy thinks of the URL."""
    return sqlalchemy.create_engine(
        "postgresql+psycopg2://",
        creator=lambda: pool.connect(url, APPLICATION, **UNLIMITED),
        poolclass=sqlalchemy.NullPool,
    )


def _optuna_schema(url: str) -> None:
    storage = optuna.storages.RDBStorage(
        "postgresql+psycopg2://",
        engine_kwargs={
            "creator": lambda: pool.connect(url, APPLICATION, **UNLIMITED),
            "poolclass": sqlalchemy.NullPool,
        },
    )
    storage.remove_session()
    storage.engine.dispose()


def _own_schema(url: str) -> None:
    config = _config()
    engine = _engine(url)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        connection.commit()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")
    engine.dispose()


def _config() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(pathlib.Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
