"""A searcher that is asked over HTTP: docs/own-searcher.md has the interface.

Every request says what ended since the server was last told; a server that does not know the beginning (it is new)
answers 409 and how much it knows, and is told the rest. So a server that forgets everything still answers right.
"""

import dataclasses
import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api.parameters import Categorical, Parameter, Params
from kubetune.api.searcher import Study, Told

LIMIT = 1 << 20  # bytes of an answer
SHOWN = 300  # characters of an answer that is an error


class HttpSearcher:
    """Keeps `searcher.Searcher`.

    Args:
        address: without the final /ask.
        timeout: seconds for one answer.
    """

    def __init__(self, study: Study, address: str, timeout: float) -> None:
        self._study = study
        self._address = f"{address}/ask"
        self._timeout = timeout
        self._ended: list[dict[str, Any]] = []
        self._known = 0  # of them, by the server

    def tell(self, trials: Sequence[Told]) -> None:
        self._ended += [_trial(trial) for trial in trials]

    def ask(self, number: int, running: Mapping[int, Params]) -> Params:
        """Raises OSError: it could not be asked; ValueError: its answer is none."""
        status, answer = self._send(number, running)
        if status == 409:
            known = answer.get("known")
            if not isinstance(known, int) or not 0 <= known <= len(self._ended):
                raise ValueError(f"{self._address} answers 409 without `known` from 0 to {len(self._ended)}: {answer}")
            self._known = known
            status, answer = self._send(number, running)
        parameters = answer.get("parameters")
        if status != 200 or not isinstance(parameters, dict):
            raise ValueError(f"{self._address} answers {status}: {str(answer)[:SHOWN]}")
        self._known = len(self._ended)
        return parameters

    def _send(self, number: int, running: Mapping[int, Params]) -> tuple[int, dict[str, Any]]:
        body = {
            "study": description(self._study),
            "number": number,
            "first": self._known,
            "ended": self._ended[self._known :],
            "running": [{"number": each, "parameters": dict(params)} for each, params in running.items()],
        }
        request = urllib.request.Request(
            self._address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with _OPENER.open(request, timeout=self._timeout) as response:
                return response.status, _read(self._address, response.read(LIMIT + 1))
        except urllib.error.HTTPError as error:
            if error.code == 409:
                return 409, _read(self._address, error.read(LIMIT + 1))
            said = error.read(SHOWN).decode("utf-8", "replace").strip()
            raise OSError(f"{self._address} answers {error.code}: {said}") from error
        except OSError as error:
            raise OSError(f"{self._address} cannot be asked: {getattr(error, 'reason', error)}") from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Who may write an Experiment says which Service is asked, not which address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def _read(address: str, body: bytes) -> dict[str, Any]:
    if len(body) > LIMIT:
        raise ValueError(f"{address} answers more than {LIMIT} bytes")
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ValueError(f"{address} answers no JSON object: {body[:SHOWN]!r}")
    return answer


def description(study: Study) -> dict[str, Any]:
    """The study as JSON."""
    return {
        "namespace": study.namespace,
        "name": study.name,
        "uid": study.uid,
        "seed": study.seed,
        "objectives": [{"metric": each.metric, "direction": each.direction} for each in study.objectives],
        "parameters": {name: _parameter(parameter) for name, parameter in study.parameters.items()},
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    when = {"when": {parent: list(values) for parent, values in parameter.when}} if parameter.when else {}
    if isinstance(parameter, Categorical):
        ordered = {"ordered": True} if parameter.ordered else {}
        return {"kind": "categorical", "choices": list(parameter.choices), **ordered, **when}
    fields = dataclasses.asdict(parameter)
    kind = type(parameter).__name__.lower()
    return {"kind": kind, **{name: fields[name] for name in ("low", "high", "log", "step")}, **when}


def _trial(trial: Told) -> dict[str, Any]:
    """Numbers that JSON does not have are strings, as in docs/gateway-api.md."""
    values = None if trial.values is None else [each if math.isfinite(each) else _word(each) for each in trial.values]
    return {"number": trial.number, "state": trial.state, "parameters": dict(trial.params), "values": values}


def _word(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
