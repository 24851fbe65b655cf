"""All problems there are, and where what is trained once is kept."""

import os
import pathlib

from dev.bench.search import standard, trainings
from dev.bench.search.problem import Problem

FAMILIES = ("single", "noisy", "multi", "constrained", "conditional", "training", "fidelity")


def cache() -> pathlib.Path:
    """Outside the tree."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(os.environ.get("KUBETUNE_CACHE") or pathlib.Path(home) / "kubetune") / "bench"


def problems() -> list[Problem]:
    return [
        *standard.single(),
        *standard.noisy(),
        *standard.multi(),
        *standard.constrained(),
        *standard.conditional(),
        *trainings.trainings(),
    ]
