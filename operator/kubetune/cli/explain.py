"""What went wrong, where, and what to do: errors of the API server and the gateway, worded for the person who typed."""

import difflib
from collections.abc import Sequence

from kubetune.kube import errors

SHOWN = 20  # names listed at most


class Problem(Exception):  # noqa: N818
    """The command cannot be carried out; the text says why and what to do. ``passing``: trying again may help."""

    def __init__(self, text: str, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


class NoExperiment(Problem):
    """There is no experiment of that name."""


class NoReadAccess(Problem):
    """The trials may not be read by this person; the status still may."""


def no_experiment(namespace: str, name: str, there: Sequence[str]) -> Problem:
    if not there:
        return NoExperiment(
            f"no experiment {name} in namespace {namespace}, which has none at all; "
            "`kubectl tune get -A` lists those of every namespace"
        )
    close = difflib.get_close_matches(name, there, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    return NoExperiment(f"no experiment {name} in namespace {namespace}{hint}\nthere: {', '.join(there[:SHOWN])}{more}")


def not_installed() -> Problem:
    return Problem(
        "this cluster has no kind Experiment: kubetune is not installed here, or the context is another cluster's\n"
        "check:   kubectl config current-context\n"
        "install: docs/install.md"
    )


def api(error: errors.ApiError, doing: str) -> Problem:
    """An answer of the API server itself."""
    if isinstance(error, errors.Unauthorized):
        return Problem(f"cannot {doing}: the API server did not take the credentials of this kubeconfig")
    if isinstance(error, errors.Unavailable):
        return Problem(f"cannot {doing}: the API server does not answer ({error})", passing=True)
    if isinstance(error, errors.Forbidden):
        return Problem(f"cannot {doing}: {error}\nask for the role kubetune-edit (or -view) in this namespace")
    return Problem(f"cannot {doing}: {error}")


def token(error: errors.ApiError, namespace: str, account: str) -> Problem:
    """No token of the namespace."""
    if isinstance(error, errors.Forbidden):
        return NoReadAccess(
            f"no right to read the trials of namespace {namespace}: it takes `create` on serviceaccounts/token there\n"
            f"(the built-in roles edit and admin have it); the API server says: {error}"
        )
    if isinstance(error, errors.NotFound):
        return NoReadAccess(
            f"no service account {account} in namespace {namespace}; name one of it by --service-account\n"
            f"list:  kubectl get serviceaccounts -n {namespace}"
        )
    return api(error, f"get a token of service account {account}")


def gateway(error: errors.ApiError, namespace: str, name: str, service: str) -> Problem:
    """An answer on the way to the gateway, or the gateway's own (those carry no Kubernetes reason)."""
    if isinstance(error, errors.Unauthorized):
        return NoReadAccess(f"the gateway did not take our token: {error}")
    if isinstance(error, errors.Unavailable):
        return Problem(
            f"the gateway does not answer ({error})\n"
            f"check:  kubectl get pods,endpointslices -n {namespace} -l app.kubernetes.io/component=gateway\n"
            f"        kubectl logs -n {namespace} -l app.kubernetes.io/component=gateway --tail=20",
            passing=True,
        )
    if isinstance(error, errors.Forbidden) and error.reason:
        return NoReadAccess(
            f"no right to reach the gateway: it takes `get` on services/proxy, name {service}, "
            f"in namespace {namespace}\nthe API server says: {error}"
        )
    if isinstance(error, errors.NotFound) and error.reason:
        return Problem(
            f"no service {name} in namespace {namespace}: is kubetune installed elsewhere, or under another name?\n"
            "find:  kubectl get services -A -l app.kubernetes.io/component=gateway\n"
            "then:  kubectl tune --gateway NAMESPACE/SERVICE:PORT …  (or KUBETUNE_GATEWAY_SERVICE)"
        )
    return Problem(f"the gateway says: {error}")


def strange_gateway(namespace: str, service: str, answer: bytes) -> Problem:
    text = answer[:200].decode("utf-8", "replace").strip()
    return Problem(f"{service} in namespace {namespace} does not speak as kubetune's gateway does: {text!r}")


def no_trial(name: str, trial: int, total: int) -> Problem:
    if total == 0:
        return Problem(f"experiment {name} has no trial yet")
    return Problem(f"experiment {name} has no trial {trial}; its trials are 0 to {total - 1}")
