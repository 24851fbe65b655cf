"""Workers and leases of `storage.memory`: the same rules as `lease_side` and `worker_side`, over what it keeps."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from kubetune.api.trial import Lease, TrialRow
from kubetune.storage import base, rules


class Trial(Protocol):
    """What `memory` keeps of a trial, as far as leases go. ``lease_until``: seconds since the epoch."""

    row: TrialRow
    lease_until: float
    lease_log: str | None


def seen(trial: Trial, now: float) -> TrialRow:
    """The trial's row as it is read at ``now``: whether its lease has run out is a matter of time."""
    lease = trial.row.lease
    if lease is None:
        return trial.row
    expired = lease.exit is None and trial.lease_until <= now
    return dataclasses.replace(trial.row, lease=dataclasses.replace(lease, expired=expired))


def take_end(trials: Mapping[int, Trial], who: base.Worker, ended: base.Ended, now: float) -> bool:
    """As `lease_side` does it."""
    trial = trials.get(ended.number)
    if trial is None or trial.row.lease is None or not rules.holds(trial.row, who, ended.attempt):
        return False
    exit_ = dataclasses.replace(ended.exit, message=rules.clean(ended.exit.message), time=now)
    trial.row = dataclasses.replace(trial.row, lease=dataclasses.replace(trial.row.lease, exit=exit_))
    trial.lease_log = None if ended.log is None else rules.clean(ended.log)
    return True


def grant(
    running: Mapping[int, Trial], who: base.Worker, slot: int, seconds: float, draining: bool, now: float
) -> base.Granted:
    """What the slot holds and was not told of, else the first offered attempt, else nothing."""
    wanted = (who.job_uid, who.pod_uid, slot)
    for number, trial in sorted(running.items()):
        lease = trial.row.lease
        if lease is not None and lease.exit is None and (lease.job_uid, lease.pod_uid, lease.slot) == wanted:
            trial.lease_until = now + seconds
            row = trial.row
            return base.Granted(number, row.attempt, row.params, parent=row.parent, environment=row.environment)
    if draining:
        return base.Granted(drain=True)
    for number, trial in sorted(running.items()):
        row = trial.row
        if row.offered and row.job_uid is None:
            started = now if row.started is None else row.started
            trial.row = dataclasses.replace(row, job_uid=who.job_uid, started=started, lease=Lease(*wanted))
            trial.lease_until, trial.lease_log = now + seconds, None
            return base.Granted(number, row.attempt, row.params, parent=row.parent, environment=row.environment)
    return base.Granted()
