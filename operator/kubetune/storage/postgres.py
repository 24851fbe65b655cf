"""PostgreSQL as both sides of the storage: the operator's and the gateway's, over one pool."""

import threading
import time
from collections.abc import Callable

from kubetune.api import names
from kubetune.storage import (
    base,
    checkpoint_side,
    lease_side,
    notifications,
    pool,
    record_side,
    release_side,
    steering_side,
    taken_side,
    version_side,
    warm_side,
    worker_side,
)


class PostgresStorage(
    worker_side.WorkerSide,
    steering_side.SteeringSide,
    warm_side.WarmSide,
    release_side.ReleaseSide,
    taken_side.TakenSide,
    taken_side.StartSide,
    version_side.VersionSide,
    version_side.ModelSide,
    checkpoint_side.CheckpointSide,
    record_side.OrderSide,
    lease_side.LeaseSide,
    record_side.RecordSide,
    base.GatewayStorage,
):
    """The operator and the gateway each have one, for all their threads.

    Args:
        url: ``postgresql://user:password@host:port/database?sslmode=…``.
        size: connections at most; threads beyond that wait.
        application: shown in pg_stat_activity.
        clock: seconds since the epoch.
    """

    def __init__(
        self, url: str, size: int = 8, application: str = "kubetune", clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(pool.Pool(url, size, application), clock)
        self.url = url
        self.application = application

    def listen(
        self, callback: Callable[[str], None], stop: threading.Event, urgent: Callable[[str], None] | None = None
    ) -> threading.Thread:
        """Call ``callback`` with an experiment's UID whenever something was committed for it, and before it ``urgent``
        if a worker's slot waits. See `notifications.listen`."""
        channels = {names.ENDED_CHANNEL: urgent} if urgent is not None else {}
        channels[names.NOTIFY_CHANNEL] = callback
        return notifications.listen(self.url, f"{self.application}-listen", channels, stop)

    def close(self) -> None:
        """Close the idle connections."""
        self.pool.close()
