"""Builds images and puts them on the nodes; both know what is already there and then take no time."""

import hashlib
import json
import os
import pathlib

from dev.cluster import console, engine, settings

LABEL = "kubetune.dev/inputs"
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def build(config: settings.Settings, arguments: list[str]) -> int:
    """`docker build` with what this machine needs: its proxies, and its network where our engine has no other."""
    if config.user_kubeconfig:
        engine.ensure(config)
    env = engine.environment(config)
    extra = [word for name in PROXIES if name in env for word in ("--build-arg", name)]
    if engine.is_ours(config):
        extra += ["--network", "host"]
    command = ["docker", "build", *extra, *arguments]
    return os.spawnvpe(os.P_WAIT, "docker", command, env)


def identifier(image: str, env: dict[str, str]) -> str | None:
    result = console.attempt(["docker", "image", "inspect", "--format", "{{.Id}}", image], env=env)
    return result.stdout.strip() if result.returncode == 0 else None


def inputs(image: str, env: dict[str, str]) -> str | None:
    """What we noted on an image that we built; None if it is not there, or not ours."""
    result = console.attempt(["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image], env=env)
    labels: dict[str, str] | None = json.loads(result.stdout) if result.returncode == 0 else None
    return (labels or {}).get(LABEL)


def digest(*parts: pathlib.Path | str) -> str:
    """One name for the content of files, folders and strings."""
    total = hashlib.sha256()
    for part in parts:
        files = [part] if isinstance(part, str) else sorted(part.rglob("*")) if part.is_dir() else [part]
        for file in files:
            content = file.encode() if isinstance(file, str) else file.read_bytes() if file.is_file() else b""
            total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:16]


def load(config: settings.Settings, images: list[str], nodes: list[str]) -> None:
    """`kind load` of those images that some node has not got yet in this very build."""
    env = engine.environment(config)
    missing = [image for image in images if not all(_on_node(image, node, env) for node in nodes)]
    for image in images:
        if image not in missing:
            console.say(f"  {image}: on the nodes already")
    if missing:
        with console.step(f"loading {', '.join(missing)} into the nodes", 5 + 5 * len(missing)):
            kind = ["kind", "load", "docker-image", *missing, "--name", config.cluster]
            console.run(kind, log=config.cache / "logs" / "kind-load.log", env=env)


def push(config: settings.Settings, images: list[str]) -> None:
    """To the registry of a cluster that the user brought, by the same names below its prefix."""
    env = engine.environment(config)
    log = config.cache / "logs" / "push.log"
    for image in images:
        target = f"{config.registry}/{image}"
        with console.step(f"pushing {target}", 20):
            console.run(["docker", "tag", image, target], log=log, env=env)
            console.run(["docker", "push", target], log=log, env=env)


def _on_node(image: str, node: str, env: dict[str, str]) -> bool:
    """containerd lists an image by its name and by its ID; both point to one digest if the name means this build."""
    wanted = identifier(image, env)
    if wanted is None:
        raise settings.UserError(f"There is no image {image} in Docker; build it first.")
    output = console.capture(["docker", "exec", node, "ctr", "--namespace=k8s.io", "images", "list"], env=env)
    digests = {words[0]: words[2] for line in output.splitlines()[1:] if len(words := line.split()) > 2}
    found = digests.get(full_name(image))
    return found is not None and found in (wanted, digests.get(wanted))


def full_name(image: str) -> str:
    """The name as the node knows it: python:3.11 is docker.io/library/python:3.11."""
    name = image if ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"
