"""A study that kubetune wrote is a real Optuna study: Optuna reads it, and its rows are those Optuna itself writes."""

import dataclasses
import datetime
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
import psycopg2
import pytest
from optuna.distributions import BaseDistribution

from kubetune.api.names import job_name
from kubetune.api.spec import Categorical, Double, Given, Int, Parameter, ParamValue
from kubetune.api.trial import Ending, Reason, TrialState
from kubetune.storage import base, engine_side, postgres, space
from tests.conftest import TickingClock
from tests.integration.experiments import Experiment, completed, failed, pruned

SPACE: Mapping[str, Parameter] = {
    "lr": Double(1e-5, 0.1, log=True),
    "dropout": Double(0.0, 0.5, step=0.1),
    "momentum": Double(0.5, 0.99),
    "odd_step": Double(0.0, 1.0, step=0.3),
    "layers": Int(1, 8),
    "units": Int(8, 60, step=8),
    "width": Int(16, 1024, log=True),
    "optimizer": Categorical(("adam", 'sgd"Größe\u2603')),
    "batch": Categorical((16, 32.5)),
    "nesterov": Categorical((False, True)),
}
PARAMS: Mapping[str, ParamValue] = {
    "lr": 1.2345678901234567e-05,
    "dropout": 0.30000000000000004,
    "momentum": 0.5,
    "odd_step": 0.9,
    "layers": 8,
    "units": 56,
    "width": 17,
    "optimizer": 'sgd"Größe\u2603',
    "batch": 32.5,
    "nesterov": True,
}


@dataclasses.dataclass(frozen=True)
class Course:
    """What one trial reports and how it ends. ``told``: to Optuna, for the same end."""

    reports: Sequence[tuple[int, float]] = ()
    ending: Ending = dataclasses.field(default_factory=failed)

    @property
    def told(self) -> dict[str, Any]:
        state = optuna.trial.TrialState[self.ending.state]
        return {"state": state, "values": self.ending.values if state.name == "COMPLETE" else None}


COURSES = (
    Course([(0, 0.5), (1, 0.25)], completed(0.25)),
    Course([(0, math.inf), (1, -math.inf), (2, math.nan), (3, 1e-310)], completed(math.inf)),
    Course([], completed(-math.inf)),
    Course([(5, 1.5), (2, 2.5)], pruned(2.5)),
    Course([(0, 1.0), (1, math.nan)], pruned()),
    Course([(0, math.inf)], pruned(math.inf)),
    Course([], pruned()),
    Course([(0, 7.0)], failed(Reason.OOM_KILLED, "")),
    Course([], failed()),
)
SEVERAL = (
    Course([], completed(0.5, math.inf)),
    Course([], pruned()),
    Course([], failed()),
)


@pytest.fixture
def storage(postgres_url: str) -> Iterator[postgres.PostgresStorage]:
    storage = postgres.PostgresStorage(postgres_url, clock=TickingClock())
    storage.acquire("test")
    yield storage
    storage.close()


@pytest.fixture
def optuna_storage(postgres_url: str) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(postgres_url.replace("postgresql", "postgresql+psycopg2", 1))
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def run_by_kubetune(experiment: Experiment, courses: Sequence[Course], running: int = 1) -> None:
    """The courses as trials 0, 1, …, and trials that still run after them."""
    storage = experiment.storage
    experiment.create(*range(len(courses) + running), space=SPACE, params=PARAMS)
    for number, course in enumerate(courses):
        for step, value in course.reports:
            storage.accept([experiment.incoming_of(number, {experiment.metrics[0]: value}, step)])
        for index, value in enumerate(course.ending.values or () if len(experiment.metrics) > 1 else ()):
            storage.accept([experiment.incoming_of(number, {experiment.metrics[index]: value})])
        experiment.finish(number, course.ending)


class Suggested(optuna.samplers.BaseSampler):
    """Suggests what it is given."""

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        return PARAMS[name]


