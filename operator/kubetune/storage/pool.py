"""Connections to PostgreSQL: a bounded pool, one context manager for a transaction, and errors told apart.

A transaction either commits or leaves nothing: whatever goes wrong inside rolls it back, and a connection that does
not answer any more is thrown away together with the idle ones, which a restarted server has cut as well.
"""

import collections
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from psycopg2 import errorcodes

from kubetune.storage import base

Cursor = psycopg2.extensions.cursor

log = logging.getLogger(__name__)

WAIT_FOR_CONNECTION = 30.0  # seconds that a thread waits for one of the pool's connections
SERVER_SETTINGS = {
    "search_path": "public",  # Optuna's tables; a role named kubetune would look in our schema first
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",  # a frozen operator must not hold rows, nor its epoch, for long
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
CONNECTION_SETTINGS = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",  # milliseconds
    "client_encoding": "UTF8",
}
PASSING = {  # refusals that are no OperationalError for psycopg2 but pass
    errorcodes.READ_ONLY_SQL_TRANSACTION,  # a standby, until the failover is over
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
}
NOT_MIGRATED = {errorcodes.UNDEFINED_TABLE, errorcodes.UNDEFINED_COLUMN, errorcodes.INVALID_SCHEMA_NAME}


def connect(url: str, application: str, **settings: str) -> psycopg2.extensions.connection:
    """A new connection. What the URL itself says about timeouts and options stands.

    Args:
        url: ``postgresql://user:password@host:port/database?sslmode=…``, as libpq reads it.
        application: shown in pg_stat_activity.
        settings: of the server, for this session; they take precedence over `SERVER_SETTINGS`.
    """
    given = psycopg2.extensions.parse_dsn(url)
    options = " ".join(f"-c {name}={value}" for name, value in {**SERVER_SETTINGS, **settings}.items())
    arguments: dict[str, Any] = {**CONNECTION_SETTINGS, "application_name": application, **given}
    arguments["options"] = f"{options} {given.get('options', '')}".strip()
    connection: psycopg2.extensions.connection = psycopg2.connect(**arguments)
    return connection


def translated(error: psycopg2.Error) -> base.StorageUnavailable | None:
    """What the callers know this error as; None: it is a defect, not a passing state of the database."""
    text = str(error).strip().replace("\n", " ")
    if error.pgcode in NOT_MIGRATED:
        return base.StorageUnavailable(f"the database is not migrated: run `python -m kubetune migrate` ({text})")
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or error.pgcode in PASSING:
        return base.StorageUnavailable(text)
    return None


class Pool:
    """At most ``size`` connections, opened when needed, for any number of threads."""

    def __init__(self, url: str, size: int, application: str) -> None:
        self.url = url
        self.application = application
        self._slots = threading.BoundedSemaphore(size)
        self._idle: collections.deque[psycopg2.extensions.connection] = collections.deque()

    def transaction(self, first: str = "") -> contextlib.AbstractContextManager[Cursor]:
        """A cursor in a transaction of its own, committed at the end of the block, rolled back by any exception.

        Args:
            first: its first statement; its results are the cursor's. Sent with BEGIN: a round trip less.

        Raises:
            StorageUnavailable: the database is away or refuses for a passing reason, or all connections are in use.
        """
        return self._cursor(_whole(f"BEGIN; {first}"))

    def reading(self) -> contextlib.AbstractContextManager[Cursor]:
        """A cursor each of whose statements is a transaction of its own. Raises as `transaction` does."""
        return self._cursor(contextlib.nullcontext)

    @contextlib.contextmanager
    def _cursor(self, around: Callable[[Cursor], contextlib.AbstractContextManager[object]]) -> Iterator[Cursor]:
        if not self._slots.acquire(timeout=WAIT_FOR_CONNECTION):
            raise base.StorageUnavailable(f"no connection was free for {WAIT_FOR_CONNECTION:.0f} s")
        try:
            with self._connection() as connection, connection.cursor() as cursor, around(cursor):
                yield cursor
        except psycopg2.Error as error:
            passing = translated(error)
            if passing is None:
                raise
            raise passing from error
        finally:
            self._slots.release()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg2.extensions.connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self.url, self.application)
            connection.autocommit = True  # BEGIN and COMMIT are sent by us
        try:
            yield connection
        except BaseException:
            self._roll_back(connection)
            raise
        self._idle.append(connection)

    def _roll_back(self, connection: psycopg2.extensions.connection) -> None:
        try:
            if connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
                with connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")
        except psycopg2.Error:
            log.warning("a connection to the database broke; all idle ones are opened anew")
            connection.close()
            self.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections; those in use go on."""
        while self._idle:
            with contextlib.suppress(IndexError, psycopg2.Error):
                self._idle.pop().close()


def _whole(begin: str) -> Callable[[Cursor], contextlib.AbstractContextManager[None]]:
    @contextlib.contextmanager
    def around(cursor: Cursor) -> Iterator[None]:
        cursor.execute(begin)
        yield
        cursor.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise base.StorageUnavailable("the transaction was rolled back: a statement in it had failed")

    return around


def with_values(
    cursor: Cursor, statement: str, rows: Sequence[tuple[Any, ...]], template: str | None = None
) -> list[tuple[Any, ...]]:
    """One statement over all rows (``VALUES %s``), in their order; nothing for no rows. Returns what it returns.

    Args:
        template: of one row, where PostgreSQL cannot see a column's type from its values (arrays, only NULLs).
    """
    if not rows:
        return []
    psycopg2.extras.execute_values(cursor, statement, rows, template=template, page_size=len(rows))
    return cursor.fetchall() if cursor.description else []


def values(cursor: Cursor, statement: str, rows: Sequence[tuple[Any, ...]], template: str | None = None) -> bytes:
    """The text of one statement over all rows (``VALUES %s``), to be sent with others in one round trip; empty for no
    rows. ``template``: as for `with_values`."""
    if not rows:
        return b""
    before, _, after = statement.partition("%s")
    template = template or f"({', '.join(['%s'] * len(rows[0]))})"
    listed = b",".join(cursor.mogrify(template, row) for row in rows)
    return before.encode() + listed + after.encode()


def joined(*statements: bytes) -> bytes:
    """One text of statements, some of which may be empty."""
    return b";".join(statement for statement in statements if statement)


def together(cursor: Cursor, *statements: bytes) -> None:
    """Send statements in one round trip; the cursor has the last one's results. Empty ones are left out."""
    if text := joined(*statements):
        cursor.execute(text)
