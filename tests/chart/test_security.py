"""Every pod passes the restricted Pod Security Standard; every right is one that its holder needs."""

import pytest

from tests.chart import rendered
from tests.chart.rendered import Json

SETS = sorted(rendered.VALUE_SETS)
# All that operator and gateway may do with what is not theirs. A right more is a decision, so it is a change here.
OPERATOR = {
    ("kubetune.dev", "experiments", "get"),
    ("kubetune.dev", "experiments", "list"),
    ("kubetune.dev", "experiments", "watch"),
    ("kubetune.dev", "experiments/status", "patch"),
    *(("batch", "jobs", verb) for verb in ("get", "list", "watch", "create", "delete")),
    *(("", "pods", verb) for verb in ("get", "list", "watch")),
    ("", "pods/log", "get"),
    *(("", "events", verb) for verb in ("get", "create", "patch")),
}
NODES = {("", "nodes", verb) for verb in ("get", "list", "watch")}
GATEWAY = {*(("", "pods", verb) for verb in ("get", "list", "watch")), ("", "pods/log", "get")}


def rights(role: Json) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("name", SETS)
def test_pods_are_fit_for_the_restricted_standard(name: str) -> None:
    for pod, spec in rendered.pods(rendered.objects(name)):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), pod
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod
        assert security["runAsUser"] > 0, pod
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        allowed = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim", "downwardAPI", "csi"}
        for volume in spec.get("volumes", ()):
            assert volume.keys() - {"name"} <= allowed, f"{pod}: {volume}"
        for container in rendered.containers(spec):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, pod
            assert own["capabilities"] == {"drop": ["ALL"]}, pod
            assert own["readOnlyRootFilesystem"] is True, pod
            assert not any("hostPort" in port for port in container.get("ports", ())), pod


@pytest.mark.parametrize("name", SETS)
def test_every_container_says_what_it_needs_and_how_it_is(name: str) -> None:
    for pod, spec in rendered.pods(rendered.objects(name)):
        for container in rendered.containers(spec):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), pod
            assert "memory" in resources["limits"], pod
        if pod.endswith("-test"):
            continue
        for container in spec["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container.get(probe), f"{pod} has no {probe}"


@pytest.mark.parametrize("name", SETS)
def test_no_wildcard_and_no_secret_beyond_its_own(name: str) -> None:
    found = rendered.objects(name)
    for role in rendered.of_kind(found, "ClusterRole", "Role"):
        title = f"{role['kind']} {role['metadata']['name']}"
        for rule in role["rules"]:
            for part in ("apiGroups", "resources", "verbs", "resourceNames"):
                assert "*" not in rule.get(part, ()), title
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), title
        for group, resource, verb in rights(role):
            assert (group, resource) != ("", "secrets") or role["kind"] == "Role", title
            assert (group, resource, verb) != ("", "pods", "create"), title


