"""Plain SQL on Optuna's tables: the only file that depends on their columns, hence the pin optuna>=5.0,<5.1.

Optuna's own storage writes a row at a time through an ORM: 38 trials/s, and 3-8 ms a report. What
is written here is, column by column, what `optuna.storages.RDBStorage` writes for the same trials; tests hold that.
"""

import dataclasses
import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubetune.api.spec import Given, Parameter, ParamValue
from kubetune.api.trial import TrialState
from kubetune.storage import pool, space

METRIC_NAMES = "study:metric_names"  # where Study.set_metric_names keeps them
FIXED = "fixed_params"  # where Study.enqueue_trial keeps the parameters it was given
CONSTRAINT = "constraints:"  # before a constraint's name, where Trial.set_constraint keeps it
SOURCE = "kubetune:source"
STEPS = range(-(2**31), 2**31)  # trial_intermediate_values.step is an integer column
KEY_LENGTH = 512  # of an attribute's name


@dataclasses.dataclass(frozen=True)
class Finished:
    """What Optuna is told of a trial's end. ``attributes``: JSON values by name."""

    trial_id: int
    state: TrialState
    values: tuple[float, ...] | None
    ended: float
    intermediate: Mapping[int, float]
    attributes: Mapping[str, Any]
    constraints: Mapping[str, float]  # by name; at most 0: met


def create_study(
    cursor: pool.Cursor, name: str, metrics: Sequence[str], directions: Sequence[str], attributes: Mapping[str, Any]
) -> int:
    """As ``optuna.create_study`` and ``set_metric_names`` do, with user attributes. Returns the study's id."""
    cursor.execute("INSERT INTO studies (study_name) VALUES (%s) RETURNING study_id", (name,))
    (study_id,) = cursor.fetchone() or (0,)
    pool.with_values(
        cursor,
        "INSERT INTO study_directions (direction, study_id, objective) VALUES %s",
        [(direction.upper(), study_id, objective) for objective, direction in enumerate(directions)],
    )
    pool.with_values(
        cursor,
        "INSERT INTO study_system_attributes (study_id, key, value_json) VALUES %s",
        [(study_id, METRIC_NAMES, json.dumps(list(metrics)))],
    )
    pool.with_values(
        cursor,
        "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES %s",
        [(study_id, key, json.dumps(value)) for key, value in attributes.items()],
    )
    return int(study_id)


def create_trials(
    cursor: pool.Cursor,
    study_id: int,
    parameters: Mapping[str, Parameter],
    trials: Mapping[int, Mapping[str, ParamValue]],
    now: float,
    given: Mapping[int, Given] | None = None,
    attributes: Mapping[int, Mapping[str, Any]] | None = None,
) -> tuple[dict[int, int], bytes]:
    """RUNNING trials. Returns Optuna's trial ids by number, and the statements that give them their parameters.

    Args:
        given: by number, of those for which a person gave parameters: they are as ``Study.enqueue_trial`` makes them.
        attributes: by number, user attributes that they have from the beginning.

    Raises ValueError or KeyError for a value outside its parameter's choices, or of a parameter that is not in the
    space.
    """
    rows = [(number, study_id, "RUNNING", _utc(now)) for number in sorted(trials)]
    made = pool.with_values(
        cursor,
        "INSERT INTO trials (number, study_id, state, datetime_start) VALUES %s RETURNING number, trial_id",
        rows,
    )
    ids = {int(number): int(trial_id) for number, trial_id in made}
    known = space.distributions_of(parameters)
    params = pool.values(
        cursor,
        "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES %s",
        [
            (ids[number], name, known[name].to_internal_repr(value), space.to_json(known[name]))
            for number in sorted(trials)
            for name, value in trials[number].items()
        ],
    )
    enqueued = given or {}
    fixed = [(number, FIXED, each.params) for number, each in enqueued.items()]
    own = [(number, SOURCE, each.source) for number, each in enqueued.items()]
    own += [(number, key, value) for number, those in (attributes or {}).items() for key, value in those.items()]
    given_to = [
        pool.values(
            cursor,
            f"INSERT INTO {table} (trial_id, key, value_json) VALUES %s",
            [(ids[number], key, json.dumps(value)) for number, key, value in those],
        )
        for table, those in (("trial_system_attributes", fixed), ("trial_user_attributes", own))
    ]
    return ids, pool.joined(params, *given_to)