def run_by_optuna(
    storage: optuna.storages.RDBStorage, experiment: Experiment, courses: Sequence[Course], running: int = 1
) -> str:
    """The same trials by Optuna alone; returns the study's name."""
    name = f"by-optuna-{experiment.uid}"
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in experiment.directions]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, sampler=Suggested())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(experiment.metrics))
    for key, text in (("uid", experiment.uid), ("namespace", "team-a"), ("experiment", experiment.name)):
        study.set_user_attr(f"kubetune:{key}", text)
    forms = space.distributions_of(SPACE)
    trials = [study.ask(fixed_distributions=forms) for _ in range(len(courses) + running)]
    for trial, course in zip(trials, courses, strict=False):
        for step, value in course.reports:
            trial.report(value, step)
        attributes = {
            "reason": str(course.ending.reason),
            "message": course.ending.message,
            "attempt": 1,
            "job": job_name(experiment.name, experiment.uid, trial.number, 1),
        }
        for key, attribute in attributes.items():
            trial.set_user_attr(f"kubetune:{key}", attribute)
        study.tell(trial, **course.told)
    return name


OF_STUDY = {"study_directions": "objective", "study_user_attributes": "key", "study_system_attributes": "key"}
OF_TRIALS = {
    "trial_params": "param_id",  # Optuna gives parameters in this order
    "trial_values": "objective",
    "trial_intermediate_values": "step",
    "trial_user_attributes": "key",
    "trial_system_attributes": "key",
    "trial_heartbeats": "heartbeat",
}


