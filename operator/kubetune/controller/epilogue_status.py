"""What the status says of what comes after the search. Pure."""

import math

from kubetune.api.spec import Json
from kubetune.controller import jobs, status
from kubetune.controller.begun import Phase, Scoring
from kubetune.controller.epilogue import Epilogue
from kubetune.engine.winner import Winner
from kubetune.storage.base import Version

SCORINGS = 10  # shown, the latest


def fields(after: Epilogue | None) -> Json:
    """What came after the search so far."""
    result: Json = {}
    if after is None:
        return result
    if after.phase is not None:
        result["phase"] = _phase(after.phase)
    if after.winner is not None:
        result["winner"] = _winner(after.winner)
    if after.versions:
        result["model"] = _model(after.versions[-1])
    if after.scorings:
        result["test"] = _scoring(after.scorings[-1])
        result["scorings"] = [_scoring(each) for each in after.scorings[-SCORINGS:]]
    return result


def _phase(phase: Phase) -> Json:
    result: Json = {"name": phase.name, "finished": phase.finished, "total": phase.total}
    return result | ({"failed": True} if phase.failed else {})


def _model(version: Version) -> Json:
    return {
        "version": version.number,
        "address": version.address,
        "digest": version.digest,
        "image": version.image,
        "parameters": {name: jobs.text(value) for name, value in version.params.items()},
        "phase": version.phase,
        "time": status.timestamp(version.time),
    }


def _scoring(scoring: Scoring) -> Json:
    result: Json = {"name": scoring.name, "time": status.timestamp(scoring.time)}
    if scoring.value is not None and math.isfinite(scoring.value):
        result["value"] = scoring.value
    if scoring.value is None:
        result |= {"message": scoring.message[: status.TEXT]} | ({"seen": True} if scoring.seen else {})
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
