"""What the finished trials say about the search: which parameters mattered, and what an expert would advise."""

import dataclasses
import enum
from collections.abc import Mapping


class AdviceKind(enum.StrEnum):
    """Also the type of a condition."""

    BEST_AT_EDGE = "BestAtEdge"
    RANGE_TOO_WIDE = "RangeTooWide"
    NO_EFFECT = "NoEffect"
    TOO_FEW_TRIALS = "TooFewTrials"
    SEEDS_TOO_NOISY = "SeedsTooNoisy"
    VALIDATION_GAP = "ValidationGap"


@dataclasses.dataclass(frozen=True)
class Advice:
    """What was seen, and what to do about it."""

    kind: AdviceKind
    message: str


@dataclasses.dataclass(frozen=True)
class Insight:
    """``importances``: shares by parameter that sum to 1, the largest first; empty while there are too few trials.
    ``effects``: in words, what changing a parameter did. ``advice``: at most one of a kind."""

    importances: Mapping[str, float] = dataclasses.field(default_factory=dict)
    advice: tuple[Advice, ...] = ()
    effects: Mapping[str, str] = dataclasses.field(default_factory=dict)
