"""The pruner that stops nothing."""

from kubetune.api.spec import ExperimentSpec
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Pruner


class NonePruner(Pruner):
    """Every trial runs to its end."""

    def prune(self, curve: Curve) -> str | None:
        return None


def build(spec: ExperimentSpec) -> NonePruner:
    options.read("pruner", spec.pruner, {})
    return NonePruner()
