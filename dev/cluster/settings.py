"""Every knob of the local cluster, read once from the environment, and the places that follow from them.

Everything we keep lies under one cache folder outside the tree, everything that runs under one folder in /run, so
that getting rid of it is removing two folders.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Mapping

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent

KUBERNETES_VERSION = "v1.34.4"
PUBLIC_NODE_IMAGE = "kindest/node:v1.34.0"  # the one kind-config.yaml names; what kind 0.30 was tested with
PYTHON_IMAGE = "python:3.11-slim-bookworm"
POSTGRES_IMAGE = "postgres:15-bookworm"
GPUS_PER_NODE = 8
LOADED = "loaded"  # as REGISTRY


class UserError(Exception):
    """Something the person at the keyboard can put right; shown without a traceback."""


@dataclasses.dataclass(frozen=True)
class Settings:
    cluster: str
    nodes: int | None
    """None: not said. A cluster that is there is then taken with the nodes it has, a new one gets one."""
    kwok_nodes: int | None
    """None: not said. Those that are there stay."""
    cache: pathlib.Path
    user_kubeconfig: str | None
    """A cluster that the user brought; then we create nothing."""
    registry: str | None = None
    """Where that cluster takes images from: host[:port]/path. "loaded": its nodes see this machine's Docker images."""

    @property
    def identity(self) -> str:
        """Names the engine of this cache: bridge, firewall table and run folder of two caches never meet."""
        return hashlib.sha256(str(self.cache).encode()).hexdigest()[:8]

    @property
    def run(self) -> pathlib.Path:
        return pathlib.Path("/run") / f"kubetune-{self.identity}"

    @property
    def socket(self) -> pathlib.Path:
        return self.run / "docker.sock"

    @property
    def bridge(self) -> str:
        return f"kt-{self.identity}"

    @property
    def bin(self) -> pathlib.Path:
        """Binaries of the node, and on PATH those a person uses."""
        return self.cache / "bin"

    @property
    def tools(self) -> pathlib.Path:
        """Only what should win on PATH: kind, kubectl, helm where the machine has none that fits."""
        return self.cache / "tools"

    @property
    def home(self) -> pathlib.Path:
        return self.cache / "clusters" / self.cluster

    @property
    def kubeconfig(self) -> pathlib.Path:
        return self.home / "kubeconfig"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    cache_home = environ.get("XDG_CACHE_HOME") or str(pathlib.Path.home() / ".cache")
    cache = pathlib.Path(environ.get("KUBETUNE_CACHE") or pathlib.Path(cache_home) / "kubetune").resolve()
    cluster = environ.get("KUBETUNE_CLUSTER") or "kubetune"
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", cluster):
        raise UserError(f"KUBETUNE_CLUSTER={cluster!r}: lower-case letters, digits and dashes, at most 32, please")
    return Settings(
        cluster=cluster,
        nodes=_count(environ, "NODES", least=1, most=9),
        kwok_nodes=_count(environ, "KWOK_NODES", least=0, most=5000),
        cache=cache,
        user_kubeconfig=_user_kubeconfig(environ, cache),
        registry=_registry(environ),
    )


def _count(environ: Mapping[str, str], name: str, *, least: int, most: int) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdigit() or not least <= int(text) <= most:
        raise UserError(f"{name}={text!r}: a whole number from {least} to {most}, please")
    return int(text)


def _registry(environ: Mapping[str, str]) -> str | None:
    text = (environ.get("REGISTRY") or "").rstrip("/")
    if text and not re.fullmatch(r"[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*", text):
        raise UserError(
            f"REGISTRY={text!r}: host[:port]/path as in `docker push`, without a scheme, please; or: loaded"
        )
    return text or None


def _user_kubeconfig(environ: Mapping[str, str], cache: pathlib.Path) -> str | None:
    """KUBECONFIG as the user set it; `eval "$(… env)"` sets it to our own file, which is no choice of theirs."""
    named = environ.get("KUBECONFIG")
    if not named or pathlib.Path(named).resolve().is_relative_to(cache / "clusters"):
        return None
    return named
