"""The deep dives: each side of examples/compare.py spends the same and is judged by kubetune's own engine; the trial
with checkpoints goes on."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import warnings
from types import ModuleType

import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
EPOCHS = 40


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    found = importlib.util.spec_from_file_location("compare", EXAMPLES / "compare.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_manifest_is_compared_with_random_search_on_its_own_space(compare: ModuleType) -> None:
    found = compare.searches(EXAMPLES / "asha" / "experiment.yaml", 3)
    assert list(found) == ["random search", "random with asha"]
    plain, asha = found.values()
    assert (plain.pruner.name, asha.pruner.name) == ("none", "asha")
    assert plain.parameters == asha.parameters
    assert plain.seed == asha.seed == 3


def test_for_the_same_epochs_a_pruner_sees_more_trials(compare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "EPOCHS", 8)
    found = compare.searches(EXAMPLES / "asha" / "experiment.yaml", 0)
    parts, results = compare.digits.parts(small=True), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of networks that diverge
        for name, spec in found.items():
            results[name] = compare.Search(spec, parts).run(EPOCHS)
    plain, asha = results["random search"], results["random with asha"]
    assert (plain.trials, plain.whole) == (4, 4)  # whole ones only, four at a time: 32 epochs, and 8 of the next four
    assert asha.trials > plain.trials >= asha.whole
    assert 0.05 < plain.best <= 1.0


def test_gains_are_counted_seed_by_seed(compare: ModuleType) -> None:
    found = [compare.Result(1.0, 10, 2), compare.Result(0.5, 20, 2), compare.Result(0.25, 30, 2)]
    plain = [compare.Result(0.5, 5, 5)] * 3
    assert compare.summary(found, plain) == " 20.0 trials, best 0.5833, +0.0833 (better 1, equal 1, worse 1)"


def test_the_resumable_trial_goes_on_where_it_was(tmp_path: pathlib.Path) -> None:
    """Without a cluster, with checkpoints in a folder: one epoch, then three in all, are as three at once."""

    def run(epochs: int, folder: str) -> list[str]:
        environment = {**os.environ, "KUBETUNE_CHECKPOINTS": str(tmp_path / folder), "PYTHONPATH": "trial-image"}
        command = [sys.executable, "examples/digits/train_resumable.py", "--small", f"--epochs={epochs}"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if line.startswith(("epoch ", "goes on"))]

    first, rest, whole = run(1, "parts"), run(3, "parts"), run(3, "whole")
    assert rest[0] == "goes on after epoch 1"
    assert [*first, *rest[1:]] == whole
    assert len(whole) == 3
