"""What has become of an attempt: one row for each way a Job and its pod can look."""

from typing import Any

import pytest

from kubetune.api.trial import Reason
from kubetune.controller import outcome
from kubetune.controller.outcome import Kind
from kubetune.controller.plan import JobPhase, JobView
from tests.unit import loop_objects as o

NOW = o.NOW
GONE = frozenset({"node-a"})


def failed(job: dict[str, Any] | None = None, **pod: Any) -> JobView:
    """A failed Job whose pod is as said, otherwise Failed with exit code 137."""
    ending = {"phase": "Failed", "exit_code": 137, "terminated": "Error", **pod}
    return o.failed(pod=o.pod(**ending), **(job or {}))


def waits(reason: str) -> JobView:
    return o.pending(pod=o.pod(phase="Pending", started=None, waiting=reason, waiting_message="words"))


WELL = (Kind.WELL, None)
CASES: dict[str, tuple[JobView, tuple[Kind, Reason | None]]] = {
    "succeeded": (o.succeeded(), WELL),
    "succeeded, its pod collected since": (o.succeeded(pod=o.pod(phase="Succeeded", deleted=True)), WELL),
    "succeeded, its pod never seen": (o.succeeded(pod=None), WELL),
    "exit 0 on the eviction's SIGTERM": (
        o.succeeded(pod=o.pod(phase="Succeeded", disruption="EvictionByEvictionAPI")),
        (Kind.LOST, Reason.EVICTED),
    ),
    "exit code": (failed(exit_code=3), (Kind.FAILED, Reason.EXIT_CODE)),
    "another container failed": (failed(exit_code=0, terminated="Completed"), (Kind.FAILED, Reason.EXIT_CODE)),
    "out of memory": (failed(terminated="OOMKilled"), (Kind.FAILED, Reason.OOM_KILLED)),
    "the pod's deadline": (failed(reason="DeadlineExceeded"), (Kind.FAILED, Reason.DEADLINE_EXCEEDED)),
    "the pod's deadline, which deletes it": (
        failed(reason="DeadlineExceeded", deleted=True),
        (Kind.FAILED, Reason.DEADLINE_EXCEEDED),
    ),
    "a Job's own deadline": (
        o.failed(pod=None, failure="DeadlineExceeded"),
        (Kind.FAILED, Reason.DEADLINE_EXCEEDED),
    ),
    "a command that is not there": (failed(exit_code=128, terminated="StartError"), (Kind.FAILED, Reason.CONFIG)),
    "evicted by the API": (failed(disruption="EvictionByEvictionAPI"), (Kind.LOST, Reason.EVICTED)),
    "evicted by the taint manager": (failed(disruption="DeletionByTaintManager"), (Kind.LOST, Reason.EVICTED)),
    "evicted by the kubelet": (failed(reason="Evicted"), (Kind.LOST, Reason.EVICTED)),
    "evicted, in a word not known yet": (failed(disruption="NewWord"), (Kind.LOST, Reason.EVICTED)),
    "turned away by the kubelet": (failed(reason="OutOfcpu", exit_code=None), (Kind.LOST, Reason.EVICTED)),
    "preempted": (failed(disruption="PreemptionByScheduler"), (Kind.LOST, Reason.PREEMPTED)),
    "preempted by a critical pod": (failed(reason="Preempting"), (Kind.LOST, Reason.PREEMPTED)),
    "collected with its node": (failed(disruption="DeletionByPodGC"), (Kind.LOST, Reason.NODE_LOST)),
    "its node was shut down": (failed(reason="Terminated"), (Kind.LOST, Reason.NODE_LOST)),
    "pod deleted by hand": (failed(deleted=True), (Kind.LOST, Reason.POD_DELETED)),
    "pod never seen, and its Job failed long ago": (
        o.failed(pod=None, ended=NOW - 330),
        (Kind.LOST, Reason.POD_DELETED),
    ),
    "pod not seen yet": (o.failed(pod=None), (Kind.RUNNING, None)),
    "disrupted before it was seen": (o.failed(pod=None, failure="PodFailurePolicy"), (Kind.LOST, Reason.EVICTED)),
    "disrupted, says the Job's policy alone": (
        failed({"failure": "PodFailurePolicy"}),
        (Kind.LOST, Reason.EVICTED),
    ),
    "runs": (o.job(), (Kind.RUNNING, None)),
    "being deleted, still running": (o.job(pod=o.pod(deleted=True)), (Kind.RUNNING, None)),
    "failed, its pod's last words under way": (failed(phase="Running", exit_code=None), (Kind.RUNNING, None)),
    "no pod yet": (o.pending(pod=None), (Kind.STARTING, None)),
    "container being created": (o.pending(), (Kind.STARTING, None)),
    "no node yet": (
        o.pending(pod=o.pod(phase="Pending", started=None, scheduled=False, unschedulable="0/3 nodes")),
        (Kind.WAITING, Reason.UNSCHEDULABLE),
    ),
    "image not pulled": (waits("ErrImagePull"), (Kind.TROUBLED, Reason.IMAGE)),
    "image not pulled again": (waits("ImagePullBackOff"), (Kind.TROUBLED, Reason.IMAGE)),
    "image not there and not to be pulled": (waits("ErrImageNeverPull"), (Kind.TROUBLED, Reason.IMAGE)),
    "image with a bad name": (waits("InvalidImageName"), (Kind.FAILED, Reason.IMAGE)),
    "config": (waits("CreateContainerConfigError"), (Kind.TROUBLED, Reason.CONFIG)),
    "container not created": (waits("CreateContainerError"), (Kind.TROUBLED, Reason.CONFIG)),
    "container not run": (waits("RunContainerError"), (Kind.TROUBLED, Reason.CONFIG)),
}


