"""Every knob of operator and gateway: one frozen dataclass, read from the environment once, validated once."""

import dataclasses
import os
import types
import typing
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Settings:
    """Each field is read from ``KUBETUNE_<FIELD>``. Durations in seconds."""

    database_url: str = ""  # postgresql://user:password@host:port/database?sslmode=…
    database_url_file: str = ""  # or a file that holds it (a mounted Secret)
    namespace: str = "kubetune"  # the operator's own
    lease_name: str = "kubetune-leader"  # in its own namespace: of several operators, who holds it leads
    watch_namespaces: str = ""  # comma-separated; empty: all
    gateway_url: str = "https://kubetune-gateway.kubetune.svc:8443"  # as trial pods reach it
    worker_image: str = "kubetune/trial:0.1.0"  # has the agent that an init container puts into workers
    listen_port: int = 8443
    tls_directory: str = ""  # tls.crt, tls.key, ca.crt; empty: plain http (development)
    tls_secret: str = "kubetune-gateway-tls"  # the operator makes and rotates it in its own namespace
    tls_manage: bool = True  # False: cert-manager or the user makes it
    tls_hosts: str = "kubetune-gateway.kubetune.svc"  # comma-separated names in the certificate
    http_port: int = 8080  # operator: /metrics /healthz /readyz; gateway: the same, apart from trials' port
    log_level: str = "INFO"
    log_format: str = "json"  # json | text
    reconcile_threads: int = 8
    sampler_processes: int = 2  # suggestions are made in so many; twice as many while some are slow; 0: in the operator
    api_threads: int = 32  # operator: Job writes at once at most (kube.limiter); gateway: requests
    resync: float = 30.0  # every live experiment is looked at at least this often
    relist: float = 300.0  # the cache is healed by a paginated list this often
    stop_grace: float = 60.0  # a stop not obeyed for so long deletes the Job
    image_grace: float = 60.0  # an image that cannot be pulled for so long is a failure
    config_grace: float = 10.0  # the same for CreateContainerConfigError and its like
    log_grace: float = 600.0  # wait so long for a log to be read to its end: longer than a gateway is ever away
    node_lost_after: float = 300.0
    deletion_grace: float = 300.0  # a Job that somebody deletes and something holds is not waited for any longer
    max_attempts: int = 20  # per trial, attempts lost to infrastructure; then it fails
    max_trials: int = 0  # trials in flight in the whole cluster, shared by all experiments; 0: no limit
    max_trials_per_namespace: int = 0  # the same for each namespace
    retention: float = 7 * 86400.0  # a deleted experiment's study is kept so long
    reports_retention: float = 0.0  # reports of an ended trial are kept so long; 0: as long as the study
    log_tail_bytes: int = 16384
    body_limit: int = 65536  # gateway: bytes of one request
    batch_delay: float = 0.002  # gateway: wait so long for more reports before a commit
    batch_size: int = 500
    s3_endpoint: str = ""  # object storage for checkpoints: https://host; empty: there is none
    s3_bucket: str = ""
    s3_region: str = "us-east-1"
    s3_prefix: str = "kubetune"  # what all keys begin with
    s3_access_key: str = ""
    s3_secret_key: str = dataclasses.field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Raises ValueError naming the variable, its value and what it takes."""
        given = {}
        for name, kind in typing.get_type_hints(cls).items():
            variable = f"KUBETUNE_{name.upper()}"
            if variable in environment:
                given[name] = _convert(variable, environment[variable], kind)
        settings = cls(**given)
        if settings.database_url_file and not settings.database_url:
            with open(settings.database_url_file, encoding="utf-8") as file:
                settings = dataclasses.replace(settings, database_url=file.read().strip())
        return settings


def _convert(variable: str, text: str, kind: type | types.UnionType) -> typing.Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{variable}={text!r}: write true or false")
        return text.lower() == "true"
    try:
        return typing.cast(type, kind)(text)
    except ValueError:
        raise ValueError(f"{variable}={text!r}: needs a value of type {getattr(kind, '__name__', kind)}") from None
