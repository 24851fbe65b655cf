"""Hyperopt's TPE as a searcher for kubetune, over HTTP (docs/own-searcher.md).

It keeps what it was told of each study in memory and nothing else: after a restart it answers 409 and is told again.
"""

import http.server
import json
import math
from typing import Any

import numpy as np
from hyperopt import Trials, hp, tpe
from hyperopt.base import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Domain

PORT = 8080
STUDIES: dict[str, "Study"] = {}


class Study:
    """One Experiment's trials, as Hyperopt has them."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.parameters: dict[str, dict[str, Any]] = description["parameters"]
        if any("when" in parameter for parameter in self.parameters.values()):
            raise ValueError("conditions among parameters are not translated to Hyperopt's here")
        self.sign = -1.0 if description["objectives"][0]["direction"] == "maximize" else 1.0
        self.seed = int(description["seed"])
        space = {name: dimension(name, parameter) for name, parameter in self.parameters.items()}
        self.domain = Domain(lambda point: 0.0, space)
        self.ended: list[dict[str, Any]] = []

    def ask(self, number: int) -> dict[str, Any]:
        """From a generator of this number's own, so that the same record gives the same parameters."""
        trials = Trials()
        if self.ended:
            trials.insert_trial_docs([self.document(trial) for trial in self.ended])
            trials.refresh()
        (made,) = tpe.suggest([number], self.domain, trials, (self.seed + number) % 2**31)
        return {name: self.value(name, made["misc"]["vals"][name][0]) for name in self.parameters}

    def document(self, trial: dict[str, Any]) -> dict[str, Any]:
        number, value = trial["number"], (trial["values"] or [None])[0]
        known = isinstance(value, int | float) and math.isfinite(value)
        result = {"status": STATUS_OK, "loss": self.sign * value} if known else {"status": STATUS_FAIL}
        vals = {name: [self.point(name, given)] for name, given in trial["parameters"].items()}
        misc = {
            "tid": number,
            "cmd": ("domain_attachment", "FMinIter_Domain"),
            "idxs": {name: [number] for name in vals},
            "vals": vals,
            "workdir": None,
        }
        return {
            "tid": number,
            "spec": None,
            "result": result,
            "misc": misc,
            "state": JOB_STATE_DONE,
            "owner": None,
            "book_time": None,
            "refresh_time": None,
            "exp_key": None,
            "version": 0,
        }

    def point(self, name: str, value: Any) -> Any:
        """As Hyperopt has it: of a choice its place."""
        parameter = self.parameters[name]
        return parameter["choices"].index(value) if parameter["kind"] == "categorical" else value

    def value(self, name: str, point: Any) -> Any:
        parameter = self.parameters[name]
        if parameter["kind"] == "categorical":
            return parameter["choices"][int(point)]
        low, high, step = parameter["low"], parameter["high"], parameter["step"]
        if step:
            point = low + round((point - low) / step) * step
        return int(np.clip(point, low, high)) if parameter["kind"] == "int" else float(np.clip(point, low, high))


def dimension(name: str, parameter: dict[str, Any]) -> Any:
    """The parameter as one of Hyperopt's."""
    if parameter["kind"] == "categorical":
        return hp.choice(name, parameter["choices"])
    low, high, step = parameter["low"], parameter["high"], parameter["step"]
    if parameter["log"]:
        logarithms = math.log(low), math.log(high)
        return hp.qloguniform(name, *logarithms, 1) if parameter["kind"] == "int" else hp.loguniform(name, *logarithms)
    return hp.quniform(name, low, high, step) if step else hp.uniform(name, low, high)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            self.answer(*ask(body))
        except Exception as error:  # noqa: BLE001 - it becomes the condition SamplerFailed, with this text
            self.answer(500, {"error": f"{type(error).__name__}: {error}"})

    def answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def ask(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """(status, answer)."""
    study = STUDIES.get(body["study"]["uid"])
    if study is None:
        study = STUDIES[body["study"]["uid"]] = Study(body["study"])
    if body["first"] > len(study.ended):
        return 409, {"known": len(study.ended)}
    study.ended = study.ended[: body["first"]] + body["ended"]
    return 200, {"parameters": study.ask(body["number"])}


if __name__ == "__main__":
    http.server.HTTPServer(("", PORT), Handler).serve_forever()
