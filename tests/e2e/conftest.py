"""Fixtures of the end-to-end suites: a cluster with kubetune installed by its chart, one namespace a test."""

import functools
import json
import pathlib
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.e2e import cluster


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """The release is there and ready, whatever an earlier test did to it."""
    for component in ("postgresql", "operator", "gateway"):
        cluster.wait_for(f"{component} ready", functools.partial(cluster.component_ready, component), timeout=240)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace under the restricted Pod Security Standard; gone after the test."""
    name = f"e2e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def release(tmp_path: pathlib.Path) -> Iterator[Callable[[str], None]]:
    """Upgrades the release by ``--set`` with these values; it has its own again after the test."""
    kept = tmp_path / "values.json"
    kept.write_text(json.dumps(cluster.helm_values()))

    def upgrade(values: str) -> None:
        cluster.upgrade("--reuse-values", "--set", values)

    yield upgrade
    cluster.upgrade("--reset-values", "--values", str(kept))
