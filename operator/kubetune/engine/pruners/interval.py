"""At which reports a pruner decides: past a warm-up, and once in so many steps, as Optuna's pruners have it."""

import dataclasses

from kubetune.engine.curve import Curve


@dataclasses.dataclass(frozen=True)
class Interval:
    warmup: int  # the first step at which to decide
    steps: int

    def decides_at(self, curve: Curve) -> bool:
        """Past the warm-up, and the first report in its interval."""
        if curve.last_step < self.warmup:
            return False
        start = (curve.last_step - self.warmup) // self.steps * self.steps + self.warmup
        return curve.step_before < start
