"""The client's side of segments: a trial goes on from its parent's checkpoint, or says that it cannot."""

import pathlib

import pytest

import kubetune_trial


@pytest.fixture
def trial(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As outside a cluster, with a folder for checkpoints."""
    for name in ("GATEWAY", "PARENT", "ATTEMPT", "INIT_CHECKPOINT"):
        monkeypatch.delenv(f"KUBETUNE_{name}", raising=False)
    monkeypatch.setenv("KUBETUNE_CHECKPOINTS", str(tmp_path))
    monkeypatch.setenv("KUBETUNE_TRIAL", "0")
    return monkeypatch


def save(step: int) -> None:
    with kubetune_trial.save_checkpoint(step) as folder:
        pathlib.Path(folder, "state").write_text(str(step))


def test_a_segment_goes_on_from_its_parents_checkpoint_and_then_from_its_own(trial: pytest.MonkeyPatch) -> None:
    assert (kubetune_trial.parent(), kubetune_trial.load_checkpoint()) == (None, None)
    save(4)
    trial.setenv("KUBETUNE_TRIAL", "7")
    trial.setenv("KUBETUNE_PARENT", "0")
    folder = kubetune_trial.load_checkpoint()
    assert folder is not None
    assert (folder.step, pathlib.Path(folder, "state").read_text(), kubetune_trial.parent()) == (4, "4", 0)
    save(9)
    folder = kubetune_trial.load_checkpoint()
    assert folder is not None
    assert folder.step == 9


def test_a_parent_without_a_checkpoint_is_no_new_beginning(trial: pytest.MonkeyPatch) -> None:
    trial.setenv("KUBETUNE_PARENT", "3")
    for folder in ("some", ""):  # "": the experiment has no place for checkpoints
        trial.setenv("KUBETUNE_CHECKPOINTS", folder)
        trial.setenv("KUBETUNE_INIT_CHECKPOINT", "/given")
        with pytest.raises(
            kubetune_trial.NoCheckpoint, match="goes on from trial 3, of which there is no good checkpoint"
        ):
            kubetune_trial.load_checkpoint()
