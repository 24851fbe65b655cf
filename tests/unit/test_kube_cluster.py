"""The real cluster behind the port: the API server's answers in the loop's words, and the cache kept up at once."""

from typing import Any

import pytest

from kubetune.controller import ports
from kubetune.controller.cache import Cache
from kubetune.controller.cluster import KubeCluster
from kubetune.kube import errors, resources
from tests.unit import kube_objects as k

Json = dict[str, Any]


class Server:
    """Answers each call with what was laid down for it: a value, or an error to raise; notes the calls."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.calls: list[tuple[Any, ...]] = []

    def _answer(self, *call: Any) -> Any:
        self.calls.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get(self, resource: resources.Resource, namespace: str, name: str) -> Any:
        return self._answer("get", resource.plural, namespace, name)

    def create(self, resource: resources.Resource, namespace: str, body: Json, dry_run: bool, strict: bool) -> Any:
        return self._answer("create", resource.plural, namespace, dry_run, strict)

    def delete(self, resource: resources.Resource, namespace: str, name: str, uid: str) -> Any:
        return self._answer("delete", resource.plural, namespace, name, uid)

    def apply(self, resource: resources.Resource, namespace: str, name: str, body: Json, *rest: str) -> Any:
        return self._answer("apply", resource.plural, namespace, name, body, *rest)

    def log_tail(self, namespace: str, pod: str, limit: int, container: str | None = None) -> Any:
        return self._answer("log", pod, container)


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.server = Server()
        self.cache = Cache(300, lambda: self.now)
        self.cluster = KubeCluster(
            self.server,  # type: ignore[arg-type]
            self.cache,
            None,  # type: ignore[arg-type]
            home=lambda uid: "team-a",
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


CONFLICT = errors.Conflict(409, "Conflict", "the UID in the precondition does not match")
MISSING = errors.NotFound(404, "NotFound", "not found")
AWAY = errors.Unavailable(503, "", "away")


def test_a_created_job_is_in_the_cache_at_once(bench: Bench) -> None:
    bench.server.answers = [k.job()]
    view = bench.cluster.create_job(k.job())
    assert bench.cluster.jobs(k.EXPERIMENT) == (view,)
    assert bench.server.calls == [("create", "jobs", "team-a", False, True)]


def test_a_dry_run_leaves_nothing(bench: Bench) -> None:
    bench.server.answers = [k.job()]
    bench.cluster.create_job(k.job(), dry_run=True)
    assert bench.cluster.jobs(k.EXPERIMENT) == ()


@pytest.mark.parametrize(
    ("answer", "raised", "passing"),
    [
        (errors.AlreadyExists(409, "AlreadyExists", ""), ports.Exists, None),
        (errors.QuotaExceeded(403, "Forbidden", "exceeded quota: gpus"), ports.Refused, True),
        (errors.NamespaceTerminating(403, "Forbidden", "terminating"), ports.ClusterUnavailable, None),
        (errors.NotFound(404, "NotFound", 'namespaces "x" not found'), ports.ClusterUnavailable, None),
        (errors.Forbidden(403, "Forbidden", "violates policy"), ports.Refused, False),
        (errors.Invalid(422, "Invalid", "spec.template.spec: Required"), ports.Refused, False),
        (AWAY, ports.ClusterUnavailable, None),
        (errors.Unauthorized(401, "Unauthorized", ""), ports.ClusterUnavailable, None),
        (errors.ApiError(405, "MethodNotAllowed", ""), ports.ClusterUnavailable, None),
    ],
)
def test_what_a_refused_create_means(
    bench: Bench, answer: Exception, raised: type[Exception], passing: bool | None
) -> None:
    bench.server.answers = [answer]
    with pytest.raises(raised) as caught:
        bench.cluster.create_job(k.job())
    assert getattr(caught.value, "passing", None) is passing


def test_a_live_read_brings_the_cache_up_to_date(bench: Bench) -> None:
    bench.cache.apply_pod(k.pod())
    bench.server.answers = [k.job(), MISSING, AWAY]
    view = bench.cluster.get_job("team-a", "digits-job-1")
    assert view is not None
    assert view.pod is not None
    assert bench.cluster.jobs(k.EXPERIMENT) == (view,)
    bench.now += 1
    assert bench.cluster.get_job("team-a", "digits-job-1") is None
    assert bench.cluster.jobs(k.EXPERIMENT) == ()
    with pytest.raises(ports.ClusterUnavailable):
        bench.cluster.get_job("team-a", "digits-job-1")


def test_somebody_elses_job_of_that_name_is_refused_not_adopted(bench: Bench) -> None:
    bench.server.answers = [k.job(ownerReferences=[])]
    with pytest.raises(ports.Refused, match="is in the way"):
        bench.cluster.get_job("team-a", "digits-job-1")


@pytest.mark.parametrize("answer", [None, MISSING, CONFLICT])
def test_a_delete_is_done_when_the_job_is_gone_or_another(bench: Bench, answer: Exception | None) -> None:
    bench.cache.apply_job(k.job())
    bench.server.answers = [answer]
    bench.cluster.delete_job("team-a", "digits-job-1", "job-1")
    assert bench.server.calls == [("delete", "jobs", "team-a", "digits-job-1", "job-1")]
    assert bench.cluster.jobs(k.EXPERIMENT)[0].deleting


@pytest.mark.parametrize("answer", [AWAY, errors.Forbidden(403, "Forbidden", "cannot delete jobs")])
def test_a_delete_that_was_not_carried_out_is_to_be_repeated(bench: Bench, answer: Exception) -> None:
    bench.cache.apply_job(k.job())
    bench.server.answers = [answer]
    with pytest.raises(ports.ClusterUnavailable):
        bench.cluster.delete_job("team-a", "digits-job-1", "job-1")
    assert not bench.cluster.jobs(k.EXPERIMENT)[0].deleting


@pytest.mark.parametrize("answer", [{}, MISSING, CONFLICT])
def test_a_status_is_for_this_uid_only(bench: Bench, answer: Any) -> None:
    bench.server.answers = [answer]
    bench.cluster.write_status("team-a", "digits", "uid-1", {"state": "Running"})
    _, plural, _, _, body, manager, subresource = bench.server.calls[0]
    assert (plural, manager, subresource) == ("experiments", "kubetune", "status")
    assert body["metadata"]["uid"] == "uid-1"
    assert body["status"] == {"state": "Running"}


def test_a_status_that_the_schema_refuses_is_told_and_stops_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.server.answers = [errors.Invalid(422, "Invalid", "status.active: Invalid value")]
    bench.cluster.write_status("team-a", "digits", "uid-1", {"active": -1})
    assert "status.active: Invalid value" in caplog.text
    bench.server.answers = [AWAY]
    with pytest.raises(ports.ClusterUnavailable):
        bench.cluster.write_status("team-a", "digits", "uid-1", {"active": 1})


def test_logs_of_the_container_that_has_something_to_say(bench: Bench) -> None:
    several = errors.Invalid(400, "BadRequest", "a container name must be specified")
    bench.server.answers = ["the end\n"]
    assert bench.cluster.log_tail("team-a", "p", 100) == "the end\n"
    bench.server.answers = [several, k.pod(), "of the trial\n"]
    assert bench.cluster.log_tail("team-a", "p", 100) == "of the trial\n"
    assert bench.server.calls[-1] == ("log", "p", "trial")
    never = k.pod(phase="Pending", containers=[k.container(**k.waiting("ErrImagePull"))])
    bench.server.answers = [several, never]
    assert bench.cluster.log_tail("team-a", "p", 100) is None
    bench.server.answers = [MISSING]
    assert bench.cluster.log_tail("team-a", "p", 100) is None


def test_a_job_that_claims_the_experiment_from_another_namespace_is_not_shown(bench: Bench) -> None:
    bench.cache.apply_job(k.job(namespace="elsewhere"))
    assert bench.cluster.jobs(k.EXPERIMENT) == ()
