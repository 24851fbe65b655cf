"""Notifications at commit. They only wake: whoever is woken reads the tables."""

from kubetune.api import names
from kubetune.storage import pool


def engine(cursor: pool.Cursor, uid: str) -> None:
    """The experiment's engine has something to read."""
    cursor.execute("SELECT pg_notify(%s, %s)", (names.NOTIFY_CHANNEL, uid))


def engine_of_an_end(cursor: pool.Cursor, uid: str) -> None:
    """The same, and it is urgent: a worker's slot is free. On both channels, for operators that know only one."""
    cursor.execute(
        "SELECT pg_notify(channel, %s) FROM unnest(%s::text[]) AS channel",
        (uid, [names.NOTIFY_CHANNEL, names.ENDED_CHANNEL]),
    )


def workers(cursor: pool.Cursor, uid: str) -> None:
    """The experiment's workers may find something new: their gateways hold requests that wait for it."""
    cursor.execute("SELECT pg_notify(%s, %s)", (names.OFFER_CHANNEL, uid))
