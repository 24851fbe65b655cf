"""Builders: trials offered to workers, and workers whose Jobs are recorded."""

from kubetune.storage import base
from tests.integration.experiments import SPACE, Experiment


def offer(experiment: Experiment, *numbers: int) -> None:
    """Trials as the operator makes them for workers."""
    new = [base.NewTrial(number, {"x": 0.5}, offered=True) for number in numbers]
    experiment.storage.create_trials(experiment.uid, SPACE, new)


def worker(experiment: Experiment, number: int = 0) -> base.Worker:
    """A worker whose Job is there and recorded."""
    storage, row = experiment.storage, experiment.storage.open_worker(experiment.uid, number)
    job_uid = f"{experiment.uid}-w{number}-{row.incarnation}"
    assert storage.record_worker(experiment.uid, number, row.incarnation, job_uid)
    return base.Worker(experiment.uid, experiment.namespace, experiment.name, number, job_uid, f"pod-of-{job_uid}")
