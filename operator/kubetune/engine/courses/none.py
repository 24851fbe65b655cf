"""Trials of one leg."""

from kubetune.api.spec import ExperimentSpec
from kubetune.engine.courses.base import Course


def build(spec: ExperimentSpec) -> Course:
    return Course(spec)
