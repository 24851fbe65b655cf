"""What a sampler is: parameters for the next trial, as a function of the seed, its number and the committed history."""

import hashlib
from typing import Protocol

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine.history import History


class Sampler(Protocol):
    """Keeps no memory that a restart would have to bring back."""

    def suggest(self, history: History, number: int) -> dict[str, ParamValue]:
        """Parameters of trial ``number``, given all trials before it (ended and RUNNING). The same for the same
        arguments, on any machine, before and after a restart."""

    def capacity(self) -> int | None:
        """How many trials there are in all; None: no end."""


def seed_of(spec: ExperimentSpec, number: int) -> int:
    """A seed in [0, 2**32) for one trial: from the experiment's seed or, if it has none, its UID."""
    origin = spec.uid if spec.seed is None else f"seed {spec.seed}"
    return int.from_bytes(hashlib.sha256(f"{origin} {number}".encode()).digest()[:4], "big")
