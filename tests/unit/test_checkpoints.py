"""Which checkpoints may go, which are offered, and what the spec says of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetune.api import checkpoints
from kubetune.api.checkpoints import Checkpoint, InitCheckpoint, Kept, Place
from kubetune.api.parameters import InvalidSpec

KEPT = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12).map(
    lambda flags: [
        Kept(Checkpoint(0, 1, place, f"0/1-{place}", "0" * 64, 1, 1), damaged, released)
        for place, (damaged, released) in enumerate(flags)
    ]
)


@given(kept=KEPT, keep=st.integers(1, 10))
def test_what_a_trial_would_resume_from_never_goes(kept: list[Kept], keep: int) -> None:
    before = checkpoints.candidates(kept)
    gone = {each.checkpoint.location for each in checkpoints.superseded(kept, keep)}
    stay = [each for each in before if each.location not in gone]
    assert stay == before[:keep]
    assert all(each.checkpoint.location in gone for each in kept if each.damaged and not each.released)
    assert not gone & {each.checkpoint.location for each in kept if each.released}


@given(kept=KEPT, keep=st.booleans())
def test_of_an_ended_trial_at_most_the_latest_good_one_stays(kept: list[Kept], keep: bool) -> None:
    before = checkpoints.candidates(kept)
    gone = {each.checkpoint.location for each in checkpoints.unneeded(kept, keep)}
    assert [each for each in before if each.location not in gone] == before[: int(keep)]
    assert not gone & {each.checkpoint.location for each in kept if each.released}


def test_the_spec() -> None:
    assert checkpoints.parse_place({}) is None
    assert checkpoints.parse_given({}) is None
    assert checkpoints.parse_place({"checkpoints": {"claim": "c"}}) == Place("c", "kubetune", 2)
    assert checkpoints.parse_place({"checkpoints": {"claim": "c", "path": "a/b/", "keep": 1}}) == Place("c", "a/b", 1)
    assert checkpoints.parse_given({"initCheckpoint": {"claim": "c"}}) == InitCheckpoint("c")
    assert checkpoints.keep_of({"checkpoints": {"claim": "c", "keep": 7}}) == 7
    assert checkpoints.keep_of(None) == checkpoints.KEEP


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"checkpoints": {"claim": ""}}, "checkpoints.claim"),
        ({"checkpoints": {"claim": "A b"}}, "checkpoints.claim"),
        ({"checkpoints": {"keep": 1}}, "checkpoints.claim"),
        ({"checkpoints": {"claim": "c", "path": "/a"}}, "checkpoints.path"),
        ({"checkpoints": {"claim": "c", "path": "a/../b"}}, "checkpoints.path"),
        ({"checkpoints": {"claim": "c", "keep": 11}}, "checkpoints.keep"),
        ({"checkpoints": {"claim": "c"}, "metrics": {"from": "log"}}, "checkpoints"),
        ({"initCheckpoint": {"claim": "c", "path": ".."}}, "initCheckpoint.path"),
        ({"initCheckpoint": {"claim": "c", "from": {"experiment": "a"}}}, "initCheckpoint"),
        ({"initCheckpoint": {"from": {"experiment": "A b"}}}, "initCheckpoint.from.experiment"),
        ({"initCheckpoint": {"from": {"trial": 1}}}, "initCheckpoint.from.experiment"),
        ({"initCheckpoint": {"s3": {"key": "x.tar", "sha256": "F" * 64}}}, "initCheckpoint.s3.sha256"),
        (
            {"initCheckpoint": {"s3": {"key": "x", "sha256": "f" * 64}}, "metrics": {"from": "log"}},
            "initCheckpoint.s3",
        ),
        *(
            ({"initCheckpoint": {"s3": {"key": key, "sha256": "f" * 64}}}, "initCheckpoint.s3.key")
            for key in ("", "/x", "../x", "a/../b", "a/..", "a//b", "./a", "a b", "a/", "x" * 513, "a\nb", "%2e%2e/x")
        ),
    ],
)
def test_what_cannot_be_is_told_by_its_field(spec: dict[str, Any], field: str) -> None:
    read = checkpoints.parse_place if "checkpoints" in spec else checkpoints.parse_given
    with pytest.raises(InvalidSpec) as caught:
        read(spec)
    assert caught.value.field == field


def test_what_a_trial_starts_from_is_one_of_three() -> None:
    form = {"experiment": "other", "trial": 0}
    assert checkpoints.parse_given({"initCheckpoint": {"from": form}}) == InitCheckpoint(source="other", trial=0)
    best = checkpoints.parse_given({"initCheckpoint": {"from": {"experiment": "other"}}})
    assert best == InitCheckpoint(source="other")
    held = {"key": "team/resnet.v2.tar", "sha256": "f" * 64}
    there = checkpoints.parse_given({"initCheckpoint": {"s3": held}})
    assert there == InitCheckpoint(key="team/resnet.v2.tar", digest="f" * 64)


def test_object_storage_is_another_place() -> None:
    assert checkpoints.parse_place({"checkpoints": {"s3": {}, "path": "kubetune", "keep": 3}}) == Place("", "", 3)
    with pytest.raises(InvalidSpec, match="not both"):
        checkpoints.parse_place({"checkpoints": {"s3": {}, "claim": "c"}})
