"""What each state of a pod and a Job, as Kubernetes writes it, becomes for us. One row for each way a trial goes."""

import dataclasses
from typing import Any

import pytest

from kubetune.controller import views
from kubetune.controller.plan import JobPhase, PodView
from tests.unit import kube_objects as k

HEALTHY = PodView(
    uid="pod-1",
    name="digits-pod-1",
    node="node-a",
    phase="Running",
    created=k.CREATED_AT,
    started=k.STARTED_AT,
    began=k.RUNNING_AT,
    scheduled=True,
    bound=k.CREATED_AT,
)
NOT_STARTED = dataclasses.replace(HEALTHY, phase="Pending", started=None, began=None)
NO_NODE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
PULL = 'Back-off pulling image "digits:nope"'
EPOCH = "1970-01-01T00:00:00Z"

PODS: dict[str, tuple[dict[str, Any], PodView]] = {
    "runs": (k.pod(), HEALTHY),
    "was created a moment ago": (
        k.pod(node=None, phase="Pending", containers=[], conditions=[]),
        dataclasses.replace(NOT_STARTED, node=None, scheduled=False, bound=None),
    ),
    "finds no node": (
        k.pod(
            node=None,
            phase="Pending",
            containers=[],
            conditions=[k.condition("PodScheduled", "Unschedulable", NO_NODE, value="False")],
        ),
        dataclasses.replace(
            NOT_STARTED, node=None, scheduled=False, bound=None, unschedulable=NO_NODE, unschedulable_since=k.ENDED_AT
        ),
    ),
    "is held back by a queueing system": (
        k.pod(
            node=None,
            phase="Pending",
            containers=[],
            conditions=[k.condition("PodScheduled", "SchedulingGated", "", value="False")],
        ),
        dataclasses.replace(NOT_STARTED, node=None, scheduled=False, bound=None, unschedulable="SchedulingGated"),
    ),
    "pulls its image": (
        k.pod(phase="Pending", containers=[k.container(**k.waiting("ContainerCreating"))]),
        dataclasses.replace(NOT_STARTED, waiting="ContainerCreating"),
    ),
    "cannot pull its image": (
        k.pod(phase="Pending", containers=[k.container(**k.waiting("ImagePullBackOff", PULL))]),
        dataclasses.replace(NOT_STARTED, waiting="ImagePullBackOff", waiting_message=PULL),
    ),
    "names a ConfigMap that is not there": (
        k.pod(
            phase="Pending",
            containers=[k.container(**k.waiting("CreateContainerConfigError", 'configmap "c" not found'))],
        ),
        dataclasses.replace(
            NOT_STARTED, waiting="CreateContainerConfigError", waiting_message='configmap "c" not found'
        ),
    ),
    "cannot pull the image of an init container": (
        k.pod(
            phase="Pending",
            containers=[k.container(**k.waiting("PodInitializing"))],
            init=[k.container("fetch", **k.waiting("ErrImagePull", "not found"))],
        ),
        dataclasses.replace(NOT_STARTED, waiting="ErrImagePull", waiting_message="init container fetch: not found"),
    ),
    "runs its init container": (
        k.pod(
            phase="Pending",
            containers=[k.container(**k.waiting("PodInitializing"))],
            init=[k.container("fetch", **k.running())],
        ),
        dataclasses.replace(NOT_STARTED, waiting="PodInitializing"),
    ),
    "failed in an init container": (
        k.pod(
            phase="Failed",
            containers=[k.container(**k.waiting("PodInitializing"))],
            init=[
                k.container("first", **k.terminated(0, "Completed")),
                k.container("fetch", **k.terminated(4, message="no such bucket")),
            ],
        ),
        dataclasses.replace(
            NOT_STARTED,
            phase="Failed",
            waiting="PodInitializing",
            exit_code=4,
            terminated="Error",
            terminated_message="init container fetch: no such bucket",
            ended=k.ENDED_AT,
        ),
    ),
    "succeeded": (
        k.pod(phase="Succeeded", containers=[k.container(**k.terminated(0, "Completed"))]),
        dataclasses.replace(HEALTHY, phase="Succeeded", exit_code=0, terminated="Completed", ended=k.ENDED_AT),
    ),
    "exited with 3 and a last word": (
        k.pod(phase="Failed", containers=[k.container(**k.terminated(3, message="loss diverged"))]),
        dataclasses.replace(
            HEALTHY,
            phase="Failed",
            exit_code=3,
            terminated="Error",
            terminated_message="loss diverged",
            ended=k.ENDED_AT,
        ),
    ),
    "was killed for its memory": (
        k.pod(phase="Failed", containers=[k.container(**k.terminated(137, "OOMKilled"))]),
        dataclasses.replace(HEALTHY, phase="Failed", exit_code=137, terminated="OOMKilled", ended=k.ENDED_AT),
    ),
    "has a command that is not in the image": (
        k.pod(
            phase="Failed",
            containers=[k.container(**k.terminated(128, "StartError", started=EPOCH, message="exec: no such file"))],
        ),
        dataclasses.replace(
            NOT_STARTED,
            phase="Failed",
            exit_code=128,
            terminated="StartError",
            terminated_message="exec: no such file",
            ended=k.ENDED_AT,
        ),
    ),
    "ran into its deadline": (
        k.pod(
            phase="Failed",
            containers=[k.container(**k.terminated(143))],
            status={
                "reason": "DeadlineExceeded",
                "message": "Pod was active on the node longer than the specified deadline",
            },
        ),
        dataclasses.replace(
            HEALTHY,
            phase="Failed",
            reason="DeadlineExceeded",
            exit_code=143,
            terminated="Error",
            terminated_message="Pod was active on the node longer than the specified deadline",
            ended=k.ENDED_AT,
        ),
    ),
    "was evicted by the kubelet": (
        k.pod(
            phase="Failed",
            containers=[k.container(**k.terminated(137))],
            conditions=[k.condition("DisruptionTarget", "TerminationByKubelet", "The node was low on resource")],
            status={"reason": "Evicted", "message": "The node was low on resource: memory."},
        ),
        dataclasses.replace(
            HEALTHY,
            phase="Failed",
            reason="Evicted",
            disruption="TerminationByKubelet",
            exit_code=137,
            terminated="Error",
            terminated_message="The node was low on resource: memory.",
            ended=k.ENDED_AT,
        ),
    ),
    "is being drained": (
        k.pod(conditions=[k.condition("DisruptionTarget", "EvictionByEvictionAPI")], deletion=k.ENDED),
        dataclasses.replace(HEALTHY, disruption="EvictionByEvictionAPI", deleted=True),
    ),
    "was preempted": (
        k.pod(conditions=[k.condition("DisruptionTarget", "PreemptionByScheduler")], deletion=k.ENDED),
        dataclasses.replace(HEALTHY, disruption="PreemptionByScheduler", deleted=True),
    ),
    "was deleted by hand": (k.pod(deletion=k.ENDED), dataclasses.replace(HEALTHY, deleted=True)),
    "has a sidecar that died while the trial runs": (
        k.pod(containers=[k.container("sidecar", **k.terminated(1)), k.container(**k.running())]),
        HEALTHY,
    ),
    "is on a node that is lost": (
        k.pod(conditions=[k.condition("Ready", "NodeNotReady", value="False")], status={"reason": "NodeLost"}),
        dataclasses.replace(HEALTHY, reason="NodeLost"),
    ),
}


