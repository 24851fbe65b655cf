"""What the status says of what comes after the search. Pure."""

import dataclasses
import math

from kubetune.api.spec import Json
from kubetune.controller import jobs, status
from kubetune.controller.epilogue import Epilogue
from kubetune.engine.winner import Winner


def fields(after: Epilogue | None) -> Json:
    """What came after the search so far."""
    result: Json = {}
    if after is None:
        return result
    if after.phase is not None:
        result["phase"] = dataclasses.asdict(after.phase)
    if after.winner is not None:
        result["winner"] = _winner(after.winner)
    return result


def _winner(winner: Winner) -> Json:
    result: Json = {"trial": winner.trial, "runs": winner.runs, "sentence": winner.sentence[: status.TEXT]}
    result["parameters"] = {name: jobs.text(value) for name, value in winner.params.items()}
    if math.isfinite(winner.mean):
        result["mean"] = winner.mean
    if winner.interval is not None:
        result["interval"] = dict(zip(("low", "high"), winner.interval, strict=True))
    if winner.runner_up is not None:
        result |= {"runnerUp": winner.runner_up, "distinguishable": bool(winner.distinguishable)}
    return result
