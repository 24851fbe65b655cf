"""What is installed by which values, and what wrong values are told."""

import dataclasses
import re

import pytest
import yaml

from kubetune.settings import Settings
from tests.chart import rendered
from tests.chart.rendered import Json

SCHEMA = yaml.safe_load((rendered.CHART / "values.schema.json").read_text())
BY_THE_CHART = {
    "database_url", "database_url_file", "namespace", "watch_namespaces", "gateway_url", "listen_port", "http_port",
    "tls_directory", "tls_secret", "tls_manage", "tls_hosts", "lease_name", "worker_image",
    "max_trials", "max_trials_per_namespace",
    "s3_endpoint", "s3_bucket", "s3_region", "s3_prefix", "s3_access_key", "s3_secret_key",
}  # fmt: skip


def test_lint() -> None:
    done = rendered.helm("lint", "--strict", str(rendered.CHART), "--kube-version", rendered.KUBERNETES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(rendered.VALUE_SETS))
def test_it_renders_and_names_every_object_once(name: str) -> None:
    found = rendered.objects(name)
    keys = [(body["kind"], body["metadata"].get("namespace"), body["metadata"]["name"]) for body in found]
    assert len(set(keys)) == len(keys)
    for body in found:
        if body["kind"] != "CustomResourceDefinition":
            assert body["metadata"]["labels"]["app.kubernetes.io/instance"] == "kubetune"


