"""Shares handed out one experiment after the other, while those that run end nothing."""

import random
from collections.abc import Collection

from kubetune.controller.fair import Claim, Fair
from kubetune.controller.shares import Caps, Demand


def none(known: Collection[str]) -> list[Claim]:
    return []


def demand(uid: str, wanted: int = 100, priority: int = 0, home: str = "team-a") -> Demand:
    return Demand(uid, home, priority, wanted)


def test_without_limits_nothing_is_granted_or_counted() -> None:
    assert Fair(Caps(), none, lambda uid: None).grant(demand("a"), 7) is None


def test_a_newcomer_gets_what_is_freed_and_never_what_still_runs() -> None:
    woken: list[str] = []
    fair = Fair(Caps(cluster=10), none, woken.append)
    assert fair.grant(demand("a"), 0) == 10
    assert fair.grant(demand("b"), 0) == 0  # all is held by the first one
    assert woken == ["a"]
    assert fair.grant(demand("a"), 10) == 5
    assert fair.grant(demand("b"), 0) == 0  # ten still run
    assert fair.grant(demand("a"), 7) == 5
    assert woken[-1] == "b"
    assert fair.grant(demand("b"), 0) == 3


def test_what_was_granted_is_held_before_it_runs() -> None:
    fair = Fair(Caps(namespace=4), none, lambda uid: None)
    assert fair.grant(demand("a"), 0) == 4
    assert fair.grant(demand("b"), 0) == 0
    assert fair.grant(demand("c", home="team-b"), 0) == 4


def test_who_is_gone_leaves_its_share_to_the_others() -> None:
    woken: list[str] = []
    fair = Fair(Caps(cluster=4), none, woken.append)
    fair.grant(demand("a"), 0)
    fair.grant(demand("b"), 0)
    woken.clear()
    fair.forget("a")
    assert woken == ["b"]
    assert fair.grant(demand("b"), 0) == 4


def test_after_a_restart_those_not_looked_at_yet_hold_what_they_have() -> None:
    fair = Fair(Caps(cluster=10), lambda known: [(demand("b"), 8)] if "b" not in known else [], lambda uid: None)
    assert fair.grant(demand("a"), 1) == 2


def test_whatever_comes_and_goes_the_limit_holds_and_all_of_it_is_used_in_the_end() -> None:
    for seed in range(200):
        dice = random.Random(seed)
        woken: list[str] = []
        limit = dice.randint(3, 30)
        fair = Fair(Caps(cluster=limit), none, woken.append)
        wanted = {f"uid-{index}": dice.randint(1, 20) for index in range(dice.randint(1, 5))}
        live = dict.fromkeys(wanted, 0)
        for _ in range(60):
            uid = dice.choice(sorted(wanted))
            live[uid] -= dice.randint(0, live[uid])
            wanted[uid] = dice.randint(1, 20)
            granted = fair.grant(demand(uid, wanted[uid]), live[uid])
            assert granted is not None
            live[uid] = max(live[uid], min(granted, wanted[uid]))
            assert sum(live.values()) <= limit
        woken[:] = wanted
        for _ in range(100):
            if not woken:
                break
            uid = woken.pop(0)
            live[uid] = min(live[uid], wanted[uid])
            granted = fair.grant(demand(uid, wanted[uid]), live[uid])
            assert granted is not None
            live[uid] = max(live[uid], min(granted, wanted[uid]))
            fair.grant(demand(uid, wanted[uid]), live[uid])
        assert not woken, "somebody is woken again and again"
        assert sum(live.values()) == min(limit, sum(wanted.values()))


def test_one_whose_looks_fail_keeps_what_it_holds_and_claims_no_more() -> None:
    woken: list[str] = []
    fair = Fair(Caps(cluster=10), none, woken.append)
    assert fair.grant(demand("a"), 0) == 10
    assert fair.grant(demand("b"), 0) == 0
    assert fair.grant(demand("a"), 3) == 5
    fair.stumbled("a")
    assert woken[-1] == "b"
    assert fair.grant(demand("b"), 0) == 5  # five are held
    assert fair.grant(demand("a"), 5) == 5  # a look that succeeds claims its share again


def test_one_never_looked_at_with_success_claims_nothing() -> None:
    fair = Fair(Caps(cluster=1), lambda known: [(demand("a"), 0)] if "a" not in known else [], lambda uid: None)
    fair.stumbled("a")
    assert fair.grant(demand("b"), 0) == 1