def rows_of(url: str, study_name: str) -> dict[str, list[dict[str, Any]]]:
    """All of a study's rows as text, without ids; of times only whether they are there."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        selects = {
            "trials": "SELECT t.* FROM trials t JOIN studies USING (study_id) WHERE study_name = %s ORDER BY number"
        }
        for table, order in OF_STUDY.items():
            selects[table] = (
                f"SELECT c.* FROM {table} c JOIN studies USING (study_id) WHERE study_name = %s ORDER BY {order}"
            )
        for table, order in OF_TRIALS.items():
            selects[table] = (
                f"SELECT t.number, c.* FROM {table} c JOIN trials t USING (trial_id) JOIN studies USING (study_id)"
                f" WHERE study_name = %s ORDER BY t.number, c.{order}"
            )
        found = {}
        for table, select in selects.items():
            cursor.execute(select, (study_name,))
            columns = [column.name for column in cursor.description or ()]
            found[table] = [_comparable(dict(zip(columns, row, strict=True))) for row in cursor.fetchall()]
    connection.close()
    return found


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: isinstance(value, datetime.datetime) or repr(value)
        for name, value in row.items()
        if not name.endswith("_id")
    }


@pytest.mark.parametrize(
    ("metrics", "directions", "courses"),
    [(["loss"], ["minimize"], COURSES), (["accuracy", "size"], ["maximize", "minimize"], SEVERAL)],
    ids=["one objective", "several objectives"],
)
class TestParity:
    def test_every_row_is_what_optuna_writes_itself(
        self,
        storage: postgres.PostgresStorage,
        optuna_storage: optuna.storages.RDBStorage,
        metrics: list[str],
        directions: list[str],
        courses: Sequence[Course],
    ) -> None:
        experiment = Experiment(storage, metrics, directions)
        run_by_kubetune(experiment, courses)
        ours = rows_of(storage.url, experiment.study.study_name)
        theirs = rows_of(storage.url, run_by_optuna(optuna_storage, experiment, courses))
        assert len(ours["trials"]) == len(courses) + 1
        assert len(ours["trial_params"]) == len(PARAMS) * (len(courses) + 1)
        for table in ours:
            assert ours[table] == theirs[table], table

    def test_load_study_reads_what_was_written(
        self,
        storage: postgres.PostgresStorage,
        optuna_storage: optuna.storages.RDBStorage,
        metrics: list[str],
        directions: list[str],
        courses: Sequence[Course],
    ) -> None:
        experiment = Experiment(storage, metrics, directions)
        run_by_kubetune(experiment, courses)
        study = optuna.load_study(study_name=experiment.study.study_name, storage=optuna_storage)
        assert study.metric_names == metrics
        assert [direction.name.lower() for direction in study.directions] == directions
        assert study.user_attrs["kubetune:uid"] == experiment.uid
        assert [trial.number for trial in study.trials] == list(range(len(courses) + 1))
        assert study.trials[-1].state.name == "RUNNING"
        for trial, course in zip(study.trials, courses, strict=False):
            row = experiment.row(trial.number)
            assert trial.params == PARAMS
            assert [type(value) for value in trial.params.values()] == [type(value) for value in PARAMS.values()]
            assert trial.distributions == space.distributions_of(SPACE)
            assert trial.state.name == course.ending.state
            assert _same(trial.intermediate_values, dict(sorted(course.reports)))
            if course.ending.state is TrialState.COMPLETE:
                assert tuple(trial.values) == course.ending.values
            assert trial.datetime_start == datetime.datetime.fromtimestamp(row.created)
            assert trial.datetime_complete == datetime.datetime.fromtimestamp(row.ended or 0)


def _same(found: Mapping[int, float], wanted: Mapping[int, float]) -> bool:
    return repr(sorted(found.items())) == repr(sorted(wanted.items()))


def test_the_best_trial_is_found_by_optuna(
    storage: postgres.PostgresStorage, optuna_storage: optuna.storages.RDBStorage
) -> None:
    experiment = Experiment(storage)
    run_by_kubetune(experiment, COURSES)
    study = optuna.load_study(study_name=experiment.study.study_name, storage=optuna_storage)
    assert (study.best_trial.number, study.best_value) == (2, -math.inf)


def test_what_people_gave_is_written_as_enqueue_trial_does(
    storage: postgres.PostgresStorage, optuna_storage: optuna.storages.RDBStorage
) -> None:
    experiment = Experiment(storage)
    fixed: dict[str, Any] = {name: PARAMS[name] for name in ("lr", "optimizer", "batch", "nesterov", "layers")}
    given = Given("enqueue/mine", "enqueue[0].parameters", fixed)
    storage.create_trials(experiment.uid, SPACE, [base.NewTrial(0, PARAMS, given=given), base.NewTrial(1, PARAMS)])
    name = f"by-optuna-{experiment.uid}"
    study = optuna.create_study(storage=optuna_storage, study_name=name, sampler=Suggested())
    study.enqueue_trial(fixed, user_attrs={"kubetune:source": "enqueue/mine"})
    for _ in range(2):
        study.ask(fixed_distributions=space.distributions_of(SPACE))
    ours, theirs = rows_of(storage.url, experiment.study.study_name), rows_of(storage.url, name)
    for table in ("trials", *OF_TRIALS):
        assert ours[table] == theirs[table], table
    assert len(ours["trial_system_attributes"]) == len(ours["trial_user_attributes"]) == 1
    ours_ = optuna.load_study(study_name=experiment.study.study_name, storage=optuna_storage)
    ours_.enqueue_trial(fixed, skip_if_exists=True)
    assert len(ours_.trials) == 2


def test_a_segment_says_in_user_attributes_what_it_goes_on_from(
    storage: postgres.PostgresStorage, optuna_storage: optuna.storages.RDBStorage
) -> None:
    experiment = Experiment(storage)
    new = [base.NewTrial(0, PARAMS, member=1), base.NewTrial(1, PARAMS, parent=0, member=1), base.NewTrial(2, PARAMS)]
    storage.create_trials(experiment.uid, SPACE, new)
    name = f"by-optuna-{experiment.uid}"
    study = optuna.create_study(storage=optuna_storage, study_name=name, sampler=Suggested())
    for attributes in ({"kubetune:member": 1}, {"kubetune:parent": 0, "kubetune:member": 1}, {}):
        trial = study.ask(fixed_distributions=space.distributions_of(SPACE))
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
    ours, theirs = rows_of(storage.url, experiment.study.study_name), rows_of(storage.url, name)
    for table in ("trials", *OF_TRIALS):
        assert ours[table] == theirs[table], table


def test_constraints_are_written_as_set_constraint_does(
    storage: postgres.PostgresStorage, optuna_storage: optuna.storages.RDBStorage
) -> None:
    experiment = Experiment(storage)
    broken = {"latency_ms.max": 1.5, "size.min": -math.inf}
    ends = [
        dataclasses.replace(completed(1.0), constraints=broken),
        dataclasses.replace(pruned(), constraints={"latency_ms.max": -2.0, "size.min": 0.0}),
        dataclasses.replace(completed(2.0), constraints={"latency_ms.max": 0.0, "size.min": -1.0}),
        failed(),
    ]
    courses = [Course([], end) for end in ends]
    run_by_kubetune(experiment, courses, running=0)
    name = f"by-optuna-{experiment.uid}"
    study = optuna.create_study(storage=optuna_storage, study_name=name, sampler=Suggested())
    for course in courses:
        trial = study.ask(fixed_distributions=space.distributions_of(SPACE))
        for key, excess in (course.ending.constraints or {}).items():
            trial.set_constraint(key, excess)
        study.tell(trial, **course.told)
    ours, theirs = rows_of(storage.url, experiment.study.study_name), rows_of(storage.url, name)
    for table in ("trials", "trial_values", "trial_system_attributes"):
        assert ours[table] == theirs[table], table
    assert len(ours["trial_system_attributes"]) == 6
    loaded = optuna.load_study(study_name=experiment.study.study_name, storage=optuna_storage)
    assert loaded.best_trial.number == 2
    assert loaded.trials[0].constraints == broken


def test_metrics_that_are_no_objective_are_user_attributes(
    storage: postgres.PostgresStorage, optuna_storage: optuna.storages.RDBStorage
) -> None:
    experiment = Experiment(storage)
    experiment.create(0)
    experiment.lose(0)
    experiment.record(0, attempt=2)
    experiment.report(0, attempt=2, loss=0.5, size_mb=9.0)
    experiment.report(0, attempt=2, loss=0.4, size_mb=8.0, latency=math.inf)
    storage.accept([experiment.incoming_of(0, {"m" * 600: 1.0}, attempt=2)])  # longer than Optuna's column
    experiment.finish(0, completed(0.4), attempt=2)
    trial = optuna.load_study(study_name=experiment.study.study_name, storage=optuna_storage).trials[0]
    assert trial.user_attrs == {
        "size_mb": 8.0,
        "latency": math.inf,
        "kubetune:reason": "Completed",
        "kubetune:message": "",
        "kubetune:attempt": 2,
        "kubetune:job": job_name(experiment.name, experiment.uid, 0, 2),
    }


def test_only_the_accepted_attempts_curve_and_steps_that_fit(
    storage: postgres.PostgresStorage, optuna_storage: optuna.storages.RDBStorage
) -> None:
    experiment = Experiment(storage)
    experiment.create(0)
    experiment.report(0, 7, loss=9.0)
    experiment.lose(0)
    experiment.record(0, attempt=2)
    for step, value in ((1, 0.5), (1, 0.25), (2**31, 1.0)):
        experiment.report(0, step, attempt=2, loss=value)
    experiment.finish(0, pruned(1.0), attempt=2)
    trial = optuna.load_study(study_name=experiment.study.study_name, storage=optuna_storage).trials[0]
    assert (trial.intermediate_values, trial.values) == ({1: 0.25}, [0.25])


def test_a_value_outside_its_parameter_writes_nothing(storage: postgres.PostgresStorage) -> None:
    experiment = Experiment(storage)
    with pytest.raises(ValueError, match="not in"):
        experiment.create(0, space=SPACE, params={"optimizer": "rmsprop"})
    with pytest.raises(KeyError):
        experiment.create(0, space=SPACE, params={"unknown": 1.0})
    assert rows_of(storage.url, experiment.study.study_name)["trials"] == []


def test_deleting_a_study_fails_its_trials_for_optuna_and_purging_removes_it(
    storage: postgres.PostgresStorage, optuna_storage: optuna.storages.RDBStorage
) -> None:
    experiment = Experiment(storage)
    run_by_kubetune(experiment, COURSES, running=2)
    name = experiment.study.study_name
    storage.delete_study(experiment.uid)
    trials = optuna.load_study(study_name=name, storage=optuna_storage).trials
    assert [trial.state.name for trial in trials][-2:] == ["FAIL", "FAIL"]
    storage.purge(0)
    assert name not in optuna.study.get_all_study_names(optuna_storage)
    assert not any(rows_of(storage.url, name).values())


def test_removing_old_reports_leaves_optunas_rows_as_they_are(
    storage: postgres.PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_side, "REMOVED_AT_ONCE", 3)  # less than one trial has
    monkeypatch.setattr(engine_side, "PURGED_AT_ONCE", 2)
    experiment = Experiment(storage)
    run_by_kubetune(experiment, COURSES, running=1)
    assert any(experiment.reports(number) for number in range(len(COURSES)))
    before = rows_of(storage.url, experiment.study.study_name)
    while storage.remove_reports(-1e6):
        pass
    assert not any(experiment.reports(number) for number in range(len(COURSES)))
    assert rows_of(storage.url, experiment.study.study_name) == before


def test_a_study_deleted_by_optunas_own_tools_lets_the_trials_end(
    storage: postgres.PostgresStorage, optuna_storage: optuna.storages.RDBStorage
) -> None:
    experiment = Experiment(storage)
    experiment.create(0)
    experiment.report(0)
    optuna.delete_study(study_name=experiment.study.study_name, storage=optuna_storage)
    assert experiment.finish(0, completed(1.0)).state is TrialState.COMPLETE
