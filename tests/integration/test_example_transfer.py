"""examples/transfer as its README shows it on a laptop, and its manifest."""

import os
import pathlib
import re
import subprocess
import sys

import yaml

import kubetune_trial
from kubetune.api import spec
from kubetune.api.checkpoints import InitCheckpoint

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "transfer"


def run(script: str, *arguments: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KUBETUNE_")}
    path = str(pathlib.Path(kubetune_trial.__file__).parent)
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / script), *arguments],
        env={**kept, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracies(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"step=\d+ accuracy=(\S+)", text)]


def test_given_weights_are_a_better_beginning(tmp_path: pathlib.Path) -> None:
    run("pretrain.py", str(tmp_path / "weights"))
    fresh = accuracies(run("finetune.py", "--lr=0.003", "--epochs=2"))
    kept = {"KUBETUNE_INIT_CHECKPOINT": str(tmp_path / "weights"), "KUBETUNE_CHECKPOINTS": str(tmp_path / "kept")}
    given = accuracies(run("finetune.py", "--lr=0.003", "--epochs=2", **kept))
    assert len(fresh) == len(given) == 2
    assert min(given) > max(fresh)
    more = run("finetune.py", "--lr=0.003", "--epochs=3", **kept)
    assert re.findall(r"step=(\d+)", more) == ["2"]  # on from its own checkpoint, not from the given weights


def test_its_manifest_can_be_run() -> None:
    body = yaml.safe_load((EXAMPLE / "transfer.yaml").read_text())
    parsed = spec.parse({**body, "metadata": {**body["metadata"], "namespace": "default", "uid": "u"}})
    assert parsed.init_checkpoint == InitCheckpoint("weights", "digits")


def test_what_one_experiment_learnt_another_starts_from(tmp_path: pathlib.Path) -> None:
    run("learn.py", "--lr=0.003", "--epochs=5", KUBETUNE_CHECKPOINTS=str(tmp_path))
    (last,) = (tmp_path / "0").glob("1-4-*")
    fresh = accuracies(run("finetune.py", "--lr=0.003", "--epochs=2"))
    given = accuracies(run("finetune.py", "--lr=0.003", "--epochs=2", KUBETUNE_INIT_CHECKPOINT=str(last)))
    assert min(given) > max(fresh)


def test_the_chain_names_what_it_starts_from() -> None:
    _, first, second = yaml.safe_load_all((EXAMPLE / "chain.yaml").read_text())
    bodies = [
        {**each, "metadata": {**each["metadata"], "namespace": "default", "uid": "u"}} for each in (first, second)
    ]
    old, new = map(spec.parse, bodies)
    assert old.checkpoints is not None
    assert new.init_checkpoint == InitCheckpoint(source=old.name)
