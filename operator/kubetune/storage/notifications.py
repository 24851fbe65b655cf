"""A thread that waits for PostgreSQL's NOTIFY. It only wakes: what came is read from the tables."""

import contextlib
import logging
import select
import threading
from collections.abc import Callable

import psycopg2
import psycopg2.extensions

from kubetune.api import names
from kubetune.storage import pool

log = logging.getLogger(__name__)

LOOK = 0.5  # seconds between looks at the stop event
RECONNECT = 2.0  # seconds


def listen(
    url: str,
    application: str,
    callback: Callable[[str], None],
    stop: threading.Event,
    channel: str = names.NOTIFY_CHANNEL,
) -> threading.Thread:
    """Call ``callback`` with an experiment's UID whenever something was committed for it; until ``stop`` is set.

    The callback gets ``""`` after each connect: anything may have come before it. It runs in the thread returned; an
    exception from it is logged.
    """
    thread = threading.Thread(target=_run, args=(url, application, callback, stop, channel), name="listen", daemon=True)
    thread.start()
    return thread


def _run(url: str, application: str, callback: Callable[[str], None], stop: threading.Event, channel: str) -> None:
    while not stop.is_set():
        try:
            with contextlib.closing(pool.connect(url, application)) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute(f"LISTEN {channel}")
                _call(callback, "")
                _wait(connection, callback, stop)
        except psycopg2.Error as error:
            log.warning("listening to the database broke off, again in %.0f s: %s", RECONNECT, str(error).strip())
            stop.wait(RECONNECT)


def _wait(connection: psycopg2.extensions.connection, callback: Callable[[str], None], stop: threading.Event) -> None:
    while not stop.is_set():
        if not any(select.select([connection], [], [], LOOK)):
            continue
        connection.poll()
        uids = dict.fromkeys(notification.payload for notification in connection.notifies)
        connection.notifies.clear()
        for uid in uids:
            _call(callback, uid)


def _call(callback: Callable[[str], None], uid: str) -> None:
    try:
        callback(uid)
    except Exception:
        log.exception("waking for %r failed", uid)
