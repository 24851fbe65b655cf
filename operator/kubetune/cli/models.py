"""`kubectl tune models`: the versions of models that refits told of. Pure."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.cli import text

_DIGEST = 19  # characters shown: sha256: and twelve digits


def lines(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table, as the gateway tells it (docs/gateway-api.md): the scores on the test set in the order in which they
    were asked for, so that the first one is the one that nobody chose by."""
    headers = ["EXPERIMENT", "VERSION", "TEST", "MADE", "ADDRESS", "DIGEST", "PARAMETERS"]
    return text.table(headers, [_row(model) for model in models], [1, 2])


def _row(model: Mapping[str, Any]) -> list[str]:
    made = datetime.datetime.fromtimestamp(float(model["time"]), datetime.UTC)
    return [
        str(model["experiment"]),
        str(model["version"]),
        ", ".join(text.number(score["value"]) for score in model["scores"]) or "-",
        made.strftime("%Y-%m-%d %H:%M"),
        str(model["address"]),
        text.cut(str(model["digest"]), _DIGEST) or "-",
        text.parameters(model["parameters"]),
    ]
