"""How a trial's value is made sure of: cross-validation, several seeds, and what it comes to on the training data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kubetune.api.parameters import InvalidSpec


@dataclasses.dataclass(frozen=True)
class Replicates:
    """A trial is run with ``least`` seeds, and with up to ``most`` as long as it may be among the best."""

    most: int
    least: int = 1


@dataclasses.dataclass(frozen=True)
class Validation:
    """``folds``: runs of a cross-validation that a trial consists of; 1: there is none. ``train_metric``: the name by
    which trials report the objective's like on their training data."""

    folds: int = 1
    train_metric: str | None = None
    replicates: Replicates | None = None

    @property
    def runs(self) -> bool:
        """Whether a trial's value is the mean of several runs."""
        return self.folds > 1 or self.replicates is not None


def parse(spec: Mapping[str, Any]) -> Validation:
    """``validation`` and ``replicates`` of the spec. Raises InvalidSpec."""
    form = spec.get("validation") or {}
    return Validation(int(form.get("folds", 1)), form.get("trainMetric"), _replicates(spec.get("replicates")))


def _replicates(form: Mapping[str, Any] | None) -> Replicates | None:
    if not form:
        return None
    least, most = int(form.get("min", 1)), int(form.get("max", 1))
    if not 1 <= least <= most:
        raise InvalidSpec("replicates.min", f"{least} is not from 1 to replicates.max, which is {most}; change it")
    return Replicates(most, least)
