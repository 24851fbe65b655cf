"""Builds Kubernetes and its tools from Go modules, pinned by the go.sum files in modules/.

One module for everything that shares client-go compiles it once. Module and build cache lie in our own cache.
"""

import hashlib
import os
import pathlib
import shutil

from dev.cluster import console, settings

MODULES = settings.HERE / "modules"
KUBERNETES = "k8s.io/kubernetes/cmd/"
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE_PROGRAMS = {
    **{name: KUBERNETES + name for name in (*CONTROL_PLANE, "kube-proxy", "kubelet", "kubeadm", "kubectl")},
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": "./coredns",
    "pause": "./pause",
    "helm": "helm.sh/helm/v3/cmd/helm",
}
PROGRAMS = {
    "node": NODE_PROGRAMS,
    "local-path-provisioner": {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
    "kind": {"kind": "sigs.k8s.io/kind"},
    "kwok": {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
}
EXPECTED_S = {"node": 480, "local-path-provisioner": 80, "kind": 30, "kwok": 120}
KUBECTL_MINORS = range(33, 36)  # kubectl supports one minor version of skew either way


def build(config: settings.Settings, module: str, *only: str) -> None:
    """Builds a module's programs into the cache (or only some), less those that are there from the same sources."""
    digest = _digest(module)
    wanted = {name: package for name, package in PROGRAMS[module].items() if not only or name in only}
    programs = {name: package for name, package in wanted.items() if not _is_built(config, name, digest)}
    if not programs:
        return
    go = _go()
    expected_s = EXPECTED_S[module] * max(len(programs) / len(PROGRAMS[module]), 0.3)  # they share most of it
    with console.step(f"building {', '.join(programs)} from Go modules", expected_s):
        staging = config.cache / "building" / module
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        command = [go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly", f"-ldflags={_ldflags()}"]
        console.run(
            [*command, "-o", f"{staging}/", *programs.values()],
            log=config.cache / "logs" / f"go-{module}.log", env=_environment(config), cwd=MODULES / module,
        )  # fmt: skip
        config.bin.mkdir(parents=True, exist_ok=True)
        for name, package in programs.items():
            (staging / _built_name(package)).replace(config.bin / name)
            (config.bin / f".{name}.from").write_text(digest)
        shutil.rmtree(staging)


def _is_built(config: settings.Settings, name: str, digest: str) -> bool:
    note = config.bin / f".{name}.from"
    return note.exists() and note.read_text() == digest and (config.bin / name).exists()


def _built_name(package: str) -> str:
    """What go calls the program of a package: its last element that is no version."""
    return next(part for part in reversed(package.split("/")) if part not in ("v2", "v3"))


def _ldflags() -> str:
    version = settings.KUBERNETES_VERSION
    major, minor, _ = version.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    fields = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s -w", *(f"-X {package}.{name}={value}" for name, value in fields.items())])


def _environment(config: settings.Settings) -> dict[str, str]:
    """The user's Go settings (proxy, checksums), with our own caches."""
    go_cache = config.cache / "go"
    return dict(
        os.environ,
        CGO_ENABLED="0",
        GOMODCACHE=str(go_cache / "mod"),
        GOCACHE=str(go_cache / "build"),
        GOFLAGS="-modcacherw",  # so that `rm -rf` of the cache works
        GOWORK="off",
    )


def module_folder(config: settings.Settings, module: str, path: str) -> pathlib.Path:
    """Where a dependency's sources lie in the module cache."""
    command = [_go(), "-C", str(MODULES / module), "list", "-m", "-f", "{{.Dir}}", path]
    return pathlib.Path(console.capture(command, env=_environment(config)).strip())


def _go() -> str:
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not found:
        raise settings.UserError(
            "Kubernetes' images cannot be pulled here, so they are built, and that takes Go 1.24 or newer: "
            "please put `go` on PATH (or start Docker with access to a registry)."
        )
    return found


def _digest(module: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((MODULES / module).rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(MODULES)).encode() + b"\0" + path.read_bytes())
    digest.update(_ldflags().encode())
    return digest.hexdigest()


def ensure_tools(config: settings.Settings) -> None:
    """kind, kubectl and helm: the user's where they fit, otherwise ours, in a folder of their own for PATH."""
    config.tools.mkdir(parents=True, exist_ok=True)
    wanted = {"kind": ("kind", _kind_fits), "kubectl": ("node", _kubectl_fits), "helm": ("node", _helm_fits)}
    for name, (module, fits) in wanted.items():
        link = config.tools / name
        if not link.exists() and fits(shutil.which(name)):
            continue
        build(config, module, name)
        link.unlink(missing_ok=True)
        link.symlink_to(config.bin / name)


def _kind_fits(program: str | None) -> bool:
    return bool(program) and " v0.30." in console.attempt([program or "", "version"]).stdout


def _kubectl_fits(program: str | None) -> bool:
    output = console.attempt([program or "kubectl", "version", "--client"]).stdout if program else ""
    return any(f"v1.{minor}." in output for minor in KUBECTL_MINORS)


def _helm_fits(program: str | None) -> bool:
    return bool(program) and console.attempt([program or "", "version", "--short"]).stdout.startswith("v3.")