@pytest.mark.parametrize("case", CASES)
def test_an_attempt_that(case: str) -> None:
    job, expected = CASES[case]
    found = outcome.judge(job, NOW)
    assert (found.kind, found.reason) == expected


@pytest.mark.parametrize(
    ("waiting", "seconds", "kind"),
    [
        ("ImagePullBackOff", 59.0, Kind.TROUBLED),
        ("ImagePullBackOff", 60.0, Kind.FAILED),
        ("CreateContainerConfigError", 9.0, Kind.TROUBLED),
        ("CreateContainerConfigError", 10.0, Kind.FAILED),
    ],
)
def test_a_start_failure_has_its_grace(waiting: str, seconds: float, kind: Kind) -> None:
    assert outcome.judge(waits(waiting), NOW, troubled_since=NOW - seconds).kind is kind


def test_the_exit_code_and_the_last_words_are_in_the_message() -> None:
    assert outcome.judge(o.failed(), NOW).message == "exited with code 1: no such file"


def test_a_kill_that_nobody_explained_points_to_memory() -> None:
    """A busy container runtime may miss the kernel's word that memory ran out."""
    said = outcome.judge(failed(terminated_message="half done"), NOW)
    assert said.reason is Reason.EXIT_CODE
    assert said.message.startswith("exited with code 137 (killed by SIGKILL; for memory, often")
    assert said.message.endswith("see resources.limits.memory): half done")


def test_the_image_is_named_by_the_kubelets_words() -> None:
    job = o.pending(pod=o.pod(waiting="InvalidImageName", waiting_message='couldn\'t parse "Not A Name"'))
    assert "Not A Name" in outcome.judge(job, NOW).message


def test_a_node_that_is_gone_takes_what_runs_on_it() -> None:
    found = outcome.judge(o.job(), NOW, nodes_gone=GONE)
    assert (found.kind, found.reason) == (Kind.LOST, Reason.NODE_LOST)


def test_a_pod_that_is_bound_to_a_node_says_that_the_node_is_back() -> None:
    starting = o.pending(pod=o.pod(phase="Pending", started=None, bound=NOW - 2))
    assert outcome.judge(starting, NOW, nodes_gone=GONE).kind is Kind.STARTING


def test_what_has_succeeded_is_not_lost_with_its_node() -> None:
    assert outcome.judge(o.succeeded(), NOW, nodes_gone=GONE).kind is Kind.WELL
    assert outcome.judge(failed(exit_code=2), NOW, nodes_gone=GONE).reason is Reason.EXIT_CODE


def test_a_failed_job_whose_pods_end_never_comes_is_tried_again() -> None:
    job = failed({"ended": NOW - 330}, phase="Running", exit_code=None)
    found = outcome.judge(job, NOW)
    assert (found.kind, found.reason) == (Kind.LOST, Reason.POD_DELETED)


def test_only_what_cannot_start_is_trouble() -> None:
    assert outcome.trouble(waits("ErrImagePull")) is Reason.IMAGE
    assert outcome.trouble(waits("CreateContainerConfigError")) is Reason.CONFIG
    assert outcome.trouble(o.pending()) is None
    assert outcome.trouble(o.job(phase=JobPhase.RUNNING)) is None


def test_a_deleted_job_whose_pod_was_never_seen_keeps_its_slot_for_the_whole_grace() -> None:
    job = o.job(deleting=True, deleted=o.NOW, phase=JobPhase.PENDING, pod=None)
    for after, holds in ((31.0, True), (299.0, True), (300.0, False)):
        assert outcome.holds_slot(job, o.NOW + after, nodes_gone=frozenset(), grace=300.0) is holds
    assert outcome.lost_deletion(job, o.NOW + 31.0, grace=300.0) is not None  # its next attempt does not wait for it
