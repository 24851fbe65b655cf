"""Fair shares within common limits: what always holds, whatever is asked for."""

import collections
import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from kubetune.controller.shares import Caps, Demand, shares


@st.composite
def demands(draw: st.DrawFn) -> list[Demand]:
    numbers = draw(st.lists(st.integers(0, 300), min_size=1, max_size=12))
    return [
        Demand(f"uid-{index}", draw(st.sampled_from("abc")), draw(st.integers(-10, 10)), wanted)
        for index, wanted in enumerate(numbers)
    ]


caps = st.builds(Caps, st.integers(0, 400), st.integers(0, 200))


def by_home(asked: list[Demand], found: dict[str, int]) -> dict[str, int]:
    sums: dict[str, int] = collections.defaultdict(int)
    for each in asked:
        sums[each.namespace] += found[each.uid]
    return sums


@given(demands(), caps)
def test_no_limit_is_exceeded_and_nobody_gets_more_than_is_wanted(asked: list[Demand], cap: Caps) -> None:
    found = shares(asked, cap)
    assert all(0 <= found[each.uid] <= each.wanted for each in asked)
    assert not cap.cluster or sum(found.values()) <= cap.cluster
    assert not cap.namespace or all(count <= cap.namespace for count in by_home(asked, found).values())


@given(demands(), caps)
def test_nothing_is_left_that_somebody_could_use(asked: list[Demand], cap: Caps) -> None:
    found = shares(asked, cap)
    homes = by_home(asked, found)
    for each in asked:
        full = (cap.cluster and sum(found.values()) >= cap.cluster) or (
            cap.namespace and homes[each.namespace] >= cap.namespace
        )
        assert found[each.uid] == each.wanted or full


@given(demands(), caps, st.data())
def test_a_higher_priority_never_gets_less(asked: list[Demand], cap: Caps, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(asked) - 1))
    higher = dataclasses.replace(asked[index], priority=asked[index].priority + data.draw(st.integers(1, 5)))
    after = shares([*asked[:index], higher, *asked[index + 1 :]], cap)
    assert after[higher.uid] >= shares(asked, cap)[higher.uid]


@given(demands(), caps)
def test_everybody_gets_one_where_the_limits_have_room_for_all(asked: list[Demand], cap: Caps) -> None:
    wanting = [each for each in asked if each.wanted]
    homes = collections.Counter(each.namespace for each in wanting)
    enough = not cap.cluster or cap.cluster >= len(wanting)
    if enough and (not cap.namespace or all(count <= cap.namespace for count in homes.values())):
        found = shares(asked, cap)
        assert all(found[each.uid] >= 1 for each in wanting)


@given(demands(), caps, st.randoms())
def test_the_order_of_asking_does_not_matter(asked: list[Demand], cap: Caps, dice: st.DataObject) -> None:
    before = shares(asked, cap)
    dice.shuffle(asked)  # type: ignore[attr-defined]
    assert shares(asked, cap) == before


@given(demands(), caps)
def test_who_gets_less_than_is_wanted_is_not_below_anyone_beside_it(asked: list[Demand], cap: Caps) -> None:
    """Max-min: nobody of the same namespace has two trials more, by weight, than one that could use them."""
    found = shares(asked, cap)
    for poor in asked:
        for rich in asked:
            if found[poor.uid] < poor.wanted and rich.namespace == poor.namespace and found[rich.uid] > 1:
                assert (found[rich.uid] - 1) / rich.weight <= (found[poor.uid] + 1) / poor.weight


def test_a_step_of_priority_is_twice_the_share() -> None:
    asked = [Demand("low", "a", 0, 1000), Demand("high", "a", 1, 1000), Demand("small", "b", 0, 3)]
    assert shares(asked, Caps(cluster=90)) == {"low": 29, "high": 58, "small": 3}
    assert shares(asked, Caps(namespace=60)) == {"low": 20, "high": 40, "small": 3}


def test_without_limits_all_get_what_they_want() -> None:
    assert shares([Demand("a", "a", 0, 5)], Caps()) == {"a": 5}
    assert shares([], Caps(cluster=3)) == {}