def test_secrets_are_read_by_name() -> None:
    role = rendered.one(rendered.objects("default"), "Role", "kubetune-certificate")
    named = [rule for rule in role["rules"] if "resourceNames" in rule]
    assert [rule["resourceNames"] for rule in named] == [["kubetune-gateway-tls", "kubetune-gateway-tls-ca"]]
    assert sorted(named[0]["verbs"]) == ["get", "update"]
    unnamed = [rule for rule in role["rules"] if "resourceNames" not in rule]
    assert [rule["verbs"] for rule in unnamed] == [["create"]]  # RBAC cannot bind `create` to a name
    own = rendered.one(rendered.objects("own certificate"), "Role", "kubetune-certificate")
    assert own["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["get"]}]


def test_the_lease_is_read_and_changed_by_name_in_its_own_namespace() -> None:
    for name in ("default", "namespaced"):
        found = rendered.objects(name)
        role = rendered.one(found, "Role", "kubetune-leader")
        operator = rendered.one(found, "Deployment", "kubetune-operator")["spec"]["template"]["spec"]
        lease = rendered.environment(operator["containers"][0])["KUBETUNE_LEASE_NAME"]
        named, unnamed = role["rules"]
        assert (named["resourceNames"], sorted(named["verbs"])) == ([lease], ["get", "update"])
        assert unnamed["verbs"] == ["create"]
        assert {group for group, _, _ in rights(role)} == {"coordination.k8s.io"}
        assert role["metadata"].get("namespace") in (None, "kubetune")
        (subject,) = rendered.one(found, "RoleBinding", "kubetune-leader")["subjects"]
        assert subject["name"] == operator["serviceAccountName"]


def test_rights_cluster_wide() -> None:
    found = rendered.objects("default")
    assert rights(rendered.one(found, "ClusterRole", "kubetune-operator")) == OPERATOR | NODES
    assert rights(rendered.one(found, "ClusterRole", "kubetune-gateway")) == GATEWAY
    tokens = rendered.one(found, "ClusterRole", "kubetune-tokens")
    assert rights(tokens) == {("authentication.k8s.io", "tokenreviews", "create")}
    accounts = {name: spec["serviceAccountName"] for name, spec in rendered.pods(found) if "serviceAccountName" in spec}
    assert accounts == {"kubetune-operator": "kubetune-operator", "kubetune-gateway": "kubetune-gateway"}


def test_rights_in_named_namespaces_only() -> None:
    found = rendered.objects("namespaced")
    for component, expected in (("operator", OPERATOR), ("gateway", GATEWAY)):
        roles = [
            role for role in rendered.of_kind(found, "Role") if role["metadata"]["name"] == f"kubetune-{component}"
        ]
        assert sorted(role["metadata"]["namespace"] for role in roles) == ["team-a", "team-b"]
        assert all(rights(role) == expected for role in roles)
        bindings = [
            binding
            for binding in rendered.of_kind(found, "RoleBinding")
            if binding["metadata"]["name"] == f"kubetune-{component}"
        ]
        assert {binding["subjects"][0]["namespace"] for binding in bindings} == {"kubetune"}
    wide = {role["metadata"]["name"]: rights(role) for role in rendered.of_kind(found, "ClusterRole")}
    assert wide.keys() == {"kubetune-nodes", "kubetune-tokens", "kubetune-view", "kubetune-edit"}
    assert wide["kubetune-nodes"] == NODES
    without = rendered.of_kind(rendered.objects("namespaced without nodes"), "ClusterRole")
    assert "nodes" not in str(without)


def test_viewers_read_and_editors_scale() -> None:
    found = rendered.objects("default")
    view, edit = (rendered.one(found, "ClusterRole", f"kubetune-{name}") for name in ("view", "edit"))
    assert {verb for _, _, verb in rights(view)} == {"get", "list", "watch"}
    assert ("kubetune.dev", "experiments/scale", "patch") in rights(edit)
    assert ("kubetune.dev", "experiments", "create") in rights(edit)
    assert not any(resource == "experiments/status" for _, resource, _ in rights(edit))
    aggregate = "rbac.authorization.k8s.io/aggregate-to-"
    assert {key for key in view["metadata"]["labels"] if key.startswith(aggregate)} == {
        aggregate + role for role in ("view", "edit", "admin")
    }
    assert aggregate + "view" not in edit["metadata"]["labels"]


def test_the_command_line_reaches_the_gateway_and_nothing_else() -> None:
    role = rendered.one(rendered.objects("default"), "Role", "kubetune-cli")
    assert rights(role) == {("", "services/proxy", "get")}
    names = role["rules"][0]["resourceNames"]
    assert names == ["https:kubetune-gateway:8443", "https:kubetune-gateway:https"]
    closed = rendered.template({"cli": {"access": False}})
    assert "services/proxy" not in str(closed)


def test_two_releases_share_no_cluster_wide_name() -> None:
    first = rendered.template({}, "kubetune", "kubetune")
    second = rendered.template({}, "kubetune", "team-a")
    third = rendered.template({}, "other", "kubetune")
    wide = ("ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    names = [
        (body["kind"], body["metadata"]["name"])
        for each in (first, second, third)
        for body in rendered.of_kind(each, *wide)
    ]
    assert len(set(names)) == len(names)
