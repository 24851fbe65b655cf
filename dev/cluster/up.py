"""`up` and `down`: from whatever is there to a cluster that is ready, and back to nothing."""

import concurrent.futures
import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dev.cluster import (
    addons,
    binaries,
    console,
    debris,
    engine,
    images,
    kind,
    kwok,
    network,
    nodeimage,
    settings,
    standins,
)


@contextmanager
def alone(config: settings.Settings) -> Iterator[None]:
    """One `up` or `down` at a time per cache; a second one waits for the first."""
    config.cache.mkdir(parents=True, exist_ok=True)
    with (config.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("- waiting for another `up` or `down` to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up(config: settings.Settings) -> None:
    started = time.monotonic()
    if config.user_kubeconfig:
        _use_users(config)
        return
    with alone(config):
        engine.ensure(config)
        image = None if standins.can_pull(config) else _build_what_cannot_be_pulled(config)
        binaries.ensure_tools(config)
        _create(config, image)
        if image:
            network.ensure(config)
            images.load(config, standins.ours(config), kind.nodes(config))
        kind.wait_ready(config)
        addons.ensure_gpus(config)
        kwok.ensure(config)
    took = console.duration(time.monotonic() - started)
    console.say(f'Cluster {config.cluster} is ready ({took}). Use it:  eval "$(python3 -m dev.cluster env)"')


def _use_users(config: settings.Settings) -> None:
    binaries.ensure_tools(config)
    env = engine.environment(config)
    command = ["kubectl", "--kubeconfig", config.user_kubeconfig or "", "get", "nodes", "--request-timeout=15s"]
    result = console.attempt(command, env=env)
    if result.returncode:
        raise settings.UserError(f"KUBECONFIG={config.user_kubeconfig} names no cluster that answers:\n{result.stderr}")
    console.say(f"Using the cluster of your KUBECONFIG; nothing is created.\n{result.stdout.rstrip()}")


def _build_what_cannot_be_pulled(config: settings.Settings) -> str:
    """Images from Debian packages and binaries from Go modules side by side: one waits for disk, the other for CPU."""
    console.say("- public images cannot be pulled here: building stand-ins from Debian packages and Go modules")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        debian_images = pool.submit(standins.ensure, config)
        for module in ("node", "local-path-provisioner", "kind"):
            binaries.build(config, module)
        debian_images.result()
    for image in standins.ours(config):
        console.say(f"  {image} is a STAND-IN from Debian's packages, tagged by the public name on this machine only")
    return nodeimage.ensure(config)


def _create(config: settings.Settings, image: str | None) -> None:
    if kind.is_up(config, image):
        console.say(f"- cluster {config.cluster}: up already")
        return
    kind.delete(config)
    kind.create(config, image)


def down(config: settings.Settings) -> None:
    """Removes the cluster; the engine too if it is ours and runs no other; keeps the cache."""
    if config.user_kubeconfig:
        console.say("KUBECONFIG names a cluster of yours: it is left as it is.")
        return
    with alone(config):
        if engine.answers(config):
            kind.delete(config)
        engine.stop(config)
        shutil.rmtree(config.home, ignore_errors=True)
        debris.unmount(config)
        for folder in ("building", "rootfs"):
            shutil.rmtree(config.cache / folder, ignore_errors=True)
    leftovers = debris.leftovers(config) if not engine.is_ours(config) else []
    for line in leftovers:
        console.say(f"  left behind: {line}")
    console.say(f"Cluster {config.cluster} is gone. Images and builds stay in {config.cache} for the next time.")


def status(config: settings.Settings) -> int:
    """Prints what is there; the exit status says whether the cluster can be used."""
    if config.user_kubeconfig:
        _use_users(config)
        return 0
    if not engine.answers(config):
        print(f"cluster {config.cluster}: down (no Docker engine answers)")
        return 1
    whose = "our own" if engine.is_ours(config) else "the machine's"
    found = kind.nodes(config)
    print(f"Docker engine: {whose}; nodes: {', '.join(found) or 'none'}; cache: {config.cache}")
    result = kind.kubectl(config, "get", "nodes", "-o", "wide", "-l", "type!=kwok")
    if not found or result.returncode:
        print(f"cluster {config.cluster}: {'not answering' if found else 'down'}")
        return 1
    print(result.stdout.rstrip())
    gpus = addons.gpus_by_node(config)
    print("SIMULATED nvidia.com/gpu: " + ", ".join(f"{name} {count}" for name, count in gpus.items()))
    print(kwok.describe(config))
    return 0
