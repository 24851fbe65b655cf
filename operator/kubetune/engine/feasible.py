"""Constraints as an order among trials: Deb, Computer Methods in Applied Mechanics and Engineering 186 (2000).

A feasible trial comes before one that is not; of two feasible ones the better objective counts, of two that break
constraints the lesser penalty (`api.trial.penalty`). No weight between objective and constraints has to be found.
"""

import numpy as np
import numpy.typing as npt

from kubetune.engine.columns import Floats


def broken(penalties: Floats) -> Floats:
    """As numbers to compare: what is not known counts as feasible, as a trial that was pruned does for Optuna."""
    return np.nan_to_num(penalties, nan=0.0)


def ranks(losses: Floats, penalties: Floats) -> npt.NDArray[np.int64]:
    """How good each trial is among these: 0 the best ones, equal ones the same."""
    return np.unique(np.column_stack([penalties, losses]), axis=0, return_inverse=True)[1].ravel()


def fitness(losses: Floats, penalties: Floats) -> Floats:
    """Deb's equation 4, to be minimised: the loss of the feasible; of others the worst feasible loss among these and
    the penalty. Their order is that of `ranks`."""
    infeasible = penalties > 0
    if not infeasible.any():
        return losses
    worst = 0.0 if infeasible.all() else float(np.max(losses[~infeasible]))
    return np.asarray(np.where(infeasible, worst + penalties, losses))
