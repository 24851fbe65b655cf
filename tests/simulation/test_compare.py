"""What the comparison of policies is to show of ours: the claims of docs/parallelism.md."""

from kubetune.controller.parallelism import Tuning
from kubetune.simulator.compare import POLICIES, SITUATIONS, Figures, Model


def run(situation: str, policy: str) -> Figures:
    return Model(SITUATIONS[situation], POLICIES[policy], seed=1).run()


def test_where_there_is_room_all_run_within_seconds_and_nothing_is_taken_back() -> None:
    ours, slow = run("room for all", "ours"), run("room for all", "slow start (window 8)")
    assert ours.taken_back == 0
    assert ours.grown is not None
    assert slow.grown is not None
    assert ours.grown < slow.grown


def test_a_full_cluster_stays_full_with_few_pods_pending() -> None:
    ours, kept = run("8 nodes, no more", "ours"), run("8 nodes, no more", "never taken back")
    assert ours.idle < 0.01
    assert ours.pending < kept.pending / 10


def test_an_autoscaler_is_driven_to_its_end_within_minutes() -> None:
    ours, hasty = run("autoscaler, 0 to 50 nodes", "ours"), run("autoscaler, 0 to 50 nodes", "patience 5 s")
    assert ours.grown is not None
    assert ours.grown < 600
    assert hasty.grown is None or hasty.grown > 2 * ours.grown
    assert ours.idle < 0.01


def test_a_quota_is_not_run_against_again_and_again() -> None:
    assert run("quota of 100", "ours").refused < 2 * Tuning().window


def test_the_same_seed_is_the_same_run() -> None:
    assert run("half reclaimed, autoscaled", "ours") == run("half reclaimed, autoscaled", "ours")
