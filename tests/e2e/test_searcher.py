"""A searcher from outside on a real cluster: a Service of the experiment's namespace chooses the parameters."""

import json

from tests.e2e import cluster

REPORT = "import kubetune_trial as kt; p = kt.parameters(); kt.report(0, score=p['x'])"
SEARCHER = """
import http.server, json
known = {}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ended = known.setdefault(body["study"]["uid"], [])
        if body["first"] > len(ended):
            return self.answer(409, {"known": len(ended)})
        ended[body["first"]:] = body["ended"]
        self.answer(200, {"parameters": {"x": len(ended) / 16, "k": 1 + body["number"]}})
    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""
CONTAINER = {
    "name": "searcher",
    "image": f"{cluster.IMAGE_PREFIX}kubetune/trial:0.1.0",
    "command": ["python3", "-c", SEARCHER],
    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
POD = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [CONTAINER],
    "terminationGracePeriodSeconds": 0,
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "searcher"},
    "spec": {
        "selector": {"matchLabels": {"app": "searcher"}},
        "template": {"metadata": {"labels": {"app": "searcher"}}, "spec": POD},
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "searcher"},
    "spec": {"selector": {"app": "searcher"}, "ports": [{"port": 80, "targetPort": 8080}]},
}


def test_a_service_chooses_is_missed_and_comes_back_knowing_nothing(namespace: str) -> None:
    sampler = {"name": "external", "settings": {"service": "searcher", "timeout": 5}}
    body = cluster.manifest("mine", REPORT, sampler=sampler, maxTrials=8, parallelism={"max": 1})
    experiment = cluster.apply(namespace, body)
    cluster.wait_for(
        "condition SamplerFailed",
        lambda: any(each["type"] == "SamplerFailed" for each in experiment.status().get("conditions", ())),
        timeout=60,
    )
    assert "searcher" in experiment.condition("SamplerFailed")["message"]
    assert experiment.trials() == []
    for each in (DEPLOYMENT, SERVICE):
        cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(each))
    cluster.wait_for("some have ended", lambda: experiment.status().get("finished", 0) >= 2)
    cluster.kubectl("delete", "pod", "-n", namespace, "-l", "app=searcher", "--grace-period=0", "--force")
    experiment.wait("Complete", timeout=240)
    trials = experiment.trials()
    assert [trial["params"] for trial in trials] == [{"x": number / 16, "k": 1 + number} for number in range(8)]
    assert experiment.condition("SamplerFailed")["status"] == "False"
