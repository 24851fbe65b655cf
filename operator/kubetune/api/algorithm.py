"""A sampler or a pruner as the custom resource names it."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A sampler or a pruner by name; settings in the CRD's camelCase."""

    name: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(form: Mapping[str, Any] | None, default: str) -> Algorithm:
    """As the resource has it; ``default``: its name, where none is given."""
    given = form or {}
    return Algorithm(str(given.get("name", default)), dict(given.get("settings") or {}))
