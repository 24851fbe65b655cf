"""A PostgreSQL of one's own with TLS in place of the bundled one: what docs/install.md says is what happens."""

import base64
import json
import pathlib

import pytest

from tests.e2e import cluster

RELEASE = "own-database"
POSTGRES = "postgres:15-bookworm"  # on the nodes: the bundled one is the same
PASSWORD = "only-of-this-test"


@pytest.fixture
def certificates(tmp_path: pathlib.Path, namespace: str) -> pathlib.Path:
    """ca.crt, and tls.crt with tls.key for the database's Service."""
    host = f"database.{namespace}.svc"
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    at = str(tmp_path)
    cluster.run(*new, "-subj", "/CN=authority of a test", "-keyout", f"{at}/ca.key", "-out", f"{at}/ca.crt")
    signed = ("-CA", f"{at}/ca.crt", "-CAkey", f"{at}/ca.key", "-addext", f"subjectAltName=DNS:{host}")
    cluster.run(*new, "-subj", f"/CN={host}", *signed, "-keyout", f"{at}/tls.key", "-out", f"{at}/tls.crt")
    return tmp_path


def secret(name: str, **values: bytes) -> cluster.Json:
    data = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def database(certificates: pathlib.Path) -> list[cluster.Json]:
    """A server that takes connections by TLS only."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    only_tls = "hostssl all all all scram-sha-256\\nlocal all all trust"
    script = (
        f"printf '{only_tls}' > /tmp/hba && exec docker-entrypoint.sh postgres -c hba_file=/tmp/hba -c ssl=on"
        " -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key"
    )
    environment = {"POSTGRES_PASSWORD": PASSWORD, "PGDATA": "/data/pg"}
    container = {
        "name": "postgres",
        "image": POSTGRES,
        "imagePullPolicy": "IfNotPresent",
        "command": ["bash", "-c", script],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "securityContext": security,
        "volumeMounts": [
            {"name": "tls", "mountPath": "/tls"},
            {"name": "data", "mountPath": "/data"},
            {"name": "run", "mountPath": "/var/run/postgresql"},
        ],
        "readinessProbe": {"exec": {"command": ["pg_isready", "-U", "postgres"]}, "periodSeconds": 1},
    }
    pod = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "runAsGroup": 999,
            "fsGroup": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 2,
        "containers": [container],
        "volumes": [
            {"name": "tls", "secret": {"secretName": "database-tls", "defaultMode": 0o440}},
            {"name": "data", "emptyDir": {}},
            {"name": "run", "emptyDir": {}},
        ],
    }
    pair = {name.replace(".", "_"): (certificates / name).read_bytes() for name in ("tls.crt", "tls.key")}
    return [
        secret("database-tls", **pair),
        secret("database-ca", ca_crt=(certificates / "ca.crt").read_bytes()),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "database", "labels": {"app": "database"}},
            "spec": pod,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "database"},
            "spec": {"selector": {"app": "database"}, "ports": [{"port": 5432}]},
        },
    ]


def query(namespace: str, sql: str) -> str:
    return cluster.kubectl("exec", "-n", namespace, "database", "--", "psql", "-U", "postgres", "-tAc", sql).strip()


def test_a_database_of_ones_own_is_spoken_to_by_tls_alone(namespace: str, certificates: pathlib.Path) -> None:
    url = f"postgresql://postgres:{PASSWORD}@database.{namespace}.svc:5432/postgres"
    items = [*database(certificates), secret("database-url", url=url.encode())]
    cluster.kubectl(
        "apply", "-n", namespace, "-f", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": items})
    )
    cluster.kubectl("wait", "-n", namespace, "pod/database", "--for=condition=Ready", "--timeout=60s")
    values = {
        "image": {"repository": f"{cluster.IMAGE_PREFIX}kubetune/kubetune"},
        "crds": {"install": False},
        "watchNamespaces": [namespace],
        "postgresql": {"enabled": False},
        "database": {
            "external": {
                "secretName": "database-url",
                "sslMode": "verify-full",
                "ca": {"secretName": "database-ca"},
            }
        },
    }
    command = ["helm", "install", RELEASE, "charts/kubetune", "-n", namespace, "--wait", "--timeout", "3m", "-f", "-"]
    cluster.run(*command, stdin=json.dumps(values), timeout=200)
    assert query(namespace, "SELECT count(*) FROM kubetune.experiments") == "0"
    ours = "FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.client_addr IS NOT NULL"
    assert int(query(namespace, f"SELECT count(*) {ours} AND s.ssl")) > 0
    assert query(namespace, f"SELECT count(*) {ours} AND NOT s.ssl") == "0"
    cluster.run("helm", "uninstall", RELEASE, "-n", namespace, "--wait", timeout=120)
