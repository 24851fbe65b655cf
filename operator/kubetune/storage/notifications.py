"""A thread that waits for PostgreSQL's NOTIFY. It only wakes: what came is read from the tables."""

import contextlib
import logging
import select
import threading
from collections.abc import Callable, Mapping

import psycopg2
import psycopg2.extensions

from kubetune.storage import pool

log = logging.getLogger(__name__)

LOOK = 0.5  # seconds between looks at the stop event
RECONNECT = 2.0  # seconds


def listen(
    url: str, application: str, channels: Mapping[str, Callable[[str], None]], stop: threading.Event
) -> threading.Thread:
    """Call a channel's callback with an experiment's UID whenever something was told for it there; until ``stop`` is
    set.

    Each callback gets ``""`` after each connect: anything may have come before it. They run in the thread returned; an
    exception from one is logged.
    """
    thread = threading.Thread(target=_run, args=(url, application, channels, stop), name="listen", daemon=True)
    thread.start()
    return thread


def _run(url: str, application: str, channels: Mapping[str, Callable[[str], None]], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with contextlib.closing(pool.connect(url, application)) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("; ".join(f"LISTEN {channel}" for channel in channels))
                for callback in channels.values():
                    _call(callback, "")
                _wait(connection, channels, stop)
        except psycopg2.Error as error:
            log.warning("listening to the database broke off, again in %.0f s: %s", RECONNECT, str(error).strip())
            stop.wait(RECONNECT)


def _wait(
    connection: psycopg2.extensions.connection, channels: Mapping[str, Callable[[str], None]], stop: threading.Event
) -> None:
    while not stop.is_set():
        if not any(select.select([connection], [], [], LOOK)):
            continue
        connection.poll()
        told = dict.fromkeys((notification.channel, notification.payload) for notification in connection.notifies)
        connection.notifies.clear()
        for channel, uid in told:
            _call(channels[channel], uid)


def _call(callback: Callable[[str], None], uid: str) -> None:
    try:
        callback(uid)
    except Exception:
        log.exception("waking for %r failed", uid)
