"""The parallelism in force: what one look concludes, and how the number moves over many looks. Times in seconds."""

from kubetune.api.trial import Reason
from kubetune.controller.parallelism import Allowed, Ceiling, Kept, Sight, Tuning, Waiting, look, signal

TUNING = Tuning()
NOW = 10_000.0
LONG = NOW - TUNING.patience  # since when a pod has waited that has waited for long


def waiting(*numbers: int, since: float = LONG, work: int = 0) -> tuple[Waiting, ...]:
    return tuple(Waiting(number, since, work) for number in numbers)


def see(
    sight: Sight, kept: Kept | None = None, *, most: int = 100, least: int = 0, share: int | None = None
) -> Allowed:
    return look(least, most, share, sight, kept or Kept(), NOW, TUNING)[0]


def learn(sight: Sight, kept: Kept | None = None, *, most: int = 100, now: float = NOW) -> tuple[Allowed, Kept]:
    return look(0, most, None, sight, kept or Kept(), now, TUNING)


# ---- nothing in the way


def test_with_nothing_in_the_way_all_that_is_wanted_starts_at_once() -> None:
    force = see(Sight())
    assert (force.current, force.reason, force.start, force.again_at) == (100, Reason.SPEC, 100, None)


def test_only_a_window_of_jobs_is_without_a_verdict() -> None:
    assert see(Sight(), most=5000).start == TUNING.window
    assert see(Sight(fresh=TUNING.window), most=5000).start == 0
    assert see(Sight(placed=1000, fresh=300), most=5000).start == 700


def test_nothing_starts_while_pods_find_no_node_and_the_number_stands_until_it_is_certain() -> None:
    force = see(Sight(placed=7, waiting=waiting(7, 8, since=NOW - 5)))
    assert (force.start, force.current, force.reason, force.withdraw) == (0, 100, Reason.SPEC, frozenset())
    assert force.again_at == NOW - 5 + TUNING.patience


def test_a_few_pods_that_find_no_node_for_a_moment_hold_up_nobody() -> None:
    assert see(Sight(placed=80, waiting=waiting(80, 81, since=NOW - 1))).start == 18


# ---- no nodes


def test_a_pod_that_has_waited_long_makes_a_ceiling_and_the_surplus_is_withdrawn() -> None:
    force, kept = learn(Sight(placed=10, waiting=waiting(10, 11, 12, 13)))
    assert (force.current, force.reason, force.start) == (11, Reason.NO_NODES, 0)
    assert force.withdraw == {11, 12, 13}
    assert kept.nodes == Ceiling(10, 1, TUNING.first_wait, NOW + TUNING.first_wait)


def test_a_tenth_of_the_running_trials_stays_pending_and_never_more_than_twenty() -> None:
    assert [signal(placed, TUNING) for placed in (0, 1, 10, 11, 200, 5000)] == [1, 1, 1, 2, 20, 20]


def test_never_more_pending_pods_stay_than_are_wanted() -> None:
    assert see(Sight(placed=10, waiting=waiting(10, 11)), most=10).withdraw == {10, 11}
    assert see(Sight(placed=90, waiting=waiting(*range(90, 99))), most=92).withdraw == set(range(92, 99))


def test_who_has_reported_most_is_withdrawn_last() -> None:
    force = see(Sight(waiting=(*waiting(1, 2), *waiting(3, work=7))))
    assert force.withdraw == {1, 2}


def test_a_pod_that_has_not_waited_long_is_not_withdrawn() -> None:
    force = see(Sight(placed=10, waiting=(*waiting(1), *waiting(2, 3, since=NOW - 1))))
    assert force.withdraw == frozenset()


def test_below_min_pods_stay_pending() -> None:
    force = see(Sight(placed=1, waiting=waiting(*range(1, 9))), least=5)
    assert force.current == 5
    assert force.withdraw == {5, 6, 7, 8}
    young = waiting(3, 4, since=NOW - 1)
    assert see(Sight(placed=2, waiting=young), least=5).start == 1


def test_a_place_of_ones_own_that_is_freed_is_filled_without_a_wait() -> None:
    _, kept = learn(Sight(placed=10, waiting=waiting(10)))
    force, after = learn(Sight(placed=10), kept, now=NOW + 5)  # one trial ended, the pod that waited took its place
    assert force.start == 1
    assert after.nodes == kept.nodes
    assert learn(Sight(placed=4, waiting=waiting(10)), kept, now=NOW + 5)[0].start == 6


def test_where_there_is_room_again_what_is_tried_doubles_with_every_round() -> None:
    _, kept = learn(Sight(placed=10, waiting=waiting(10)))
    placed, rounds = 10, []
    for _ in range(6):
        force, kept = learn(Sight(placed=placed), kept, now=NOW + 1)
        rounds.append(force.start)
        placed += force.start
    assert rounds == [1, 2, 4, 8, 16, 32]