@pytest.mark.parametrize("case", PODS)
def test_a_pod_that(case: str) -> None:
    raw, expected = PODS[case]
    assert views.pod(raw) == expected


def test_a_pod_that_is_gone_is_as_it_was_seen_last() -> None:
    assert views.pod(k.pod(), gone=True) == dataclasses.replace(HEALTHY, deleted=True, gone=True)


@pytest.mark.parametrize(
    ("raw", "phase", "ended"),
    [
        (k.job(), JobPhase.PENDING, None),
        (k.complete_job(), JobPhase.SUCCEEDED, k.ENDED_AT),
        (k.failed_job(), JobPhase.FAILED, k.ENDED_AT),
        (k.job(status={"conditions": [k.condition("FailureTarget", "BackoffLimitExceeded")]}), JobPhase.PENDING, None),
        (k.job(status={"conditions": [k.condition("Suspended", "JobSuspended")]}), JobPhase.PENDING, None),
    ],
)
def test_a_jobs_phase_follows_its_final_conditions(raw: dict[str, Any], phase: JobPhase, ended: float | None) -> None:
    view = views.job(raw)
    assert (view.phase, view.ended) == (phase, ended)


def test_a_job_says_which_attempt_of_which_trial_it_is_and_why_it_failed() -> None:
    view = views.job(k.failed_job("PodFailurePolicy", "exit code 137", deletionTimestamp=k.ENDED))
    assert (view.name, view.uid, view.number, view.attempt) == ("digits-job-1", "job-1", 17, 2)
    assert (view.created, view.deleting) == (k.CREATED_AT, True)
    assert (view.failure, view.failure_message) == ("PodFailurePolicy", "exit code 137")