def finish_trials(
    cursor: pool.Cursor, trials: Sequence[Finished], objectives: int, first: Sequence[bytes] = ()
) -> None:
    """As ``study.tell`` does after a ``trial.report`` for each intermediate value, and a ``trial.set_constraint``.
    ``first``: statements that are sent on the way.

    A trial that is not there or has ended (someone deleted the study by Optuna's own tools) is left out.
    """
    if not trials:
        return
    states = pool.values(
        cursor,
        "UPDATE trials SET state = v.state::trialstate, datetime_complete = v.ended::timestamp"
        " FROM (VALUES %s) AS v (trial_id, state, ended)"
        " WHERE trials.trial_id = v.trial_id AND trials.state = 'RUNNING' RETURNING trials.trial_id",
        [(trial.trial_id, str(trial.state), _utc(trial.ended)) for trial in trials],
    )
    pool.together(cursor, *first, states)
    there = {trial_id for (trial_id,) in cursor.fetchall()}
    present = [trial for trial in trials if trial.trial_id in there]
    values = pool.values(
        cursor,
        "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES %s",
        [
            (trial.trial_id, objective, *_stored(value))
            for trial in present
            for objective, value in enumerate(_values(trial, objectives))
        ],
    )
    intermediate = pool.values(
        cursor,
        "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) VALUES %s",
        [
            (trial.trial_id, step, *_stored(value))
            for trial in present
            if objectives == 1  # Optuna has no intermediate values for several objectives
            for step, value in trial.intermediate.items()
            if step in STEPS
        ],
    )
    attributes = pool.values(
        cursor,
        "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES %s"
        " ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json",
        [
            (trial.trial_id, key, json.dumps(value))
            for trial in present
            for key, value in trial.attributes.items()
            if len(key) <= KEY_LENGTH
        ],
    )
    constraints = pool.values(
        cursor,
        "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES %s"
        " ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json",
        [
            (trial.trial_id, f"{CONSTRAINT}{name}", json.dumps(value))
            for trial in present
            for name, value in trial.constraints.items()
        ],
    )
    pool.together(cursor, values, intermediate, attributes, constraints)


def _values(trial: Finished, objectives: int) -> tuple[float, ...]:
    """The values of a COMPLETE trial; of a pruned one what `Study.tell` makes of it: the value at its highest step,
    unless that is no number or there are several objectives."""
    if trial.state is TrialState.COMPLETE:
        return trial.values or ()
    steps = [step for step in trial.intermediate if step in STEPS]
    if trial.state is not TrialState.PRUNED or not steps or objectives != 1:
        return ()
    last = trial.intermediate[max(steps)]
    return () if math.isnan(last) else (last,)


_TRIAL_CHILDREN = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_heartbeats",
)
_STUDY_CHILDREN = ("study_directions", "study_user_attributes", "study_system_attributes")


def delete_trials(cursor: pool.Cursor, trial_ids: Iterable[int]) -> None:
    """Remove trials and all that hangs on them."""
    ids = list(trial_ids)
    for table in (*_TRIAL_CHILDREN, "trials"):
        cursor.execute(f"DELETE FROM {table} WHERE trial_id = ANY(%s)", (ids,))


def delete_study(cursor: pool.Cursor, study_id: int) -> None:
    """Remove a study, with trials that others may have added to it."""
    cursor.execute("SELECT trial_id FROM trials WHERE study_id = %s", (study_id,))
    delete_trials(cursor, [trial_id for (trial_id,) in cursor.fetchall()])
    for table in (*_STUDY_CHILDREN, "studies"):
        cursor.execute(f"DELETE FROM {table} WHERE study_id = %s", (study_id,))


def _utc(seconds: float) -> datetime.datetime:
    """Optuna keeps naive UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)


def _stored(value: float) -> tuple[float | None, str]:
    """A float as Optuna's two columns have it: the number, or NULL and which one it is."""
    if math.isnan(value):
        return None, "NAN"
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return value, "FINITE"