def test_growth_by_single_pods_doubles_by_rounds_too() -> None:
    _, kept = learn(Sight(placed=10, waiting=waiting(10)))
    kept = Kept(Ceiling(10, 8, 0.0, NOW + 60))
    for placed in range(11, 19):
        _, kept = learn(Sight(placed=placed, fresh=18 - placed), kept, now=NOW + 1)
    assert kept.nodes is not None
    assert (kept.nodes.found, kept.nodes.extra) == (18, 16)


def test_the_ceiling_is_gone_when_all_have_a_node_or_a_window_may_try() -> None:
    _, kept = learn(Sight(placed=10, waiting=waiting(10)))
    assert learn(Sight(placed=100), kept)[1].nodes is None
    assert learn(Sight(placed=10 + TUNING.window), kept, most=5000)[1].nodes is None
    assert learn(Sight(), kept, most=0)[1].nodes is None


def test_lost_capacity_lowers_the_number() -> None:
    _, kept = learn(Sight(placed=10, waiting=waiting(10)))
    force, kept = learn(Sight(placed=4, waiting=waiting(*range(4, 11))), kept, now=NOW + 100)
    assert force.current == 5
    assert force.withdraw == set(range(5, 11))


def test_a_wait_doubles_while_nothing_moves_and_begins_anew_when_something_does() -> None:
    kept, now, waits = Kept(), NOW, []
    for _ in range(7):
        sight = Sight(placed=10, waiting=waiting(10, 11, since=now - TUNING.patience))
        _, kept = learn(sight, kept, now=now)
        assert kept.nodes is not None
        waits.append(kept.nodes.wait)
        force, kept = learn(Sight(placed=10, waiting=waiting(10, since=now)), kept, now=kept.nodes.retry_at)
        assert force.start == 1  # one more beside the one that waits
        now += 2000
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    _, kept = learn(Sight(placed=11), kept, now=now)
    _, kept = learn(Sight(placed=11, waiting=waiting(12, 13, 14, since=now - TUNING.patience)), kept, now=now)
    assert kept.nodes is not None
    assert kept.nodes.wait == TUNING.first_wait


def test_looking_again_changes_nothing() -> None:
    sight = Sight(placed=10, waiting=waiting(10, 11, 12, 13))
    force, kept = learn(sight)
    assert learn(sight, kept) == (force, kept)


# ---- quota


def test_a_refusal_by_a_quota_holds_the_whole_experiment_at_what_is_there() -> None:
    force, kept = learn(Sight(placed=6, refused=3))
    assert (force.current, force.reason, force.start) == (6, Reason.QUOTA, 0)
    assert force.again_at == NOW + TUNING.first_wait
    assert learn(Sight(placed=5, refused=3), kept, now=NOW + 1)[0].start == 1  # a place of our own


def test_after_the_wait_one_job_tries_and_each_that_gets_through_lets_one_more_try() -> None:
    _, kept = learn(Sight(placed=6, refused=3))
    force, kept = learn(Sight(placed=6, refused=3), kept, now=NOW + 30)
    assert force.start == 1
    force, kept = learn(Sight(placed=7, refused=3), kept, now=NOW + 31)
    assert force.start == 2
    force, kept = learn(Sight(placed=7, refused=5), kept, now=NOW + 32)
    assert (force.start, kept.quota) == (0, Ceiling(7, 0, 30.0, NOW + 62))


def test_jobs_refused_one_after_the_other_are_one_refusal() -> None:
    _, kept = learn(Sight(placed=6, fresh=5, refused=1))
    _, kept = learn(Sight(placed=6, fresh=4, refused=2), kept, now=NOW + 1)
    _, kept = learn(Sight(placed=6, refused=6), kept, now=NOW + 2)
    assert kept.quota == Ceiling(6, 0, TUNING.first_wait, NOW + TUNING.first_wait)


def test_with_all_of_its_jobs_refused_it_tries_again_and_again() -> None:
    force, kept = learn(Sight(refused=100))
    assert (force.current, force.start) == (0, 0)
    force, kept = learn(Sight(refused=100), kept, now=NOW + 30)
    assert force.start == 1
    _, kept = learn(Sight(refused=101), kept, now=NOW + 30)
    assert kept.quota is not None
    assert kept.quota.wait == 60.0


# ---- what is shared, what is over


def test_a_share_binds_and_ends_nothing_that_runs() -> None:
    force = see(Sight(placed=10), share=4)
    assert (force.current, force.reason, force.start, force.withdraw) == (4, Reason.FAIR_SHARE, 0, frozenset())
    assert see(Sight(placed=4, waiting=waiting(4, 5)), share=4).withdraw == {4, 5}
    assert see(Sight(), share=100).reason is Reason.SPEC


def test_a_share_is_asked_for_no_more_than_can_be_used() -> None:
    assert learn(Sight(placed=10, waiting=waiting(10, 11)))[0].wants == 11
    assert see(Sight(placed=3), share=1).wants == 100


def test_nothing_starts_when_nothing_is_wanted() -> None:
    force = see(Sight(placed=3, waiting=waiting(9)), most=0)
    assert (force.current, force.start) == (0, 0)
    assert force.withdraw == {9}
