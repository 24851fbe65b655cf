"""Many trials in one transaction: their Jobs recorded, their ends written; one answer for each."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

from kubetune.api.trial import Ending, JobRecord, TrialRow
from kubetune.storage import base, pool, rules, trial_ends

AT_ONCE = 100  # trials a transaction: nobody waits long for their rows, nor a new leader for the old one's

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_parts(items: Sequence[Item], write: Callable[[Sequence[Item]], list[Answer]]) -> list[Answer]:
    """The answers of ``write`` to all items, `AT_ONCE` at a time."""
    return [answer for first in range(0, len(items), AT_ONCE) for answer in write(items[first : first + AT_ONCE])]


def record_jobs(cursor: pool.Cursor, uid: str, jobs: Sequence[JobRecord]) -> list[bool]:
    """See `base.EngineStorage.record_jobs`; in the caller's transaction."""
    free = f"{trial_ends.RUNNING} AND NOT t.offered"  # an attempt that is a worker's gets no Job of its own
    locked = {trial.row.number: trial for trial in trial_ends.lock(cursor, uid, {job.number for job in jobs}, free)}
    rows: dict[int, TrialRow] = {number: trial.row for number, trial in locked.items()}
    answers = []
    for job in jobs:
        row = rows.get(job.number)
        answers.append(row is not None and rules.takes_job(row, job))
        if row is not None and answers[-1]:
            rows[job.number] = dataclasses.replace(row, job_uid=job.job_uid)
    pool.with_values(
        cursor,
        "UPDATE kubetune.experiment_trials t SET job_uid = v.job_uid FROM (VALUES %s) AS v (id, job_uid)"
        " WHERE t.id = v.id",
        [(locked[number].id, row.job_uid) for number, row in rows.items() if row.job_uid != locked[number].row.job_uid],
    )
    return answers


def finish_trials(
    cursor: pool.Cursor, uid: str, endings: Sequence[base.ToEnd], now: float
) -> list[TrialRow | Exception]:
    """See `base.EngineStorage.finish_trials`; in the caller's transaction. An error of the database is raised."""
    numbers = {ending.number for ending in endings}
    locked = {trial.row.number: trial for trial in trial_ends.lock(cursor, uid, numbers, trial_ends.ANY_STATE)}
    reports = trial_ends.reports(cursor, [trial for trial in locked.values() if rules.is_running(trial.row)])
    ended: dict[int, trial_ends.Ended] = {}
    legs: dict[int, tuple[trial_ends.Locked, TrialRow]] = {}
    answers: list[TrialRow | Exception] = []
    for ending in endings:
        trial = locked.get(ending.number)
        before = ended[ending.number].row if ending.number in ended else trial.row if trial else None
        before = legs[ending.number][1] if ending.number in legs else before
        try:
            row = rules.to_end(before, ending.number, ending.attempt)
            if trial is not None and not rules.is_over(row, ending.attempt):
                came = reports.get(trial.id, [])
                settled = ending.settle(came, row.finish)
                if isinstance(settled, Ending):
                    ended[ending.number] = trial_ends.ended(trial, settled, came, ending.log_tail, now, ending.order)
                    row = ended[ending.number].row
                else:
                    row = rules.settled(row, settled, len(trial.metrics), now)
                    legs[ending.number] = (trial, row)
            answers.append(row)
        except Exception as error:  # noqa: BLE001  one that cannot be settled is no reason against the others
            answers.append(error)
    trial_ends.write_legs(cursor, list(legs.values()), now)
    trial_ends.write(cursor, list(ended.values()), now)
    return answers
