"""Who may do what: the built-in roles, the way to the gateway, no service account borrowed through an Experiment."""

import copy
import json
import subprocess

from tests.e2e import cluster
from tests.e2e.bad_manifests import GOOD


def grant(namespace: str, person: str, *rules: cluster.Json, role: str = "") -> None:
    """A Role with these rules, or a built-in ClusterRole, for a person in a namespace."""
    name = f"{person}-{role or 'own'}"
    reference = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole" if role else "Role",
        "name": role or name,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": reference,
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person}],
    }
    own = {**binding, "kind": "Role", "rules": rules}
    del own["roleRef"], own["subjects"]
    for body in [binding] if role else [own, binding]:
        cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(body))


def may(person: str, verb: str, resource: str, namespace: str, subresource: str = "") -> bool:
    command = ["kubectl", "auth", "can-i", verb, resource, f"--subresource={subresource}", "-n", namespace]
    person_options = ["--as", person, "--as-group=system:authenticated"]
    done = subprocess.run([*command, *person_options], capture_output=True, text=True, timeout=60, check=False)
    answer = done.stdout.strip()
    assert answer in ("yes", "no"), done.stderr  # and not a mistake in the question
    return answer == "yes"


def create(namespace: str, person: str, account: str | None) -> str:
    """Dry run; returns why it was refused, "" if it was not."""
    body = copy.deepcopy(GOOD)
    if account is not None:
        body["spec"]["template"]["spec"]["serviceAccountName"] = account
    try:
        cluster.kubectl(
            "create", "-n", namespace, "--as", person, "--dry-run=server", "-f", "-", stdin=json.dumps(body)
        )
    except cluster.CommandError as refusal:
        return str(refusal)
    return ""


def test_viewers_view_and_editors_edit(namespace: str) -> None:
    grant(namespace, "viewer", role="view")
    grant(namespace, "editor", role="edit")
    allowed = {
        (person, verb, subresource)
        for person in ("viewer", "editor", "stranger")
        for verb, subresource in (("list", ""), ("create", ""), ("patch", "scale"), ("patch", "status"))
        if may(person, verb, "experiments.kubetune.dev", namespace, subresource)
    }
    assert allowed == {
        ("viewer", "list", ""),
        ("editor", "list", ""),
        ("editor", "create", ""),
        ("editor", "patch", "scale"),
    }


def test_everyone_reaches_the_gateway_and_no_other_service() -> None:
    services = ("https:kubetune-gateway:8443", "https:kubetune-operator:8080", "kubetune-postgresql")
    reached = [name for name in services if may("stranger", "get", f"services/{name}", cluster.NAMESPACE, "proxy")]
    assert reached == ["https:kubetune-gateway:8443"]
    assert not may("stranger", "create", f"services/{services[0]}", cluster.NAMESPACE, "proxy")


def test_an_experiment_lends_nobody_a_service_account(namespace: str) -> None:
    cluster.kubectl("create", "serviceaccount", "trainer", "-n", namespace)
    experiments = {"apiGroups": ["kubetune.dev"], "resources": ["experiments"], "verbs": ["create"]}
    use = {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["trainer"], "verbs": ["use"]}
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}
    grant(namespace, "mallory", experiments)
    grant(namespace, "user", experiments, use)
    grant(namespace, "runner", experiments, pods)
    said = create(namespace, "mallory", "trainer")
    assert "mallory may not use service account trainer" in said
    assert create(namespace, "mallory", None) == ""
    assert create(namespace, "user", "trainer") == ""
    assert "may not use service account default" in create(namespace, "user", "default")
    assert create(namespace, "runner", "trainer") == ""
