"""The first tables: leader, experiments, their trials, attempts, reports, logs.

No name here is also one of Optuna's: a role named like this schema would find ours in its search path first.
Times are seconds since the epoch, as the rest of kubetune has them; only leases are by the database's own clock.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE kubetune.leader (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        epoch bigint NOT NULL DEFAULT 0,
        holder text NOT NULL DEFAULT '',
        taken double precision
    )
    """,
    "INSERT INTO kubetune.leader DEFAULT VALUES",
    """
    CREATE TABLE kubetune.experiments (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        uid text NOT NULL UNIQUE,
        namespace text NOT NULL,
        name text NOT NULL,
        study_id integer NOT NULL UNIQUE,  -- Optuna's
        study_name text NOT NULL,
        metrics text[] NOT NULL,
        directions text[] NOT NULL,
        created double precision NOT NULL,
        ended double precision,
        end_reason text,
        end_message text NOT NULL DEFAULT '',
        deleted double precision
    )
    """,
    "CREATE INDEX experiments_name ON kubetune.experiments (namespace, name)",
    """
    CREATE TABLE kubetune.experiment_trials (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        experiment_id integer NOT NULL REFERENCES kubetune.experiments,
        number integer NOT NULL,
        optuna_id integer NOT NULL,
        state text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'COMPLETE', 'PRUNED', 'FAIL')),
        params json NOT NULL,
        attempt integer NOT NULL DEFAULT 1,
        created double precision NOT NULL,
        job_uid text,
        started double precision,
        ended double precision,
        objective_values double precision[],
        reason text,
        message text NOT NULL DEFAULT '',
        last_seq integer NOT NULL DEFAULT 0,
        last_step bigint,
        last_metrics json NOT NULL DEFAULT '{}',
        stop_requested double precision,
        stop_reason text,
        finish_status text,
        finish_message text,
        finish_time double precision,
        series_steps bigint[],  -- of an ended trial: the first objective of the accepted attempt
        series_values double precision[],
        log_tail text,
        UNIQUE (experiment_id, number),  -- a second allocator of trial numbers fails loudly
        CHECK ((state = 'RUNNING') = (ended IS NULL))
    ) WITH (fillfactor = 70)  -- each report updates its trial's row: in place
    """,
    """
    CREATE INDEX experiment_trials_running ON kubetune.experiment_trials (experiment_id, number)
        WHERE state = 'RUNNING'  -- with the number: without statistics the planner likes it for one trial too
    """,
    """
    CREATE TABLE kubetune.attempts (
        trial_id bigint NOT NULL REFERENCES kubetune.experiment_trials,
        attempt integer NOT NULL,
        job_uid text,
        began double precision NOT NULL,
        ended double precision NOT NULL,
        reason text NOT NULL,
        message text NOT NULL,
        PRIMARY KEY (trial_id, attempt)
    )
    """,
    """
    CREATE TABLE kubetune.reports (
        trial_id bigint NOT NULL REFERENCES kubetune.experiment_trials,
        seq integer NOT NULL,
        attempt integer NOT NULL,
        step bigint NOT NULL,
        key text NOT NULL,
        metrics json NOT NULL,
        time double precision NOT NULL,
        PRIMARY KEY (trial_id, seq),
        UNIQUE (trial_id, attempt, key)
    )
    """,
    """
    CREATE TABLE kubetune.logs (
        trial_id bigint NOT NULL REFERENCES kubetune.experiment_trials,
        attempt integer NOT NULL,
        holder text NOT NULL,
        until timestamptz NOT NULL,
        since text NOT NULL DEFAULT '',
        done boolean NOT NULL DEFAULT false,
        PRIMARY KEY (trial_id, attempt)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
