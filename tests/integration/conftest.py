"""Fixtures of the tests on storages and gateways."""

import pathlib
from collections.abc import Iterator

import pytest

from tests import gateway_world
from tests.conftest import Storage
from tests.integration.experiments import Experiment


@pytest.fixture
def experiment(storage: Storage) -> Experiment:
    """An experiment of this test alone, in each kind of storage."""
    return Experiment(storage)


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[gateway_world.World]:
    """What a gateway has around it."""
    made = gateway_world.World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def gateway(world: gateway_world.World, experiment: Experiment) -> Iterator[gateway_world.Running]:
    """One gateway over the test's experiment, without TLS."""
    with world.gateway(experiment.storage, secure=False) as running:
        yield running
