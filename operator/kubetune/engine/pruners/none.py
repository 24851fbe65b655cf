"""The pruner that stops nothing."""

from collections.abc import Mapping

from kubetune.api.spec import ExperimentSpec
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Read


class NonePruner:
    """Every trial runs to its end."""

    def load(self, read: Read) -> None:
        pass

    def completed(self, series: Mapping[int, float]) -> None:
        pass

    def prune(self, curve: Curve) -> bool:
        return False


def build(spec: ExperimentSpec) -> NonePruner:
    options.read("pruner", spec.pruner, {})
    return NonePruner()
