"""The cluster as the loop sees it (`ports.Cluster`), on a real API server: client, cache and events in one."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.controller import ports, views
from kubetune.controller.cache import Cache
from kubetune.controller.events import Recorder
from kubetune.controller.plan import JobView
from kubetune.kube import errors, resources
from kubetune.kube.client import Client

logger = logging.getLogger(__name__)


class KubeCluster:
    """Implements `ports.Cluster`. May be called from any thread.

    ``home``: the namespace of an experiment by its UID, so that a Job elsewhere that claims to be its trial is not
    taken for one; None: not known (yet).
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        recorder: Recorder,
        home: Callable[[str], str | None] = lambda uid: None,
        clock: ports.Clock = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._cache = cache
        self._recorder = recorder
        self._home = home
        self._clock = clock
        self._monotonic = monotonic

    def jobs(self, experiment_uid: str) -> tuple[JobView, ...]:
        return self._cache.jobs(experiment_uid, self._home(names.base_uid(experiment_uid)))

    def all_jobs(self, experiment_uid: str) -> tuple[JobView, ...]:
        return self._cache.all_jobs(experiment_uid, self._home(experiment_uid))

    def jobs_by_study(self, experiment_uid: str) -> dict[str, list[JobView]]:
        """As `all_jobs`, by the UID of the search and of each phase that has any."""
        return self._cache.jobs_by_study(experiment_uid, self._home(experiment_uid))

    def nodes_gone(self) -> frozenset[str]:
        return self._cache.nodes_gone(self._clock())

    def get_job(self, namespace: str, name: str) -> JobView | None:
        begun = self._monotonic()
        with _translated():
            try:
                raw = self._client.get(resources.JOBS, namespace, name)
            except errors.NotFound:
                self._cache.forget_job(namespace, name, begun)
                return None
        return self._taken_in(raw)

    def create_job(self, body: Json, dry_run: bool = False) -> JobView:
        namespace = body["metadata"]["namespace"]
        try:
            raw = self._client.create(resources.JOBS, namespace, body, dry_run=dry_run, strict=True)
        except errors.AlreadyExists as error:
            raise ports.Exists(str(error)) from error
        except errors.QuotaExceeded as error:
            raise ports.Refused(error.message, passing=True) from error
        except (errors.NamespaceTerminating, errors.NotFound) as error:  # the experiment goes with it, in a moment
            raise ports.ClusterUnavailable(f"namespace {namespace} is being deleted: {error.message}") from error
        except (errors.Invalid, errors.Forbidden) as error:
            raise ports.Refused(error.message) from error
        except errors.ApiError as error:
            raise ports.ClusterUnavailable(str(error), busy=error.status == 429) from error
        return views.job(raw) if dry_run else self._taken_in(raw)

    def _taken_in(self, raw: Json) -> JobView:
        """A Job just read or created, with what the cache knows of its pod: no need to wait for the watch."""
        if views.experiment_uid(raw) is None:
            raise ports.Refused(
                f"a Job named {raw['metadata']['name']} is in the way, and it is no trial of kubetune's"
            )
        self._cache.apply_job(raw)
        return self._cache.job(raw["metadata"]["uid"]) or views.job(raw)

    def delete_job(self, namespace: str, name: str, uid: str) -> None:
        with _translated(), contextlib.suppress(errors.NotFound, errors.Conflict):  # Conflict: another UID by now
            self._client.delete(resources.JOBS, namespace, name, uid)
        self._cache.mark_deleting(uid)

    def log_tail(self, namespace: str, pod: str, limit_bytes: int) -> str | None:
        try:
            return self._client.log_tail(namespace, pod, limit_bytes)
        except errors.Invalid:  # several containers, or it never started
            return self._log_of_the_culprit(namespace, pod, limit_bytes)
        except errors.ApiError:
            return None

    def _log_of_the_culprit(self, namespace: str, pod: str, limit_bytes: int) -> str | None:
        """Of the trial container if it ran, else of the init container that failed."""
        try:
            container = views.talking_container(self._client.get(resources.PODS, namespace, pod))
            return container and self._client.log_tail(namespace, pod, limit_bytes, container)
        except errors.ApiError:
            return None

    def write_status(self, namespace: str, name: str, uid: str, status: Json) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "status": status,
        }
        with _translated(), contextlib.suppress(errors.NotFound, errors.Conflict):  # Conflict: another UID by now
            try:
                self._client.apply(resources.EXPERIMENTS, namespace, name, body, names.STATUS_MANAGER, "status")
            except errors.Invalid as error:  # another version's schema: a summary that cannot be told stops no trial
                logger.error("the server refuses the status; are the CRDs of this version installed? %s", error)

    def event(self, spec: ExperimentSpec, kind: str, reason: str, message: str) -> None:
        self._recorder.event(spec, kind, reason, f"{spec.phase}: {message}" if spec.phase else message)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The API server's refusals, other than those handled inside, as the loop knows them."""
    try:
        yield
    except errors.ApiError as error:
        raise ports.ClusterUnavailable(str(error), busy=error.status == 429) from error
