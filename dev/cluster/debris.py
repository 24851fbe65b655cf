"""Finds and removes what an engine of ours left behind: processes, mounts, bridge, firewall table, cgroups, sysctls.

Used after a clean stop, where it finds little, and after everything was killed, where it finds all of it. What is ours
is told by our own names alone: the run folder, the data folder, the cgroup, the bridge, the table.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import time

from dev.cluster import console, settings

PATIENCE_S = 10.0
UNMOUNT_ROUNDS = 5


def sweep(config: settings.Settings) -> None:
    end_processes(config)
    unmount(config)
    remove_network(config)
    remove_cgroups(config)
    restore_sysctls(config)
    shutil.rmtree(config.run, ignore_errors=True)
    _remove_stale_shim_sockets()


def processes(config: settings.Settings) -> set[int]:
    """Processes in our cgroups, and those whose command line names our run folder (dockerd, containerd, shims)."""
    found = {pid for folder in cgroups(config) for pid in _pids(folder)}
    needle = str(config.run).encode() + b"/"
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                program = os.path.basename(command.split(b"\0", 1)[0])
                if needle in command and program.startswith((b"dockerd", b"containerd", b"runc", b"docker-proxy")):
                    found.add(int(folder.name))
    return found


def _pids(cgroup: pathlib.Path) -> list[int]:
    try:
        return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def cgroups(config: settings.Settings) -> list[pathlib.Path]:
    """Our cgroups in every hierarchy (version 1 and 2), children before parents."""
    name = f"kubetune-{config.identity}"
    root = pathlib.Path("/sys/fs/cgroup")
    tops = [root / name, *(folder / name for folder in sorted(root.iterdir()) if folder.is_dir())]
    return [pathlib.Path(path) for top in tops for path, _, _ in os.walk(top, topdown=False)]


def end_processes(config: settings.Settings) -> None:
    """Kills them at once: whoever calls has already asked politely, or there is nobody left to ask."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := processes(config)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        _reap()


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def mounts(config: settings.Settings) -> list[str]:
    """Mount points of ours, the deepest first."""
    ours = (f"{config.run}/", f"{config.cache / 'engine'}", f"{config.cache / 'rootfs'}")
    lines = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].replace("\\040", " ") for line in lines]
    return sorted((point for point in points if point.startswith(ours)), key=len, reverse=True)


def unmount(config: settings.Settings) -> None:
    for _ in range(UNMOUNT_ROUNDS):
        points = mounts(config)
        if not points:
            return
        for point in points:
            if console.attempt(["umount", point]).returncode:
                console.attempt(["umount", "--lazy", point])


def remove_network(config: settings.Settings) -> None:
    if pathlib.Path(f"/sys/class/net/{config.bridge}").exists():
        console.attempt(["ip", "link", "delete", config.bridge])
    console.attempt(["nft", "delete", "table", "ip", f"kubetune_{config.identity}"])


def remove_cgroups(config: settings.Settings) -> None:
    for folder in cgroups(config):
        with contextlib.suppress(OSError):
            folder.rmdir()


def restore_sysctls(config: settings.Settings) -> None:
    notes = config.run / "sysctl"
    for note in sorted(notes.iterdir()) if notes.exists() else []:
        with contextlib.suppress(OSError):
            (pathlib.Path("/proc/sys") / note.name.replace(".", "/")).write_text(note.read_text())


def _remove_stale_shim_sockets() -> None:
    """containerd's shims put their sockets in one place for the whole machine; those that nobody holds are litter."""
    folder = pathlib.Path("/run/containerd/s")
    with contextlib.suppress(OSError):
        held = {line.split()[-1] for line in pathlib.Path("/proc/net/unix").read_text().splitlines() if "/" in line}
        for socket in folder.iterdir():
            if str(socket) not in held:
                socket.unlink()
    for path in (folder, folder.parent):
        with contextlib.suppress(OSError):
            path.rmdir()  # only when empty


def leftovers(config: settings.Settings) -> list[str]:
    """What a person would complain about after `down`: empty is the promise."""
    found = [f"process {pid}" for pid in sorted(processes(config))]
    found += [f"mount {point}" for point in mounts(config)]
    found += [f"cgroup {folder}" for folder in cgroups(config)]
    found += [f"interface {config.bridge}"] if pathlib.Path(f"/sys/class/net/{config.bridge}").exists() else []
    found += [f"folder {config.run}"] if config.run.exists() else []
    return found