def test_the_kind_comes_from_the_one_source_and_is_kept() -> None:
    shipped = rendered.one(rendered.objects("default"), "CustomResourceDefinition", "experiments.kubetune.dev")
    source = yaml.safe_load((rendered.ROOT / "crds" / "kubetune.dev_experiments.yaml").read_text())
    assert shipped["spec"] == source["spec"]
    assert shipped["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    unkept = rendered.template({"crds": {"keep": False}})
    assert "annotations" not in rendered.one(unkept, "CustomResourceDefinition", "experiments.kubetune.dev")["metadata"]
    assert not rendered.of_kind(rendered.objects("namespaced"), "CustomResourceDefinition")


def test_a_release_of_that_name_has_the_names_that_everything_else_defaults_to() -> None:
    found = rendered.objects("default")
    for kind, name in (
        ("Deployment", "kubetune-operator"),
        ("Deployment", "kubetune-gateway"),
        ("StatefulSet", "kubetune-postgresql"),
        ("Service", "kubetune-gateway"),
        ("Secret", "kubetune-postgresql"),
    ):
        rendered.one(found, kind, name)
    operator = rendered.one(found, "Deployment", "kubetune-operator")["spec"]["template"]["spec"]["containers"][0]
    given, default = rendered.environment(operator), Settings()
    assert given["KUBETUNE_GATEWAY_URL"] == default.gateway_url
    assert given["KUBETUNE_TLS_SECRET"] == default.tls_secret
    assert given["KUBETUNE_LEASE_NAME"] == default.lease_name
    assert given["KUBETUNE_TLS_HOSTS"] == default.tls_hosts


def test_the_environment_is_one_that_the_settings_take() -> None:
    for name in rendered.VALUE_SETS:
        for pod, spec in rendered.pods(rendered.objects(name)):
            for container in rendered.containers(spec):
                if container["image"].startswith("postgres") or pod.endswith("-test"):
                    continue
                given = rendered.environment(container)
                known = {f"KUBETUNE_{field.name.upper()}" for field in dataclasses.fields(Settings)}
                assert {key for key in given if key.startswith("KUBETUNE_")} <= known
                Settings.from_environment({key: value for key, value in given.items() if not key.endswith("_FILE")})


def test_numbers_reach_the_settings_as_they_were_written() -> None:
    gateway = rendered.one(rendered.objects("everything"), "Deployment", "kubetune-gateway")
    given = rendered.environment(gateway["spec"]["template"]["spec"]["containers"][0])
    settings = Settings.from_environment({key: given[key] for key in given if not key.endswith("_FILE")})
    assert (settings.retention, settings.batch_delay, settings.body_limit) == (2592000, 0.005, 1048576)
    assert settings.log_level == "DEBUG"
    assert given["A"] == "1"


def test_every_setting_can_be_given() -> None:
    def camel(name: str) -> str:
        first, *rest = name.split("_")
        return first + "".join(part.capitalize() for part in rest)

    fields = {camel(field.name) for field in dataclasses.fields(Settings) if field.name not in BY_THE_CHART}
    assert SCHEMA["properties"]["settings"]["properties"].keys() == fields


def test_every_value_has_a_default_in_sight_and_a_place_in_the_schema() -> None:
    values = yaml.safe_load((rendered.CHART / "values.yaml").read_text())

    def compare(schema: Json, given: Json, path: str) -> None:
        properties = schema.get("properties")
        if properties is None or path == ".settings" or path.endswith(".issuerRef"):
            return
        assert properties.keys() - {"global", "claims"} == given.keys(), path
        for key, value in given.items():
            below = properties[key]
            below = SCHEMA["definitions"][below["$ref"].rsplit("/", 1)[1]] if "$ref" in below else below
            if isinstance(value, dict):
                compare(below, value, f"{path}.{key}")

    compare(SCHEMA, values, "")


def test_your_own_database_by_tls() -> None:
    found = rendered.objects("external database")
    assert not rendered.of_kind(found, "StatefulSet", "PersistentVolumeClaim")
    for pod, spec in rendered.pods(found):
        if pod.endswith("-test"):
            continue
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert volumes["database"]["secret"]["secretName"] == "db"
        assert volumes["database-ca"]["secret"]["secretName"] == "db-ca"
        for container in rendered.containers(spec):
            given = rendered.environment(container)
            assert given["PGSSLMODE"] == "verify-full"
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert given["PGSSLROOTCERT"] == mounts["database-ca"] + "/ca.crt"
            assert given["KUBETUNE_DATABASE_URL_FILE"] == mounts["database"] + "/url"


def test_the_database_is_migrated_before_the_operator() -> None:
    operator = rendered.one(rendered.objects("default"), "Deployment", "kubetune-operator")["spec"]
    assert operator["replicas"] == 1
    assert [container["args"] for container in operator["template"]["spec"]["initContainers"]] == [["migrate"]]


def test_the_lease_goes_with_the_release_and_its_holder_is_nobody_elses_business() -> None:
    for name in ("default", "namespaced"):
        found = rendered.objects(name)
        operator = rendered.one(found, "Deployment", "kubetune-operator")["spec"]["template"]["spec"]["containers"][0]
        lease = rendered.one(found, "Lease", rendered.environment(operator)["KUBETUNE_LEASE_NAME"])
        assert "spec" not in lease  # or an upgrade would empty it


def test_a_new_operator_stands_by_before_the_old_one_goes() -> None:
    for name in ("default", "everything"):
        operator = rendered.one(rendered.objects(name), "Deployment", "kubetune-operator")["spec"]
        assert operator["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_several_operators_are_spread_and_not_drained_together() -> None:
    found = rendered.objects("everything")
    operator = rendered.one(found, "Deployment", "kubetune-operator")["spec"]
    assert operator["replicas"] == 2
    (spread,) = operator["template"]["spec"]["topologySpreadConstraints"]
    budget = rendered.one(found, "PodDisruptionBudget", "kubetune-operator")["spec"]
    for selector in (spread["labelSelector"], budget["selector"]):
        assert selector == operator["selector"]
    alone = rendered.one(rendered.objects("default"), "Deployment", "kubetune-operator")["spec"]["template"]["spec"]
    assert "topologySpreadConstraints" not in alone


def test_several_gateways_are_not_drained_together() -> None:
    assert not rendered.of_kind(rendered.objects("default"), "PodDisruptionBudget")
    rendered.one(rendered.objects("everything"), "PodDisruptionBudget", "kubetune-gateway")


def test_a_component_goes_where_it_is_told_and_otherwise_where_all_go() -> None:
    specs = dict(rendered.pods(rendered.objects("everything")))
    assert specs["kubetune-operator"]["nodeSelector"] == {"pool": "system"}
    assert specs["kubetune-gateway"]["nodeSelector"] == {"pool": "any"}
    assert specs["kubetune-operator"]["priorityClassName"] == "low"
    assert specs["kubetune-gateway"]["priorityClassName"] == "high"
    assert all(spec["imagePullSecrets"] == [{"name": "pull"}] for spec in specs.values())


def test_a_second_database_server_waits_for_the_first_to_be_gone() -> None:
    """Two on one volume corrupt it; see docs/decisions/0007-one-database-server.md."""
    pod = rendered.one(rendered.objects("default"), "StatefulSet", "kubetune-postgresql")["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert command[:3] == ["flock", "--exclusive", "--no-fork"]
    volume = next(mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "data")
    assert command[3].startswith(volume["mountPath"] + "/"), "the lock must lie on the volume that it guards"


def test_an_upgrade_of_the_chart_does_not_restart_the_database() -> None:
    template = rendered.one(rendered.objects("default"), "StatefulSet", "kubetune-postgresql")["spec"]["template"]
    assert not re.search(r"helm.sh/chart|app.kubernetes.io/version", str(template))


def test_who_makes_the_certificate() -> None:
    managed = rendered.objects("default")
    assert "data" not in rendered.one(managed, "Secret", "kubetune-gateway-tls-ca")  # or an upgrade would empty it
    for name in ("cert-manager", "own certificate"):
        found = rendered.objects(name)
        assert not [body for body in rendered.of_kind(found, "Secret") if "tls" in body["metadata"]["name"]]
        operator = rendered.one(found, "Deployment", "kubetune-operator")["spec"]["template"]["spec"]["containers"][0]
        assert rendered.environment(operator)["KUBETUNE_TLS_MANAGE"] == "false"
    certificate = rendered.one(rendered.objects("cert-manager"), "Certificate", "kubetune-gateway-tls")
    assert certificate["spec"]["dnsNames"] == ["kubetune-gateway.kubetune.svc"]


WRONG: list[tuple[str, Json, str]] = [
    ("unknown", {"gatway": {}}, "gatway"),
    ("unknown below", {"gateway": {"replica": 2}}, "replica"),
    ("unknown setting", {"settings": {"retension": 5}}, "retension"),
    ("no operator", {"operator": {"replicas": 0}}, "replicas"),
    ("no gateway", {"gateway": {"replicas": 0}}, "replicas"),
    ("text for a number", {"gateway": {"replicas": "two"}}, "replicas"),
    ("pull policy", {"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ("log level", {"settings": {"logLevel": "loud"}}, "logLevel"),
    ("namespace", {"watchNamespaces": ["Team_A"]}, "watchNamespaces"),
    ("namespaces as text", {"watchNamespaces": "a,b"}, "watchNamespaces"),
    ("ssl mode", {"database": {"external": {"sslMode": "on"}}}, "sslMode"),
    ("memory", {"operator": {"resources": {"limits": {"memory": "much"}}}}, "memory"),
    ("no database", {"postgresql": {"enabled": False}}, "there is no database"),
    ("two databases", {"database": {"external": {"secretName": "db"}}}, "set postgresql.enabled to false"),
    ("two certificates", {"tls": {"existingSecret": "a", "certManager": {"enabled": True}}}, "exclude each other"),
    ("half a store", {"objectStorage": {"endpoint": "https://s3.local"}}, "objectStorage.secretName"),
    ("a store without scheme", {"objectStorage": {"endpoint": "s3.local"}}, "endpoint"),
    ("no issuer", {"tls": {"certManager": {"enabled": True}}}, "issuerRef.name is missing"),
]


@pytest.mark.parametrize(("values", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_wrong_values_are_refused_by_name(values: Json, said: str) -> None:
    done = rendered.helm("template", "x", str(rendered.CHART), "--kube-version", rendered.KUBERNETES, values=values)
    assert done.returncode != 0
    assert said in done.stderr


def test_the_image_with_further_samplers_is_another_tag_of_the_same() -> None:
    found = rendered.template({"image": {"tag": "1.2.3", "extras": "gp"}})
    for name in ("kubetune-operator", "kubetune-gateway"):
        pod = rendered.one(found, "Deployment", name)["spec"]["template"]["spec"]
        assert {container["image"] for container in pod["containers"]} == {"kubetune/kubetune:1.2.3-gp"}


def test_the_stores_credential_is_a_secret_of_the_release() -> None:
    found = rendered.template({"objectStorage": {"endpoint": "https://s3.local", "bucket": "b", "secretName": "mine"}})
    for name in ("kubetune-operator", "kubetune-gateway"):
        pod = rendered.one(found, "Deployment", name)["spec"]["template"]["spec"]
        given = {variable["name"]: variable for variable in pod["containers"][0]["env"]}
        assert given["KUBETUNE_S3_ENDPOINT"]["value"] == "https://s3.local"
        assert given["KUBETUNE_S3_SECRET_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "mine", "key": "secretKey"}}
    assert not any(key.startswith("KUBETUNE_S3") for key in rendered.environment(_gateway("default")))


def _gateway(name: str) -> Json:
    found: Json = rendered.one(rendered.objects(name), "Deployment", "kubetune-gateway")
    container: Json = found["spec"]["template"]["spec"]["containers"][0]
    return container
