"""A second release beside the first, in its own namespace: it comes, it works, it goes, and nothing of it stays."""

import json

import pytest

from tests.e2e import cluster

KINDS = (
    "deployments,statefulsets,services,jobs,pods,secrets,configmaps,serviceaccounts,roles,rolebindings,pvc,leases,pdb"
)
OF_THE_CLUSTER = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
KUBERNETES_OWN = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}


def left_in(namespace: str) -> set[str]:
    items = cluster.kubectl_json("get", KINDS, "-n", namespace)["items"]
    return {f"{item['kind']}/{item['metadata']['name']}" for item in items} - KUBERNETES_OWN


def cluster_wide(release: str) -> set[str]:
    items = cluster.kubectl_json("get", OF_THE_CLUSTER, "-l", f"app.kubernetes.io/instance={release}")["items"]
    return {f"{item['kind']}/{item['metadata']['name']}" for item in items}


@pytest.mark.parametrize("keep", [False, True])
def test_uninstall_leaves_what_the_user_chose_to_keep(namespace: str, keep: bool) -> None:
    release = f"second-{str(keep).lower()}"
    values = {
        "crds": {"install": False},
        "watchNamespaces": [namespace],
        "postgresql": {"persistence": {"keep": keep, "size": "1Gi"}},
    }
    command = ["helm", "install", release, "charts/kubetune", "-n", namespace, "--wait", "--timeout", "4m", "-f", "-"]
    cluster.run(*command, stdin=json.dumps(values), timeout=260)
    assert {f"Deployment/{release}-kubetune-operator", f"Deployment/{release}-kubetune-gateway"} <= left_in(namespace)
    cluster.run("helm", "uninstall", release, "-n", namespace, "--wait", timeout=120)
    kept = {"PersistentVolumeClaim", "Secret"} if keep else set()
    cluster.wait_for(
        f"only {kept or 'nothing'} left",
        lambda: {name.split("/")[0] for name in left_in(namespace)} == kept,
        timeout=60,
    )
    assert all("postgresql" in name for name in left_in(namespace))
    assert not cluster_wide(release)


def test_an_experiment_carries_no_finalizer(namespace: str) -> None:
    """So it can be deleted after kubetune is gone."""
    experiment = cluster.apply(namespace, cluster.manifest("free", "pass", maxTrials=1))
    cluster.wait_for("its first trial", experiment.trials)
    assert "finalizers" not in experiment.get()["metadata"]
