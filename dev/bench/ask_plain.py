"""Plain Optuna asked for one trial, over and over: prints milliseconds, one line each. It imports nothing of kubetune's
engine, which changes a part of Optuna's sampler.

    python -m dev.bench.ask_plain memory|database URL SECONDS
"""

import contextlib
import sys
import time

import optuna
import psycopg2

from dev.bench import study as made
from kubetune.api.spec import parse
from kubetune.storage import space

ASKS = 5


def main(where: str, url: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = space.distributions_of(parse(made.resource(made.Size(0, 1, 1))).parameters)
    sampler = optuna.samplers.TPESampler(seed=1)
    if where == "memory":
        study = optuna.create_study(sampler=sampler)
        study.add_trials([*_trials(url, known)])
    else:
        storage = url.replace("postgresql:", "postgresql+psycopg2:", 1)  # SQLAlchemy wants its driver named
        (name,) = optuna.get_all_study_names(storage)
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        study.ask(known)  # loads all there is
    for _ in range(ASKS):
        begun = time.perf_counter()
        study.ask(known)
        print(1e3 * (time.perf_counter() - begun), flush=True)
        if time.monotonic() > end:
            return


def _trials(url: str, known: dict[str, optuna.distributions.BaseDistribution]) -> list[optuna.trial.FrozenTrial]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT state, params, objective_values[1], last_step FROM kubetune.experiment_trials ORDER BY number"
        )
        return [
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[state],
                params=params,
                distributions=known,
                value=value,
                intermediate_values={} if value is None else {step: value},
            )
            for state, params, value, step in cursor
        ]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
