"""Notifications at commit. They only wake: whoever is woken reads the tables."""

from kubetune.api import names
from kubetune.storage import pool


def engine(cursor: pool.Cursor, uid: str) -> None:
    """The experiment's engine has something to read."""
    cursor.execute("SELECT pg_notify(%s, %s)", (names.NOTIFY_CHANNEL, uid))


def workers(cursor: pool.Cursor, uid: str) -> None:
    """The experiment's workers may find something new: their gateways hold requests that wait for it."""
    cursor.execute("SELECT pg_notify(%s, %s)", (names.OFFER_CHANNEL, uid))
