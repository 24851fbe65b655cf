"""The local cluster's settings and entry points, as far as they need no cluster."""

import pytest

from dev.cluster import __main__ as entry
from dev.cluster import settings


@pytest.mark.parametrize("registry", ["registry.example.org/team", "localhost:5000", "10.0.0.1:5000/a/b", "loaded"])
def test_a_registry_is_taken_as_docker_push_takes_it(registry: str) -> None:
    assert settings.load({"REGISTRY": registry + "/"}).registry == registry


@pytest.mark.parametrize("registry", ["https://registry.example.org", "a b", "host/Team", "host:port"])
def test_another_form_is_refused_with_the_right_one(registry: str) -> None:
    with pytest.raises(settings.UserError, match=r"host\[:port\]/path"):
        settings.load({"REGISTRY": registry})


def test_images_for_a_cluster_of_ones_own_need_a_registry() -> None:
    config = settings.load({"KUBECONFIG": "/somewhere/else", "KUBETUNE_CACHE": "/nowhere"})
    with pytest.raises(settings.UserError, match="REGISTRY=host/path"):
        entry.load(config, ["digits:1"])


def test_nothing_is_pushed_to_nodes_that_see_this_machines_images() -> None:
    config = settings.load({"KUBECONFIG": "/somewhere/else", "KUBETUNE_CACHE": "/nowhere", "REGISTRY": settings.LOADED})
    assert entry.load(config, ["digits:1"]) == 0


def test_the_kubeconfig_that_env_set_is_no_cluster_of_the_users() -> None:
    environ = {"KUBETUNE_CACHE": "/nowhere", "KUBECONFIG": "/nowhere/clusters/kubetune/kubeconfig"}
    assert settings.load(environ).user_kubeconfig is None


@pytest.mark.parametrize(("environ", "message"), [({"NODES": "0"}, "NODES"), ({"KUBETUNE_CLUSTER": "A b"}, "CLUSTER")])
def test_a_knob_out_of_range_names_itself(environ: dict[str, str], message: str) -> None:
    with pytest.raises(settings.UserError, match=message):
        settings.load(environ)
