"""Fixtures of the tests on storages."""

import pytest

from tests.conftest import Storage
from tests.integration.experiments import Experiment


@pytest.fixture
def experiment(storage: Storage) -> Experiment:
    """An experiment of this test alone, in each kind of storage."""
    return Experiment(storage)