@pytest.mark.parametrize(
    ("job", "pods", "phase", "ended"),
    [
        (k.job(), [], JobPhase.PENDING, None),
        (k.job(), [NOT_STARTED], JobPhase.PENDING, None),
        (k.job(), [HEALTHY], JobPhase.RUNNING, None),
        (k.job(), [PODS["succeeded"][1]], JobPhase.SUCCEEDED, k.ENDED_AT),  # a second before its Job says so
        (k.job(), [PODS["exited with 3 and a last word"][1]], JobPhase.RUNNING, None),  # the Job may replace it
        (k.failed_job(), [PODS["exited with 3 and a last word"][1]], JobPhase.FAILED, k.ENDED_AT),
        (k.complete_job(), [HEALTHY], JobPhase.SUCCEEDED, k.ENDED_AT),  # the pod's event is late
    ],
)
def test_job_and_pod_together(job: dict[str, Any], pods: list[PodView], phase: JobPhase, ended: float | None) -> None:
    view = views.join(views.job(job), pods)
    assert (view.phase, view.ended) == (phase, ended)
    assert view.pod == (pods[0] if pods else None)


def test_the_newest_pod_counts() -> None:
    old, new = dataclasses.replace(HEALTHY, uid="z"), dataclasses.replace(HEALTHY, uid="a", created=k.CREATED_AT + 1)
    for pods in ([old, new], [new, old]):
        assert views.join(views.job(k.job()), pods).pod == new


def test_of_two_pods_made_in_the_same_second_the_one_that_stays_counts() -> None:
    leaving, staying = dataclasses.replace(HEALTHY, uid="z", deleted=True), dataclasses.replace(HEALTHY, uid="a")
    assert views.join(views.job(k.job()), [staying, leaving]).pod == staying


def test_only_a_job_that_its_experiment_owns_is_ours() -> None:
    assert views.experiment_uid(k.job()) == k.EXPERIMENT
    assert views.experiment_uid(k.job(ownerReferences=[])) is None
    labels = k.job()["metadata"]["labels"]
    assert views.experiment_uid(k.job(labels={**labels, "kubetune.dev/trial": "x"})) is None
    assert views.experiment_uid(k.job(labels={})) is None


@pytest.mark.parametrize(
    ("node", "since"),
    [
        (k.node(), None),
        (k.node(ready="False"), None),  # it says so itself: it can be reached
        (k.node(ready="Unknown", since=k.ENDED), k.ENDED_AT),
        (k.node(ready="False", since=k.ENDED, taints=("node.kubernetes.io/unreachable",)), k.ENDED_AT),
        ({"metadata": {"name": "new"}, "status": {}}, None),
    ],
)
def test_since_when_a_node_is_unreachable(node: dict[str, Any], since: float | None) -> None:
    assert views.unreachable_since(node) == since


@pytest.mark.parametrize(
    ("raw", "container"),
    [
        (k.pod(), "trial"),
        (PODS["failed in an init container"][0], "fetch"),
        (PODS["cannot pull its image"][0], None),
    ],
)
def test_whose_log_tells(raw: dict[str, Any], container: str | None) -> None:
    assert views.talking_container(raw) == container


def test_the_image_that_the_trial_runs_on() -> None:
    """As the kubelet names it, whatever the spec calls it; of the first container, not of one beside it."""
    statuses = [
        {"name": "beside", "imageID": "other@sha256:b", "state": {}},
        {"name": "trial", "imageID": "digits@sha256:a", "state": {"running": {}}},
    ]
    raw = {
        "metadata": {"uid": "u", "name": "p"},
        "spec": {"containers": [{"name": "trial"}, {"name": "beside"}]},
        "status": {"containerStatuses": statuses},
    }
    assert views.pod(raw).image == "digits@sha256:a"
    assert views.pod({**raw, "status": {}}).image == ""
