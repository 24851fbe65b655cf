"""The Docker engine: the user's own where one answers, otherwise Debian's, started and stopped by us.

Our own engine keeps to itself: data in the cache, runtime files in one folder under /run, a bridge and a firewall
table with names of its own, no iptables rule and no docker0. So `down` can prove that nothing is left, and two
caches can run side by side.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

from dev.cluster import console, debris, settings

CAP_SYS_RESOURCE = 24
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 25.0
PACKAGES = {"dockerd": "docker.io", "iptables": "iptables", "nft": "nftables", "ip": "iproute2"}  # by program
APT = ("apt-get", "--quiet=2", "--option=DPkg::Lock::Timeout=300")  # a machine that just started may be at it itself
NETWORK = "kind"  # the name that kind expects
HOST_SYSCTLS = {
    "net/ipv4/ip_forward": "1",  # pods reach the world through the node's bridge
    "fs/inotify/max_user_instances": "1024",  # every kubelet, containerd and log follower takes some
    "fs/inotify/max_user_watches": "524288",
}
ENVIRONMENT_FILE = "engine.env"


def environment(config: settings.Settings) -> dict[str, str]:
    """The environment for docker and kind: our engine if we run one, else whatever the user's is."""
    env = dict(os.environ)
    env["PATH"] = os.pathsep.join([str(config.tools), env.get("PATH", ""), "/usr/sbin", "/sbin"])
    if is_ours(config):
        env["DOCKER_HOST"] = f"unix://{config.socket}"
    elif env.get("DOCKER_HOST", "").startswith("unix:///run/kubetune-"):
        del env["DOCKER_HOST"]  # of an engine of ours that is gone
    if console.attempt(["docker", "buildx", "version"], env=env).returncode:
        env["DOCKER_BUILDKIT"] = "0"
    return env


def is_ours(config: settings.Settings) -> bool:
    return config.socket.exists()


def answers(config: settings.Settings) -> bool:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    return console.attempt(command, env=environment(config), timeout_s=15).returncode == 0


def ensure(config: settings.Settings) -> None:
    """Leaves a Docker engine that answers, or says what is missing."""
    if answers(config):
        if is_ours(config):
            _open_the_way(config)
        return
    if config.run.exists():
        console.say("- clearing up after an engine of ours that was killed")
        debris.sweep(config)
        if answers(config):
            return
    _install_packages(config)
    if answers(config):  # the package may have started the system's own
        return
    _start(config)


def _install_packages(config: settings.Settings) -> None:
    path = environment(config)["PATH"]
    missing = sorted(package for program, package in PACKAGES.items() if not shutil.which(program, path=path))
    if missing:
        _require_root("No Docker engine answers")
        install_packages(config, missing)
    if not shutil.which("docker", path=path):
        install_packages(config, ["docker-cli"])  # a package of its own from Debian 13 on


def install_packages(config: settings.Settings, packages: list[str]) -> None:
    if not shutil.which("apt-get"):
        raise settings.UserError(f"Not a Debian machine, so please install these yourself: {', '.join(packages)}")
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    log = config.cache / "logs" / "apt.log"
    with console.step(f"installing Debian packages: {' '.join(packages)}", 30):
        console.run([*APT, "update"], log=log, env=env)
        console.run([*APT, "install", "--yes", "--no-install-recommends", *packages], log=log, env=env)


def _require_root(why: str) -> None:
    if os.geteuid() != 0:
        raise settings.UserError(
            f"{why}, and starting one takes root. Start Docker, or run this as root, or name a cluster by KUBECONFIG."
        )


def _start(config: settings.Settings) -> None:
    _require_root("No Docker engine answers")
    config.run.mkdir(parents=True, exist_ok=True)
    (config.run / "cache").write_text(str(config.cache))
    _raise_sysctls(config)
    log = config.cache / "logs" / "dockerd.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with console.step("starting a Docker engine of our own", 5):
        if not _comes_up(config, log):
            console.say("  (it does not start on the data that it left: starting with none)")
            _end_daemon(config)
            debris.end_processes(config)
            debris.unmount(config)
            shutil.rmtree(config.cache / "engine", ignore_errors=True)
            if not _comes_up(config, log):
                tail = log.read_text(errors="replace").splitlines()[-15:]
                raise settings.UserError("\n".join(["The Docker engine did not start:", *tail, f"(full log: {log})"]))
        _open_the_way(config)


def _comes_up(config: settings.Settings, log: pathlib.Path) -> bool:
    with log.open("ab") as output:
        process = subprocess.Popen(
            _dockerd(config), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=_daemon_environment(), start_new_session=True, cwd="/",
        )  # fmt: skip
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(config):
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _dockerd(config: settings.Settings) -> list[str]:
    command = [
        "dockerd",
        f"--data-root={config.cache / 'engine'}",
        f"--exec-root={config.run / 'exec'}",
        f"--pidfile={config.run / 'docker.pid'}",
        f"--host=unix://{config.socket}",
        f"--cgroup-parent=/kubetune-{config.identity}",
        "--group=root",
        "--bridge=none",
        "--iptables=false",
        "--oom-score-adjust=0",
        "--storage-driver=overlay2",
    ]
    if not _may(CAP_SYS_RESOURCE):
        runtime = config.cache / "runc-without-sys-resource"
        shutil.copy2(settings.HERE / "files" / "runc-without-sys-resource", runtime)
        command += [f"--add-runtime=kubetune={runtime}", "--default-runtime=kubetune"]
    return command


def _daemon_environment() -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if key not in ("DOCKER_HOST", "KUBECONFIG")}
    env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return env


def _may(capability: int) -> bool:
    status = pathlib.Path("/proc/self/status").read_text()
    bounding = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))
    return bool(int(bounding, 16) >> capability & 1)


def _raise_sysctls(config: settings.Settings) -> None:
    """Raises what the nodes need and notes what was there, so that `down` puts it back."""
    for name, wanted in HOST_SYSCTLS.items():
        path = pathlib.Path("/proc/sys") / name
        note = config.run / "sysctl" / name.replace("/", ".")
        try:
            before = path.read_text().strip()
            if int(before) >= int(wanted):
                continue
            path.write_text(wanted)
        except OSError as error:
            console.say(f"  (could not set {name} to {wanted}: {error})")
            continue
        note.parent.mkdir(exist_ok=True)
        if not note.exists():
            note.write_text(before)


def _open_the_way(config: settings.Settings) -> None:
    """The nodes' network on a bridge with our name, and the one address translation it needs, in a table of ours."""
    env = environment(config)
    format_ = "{{(index .IPAM.Config 0).Subnet}}"
    inspect = ["docker", "network", "inspect", NETWORK, "--format", format_]
    if console.attempt(inspect, env=env).returncode:
        option = f"com.docker.network.bridge.name={config.bridge}"
        console.capture(["docker", "network", "create", "--driver=bridge", "--opt", option, NETWORK], env=env)
    subnet = console.capture(inspect, env=env).strip()
    table = f"kubetune_{config.identity}"
    rules = (
        f"table ip {table} {{}}\ndelete table ip {table}\n"
        f"table ip {table} {{\nchain postrouting {{\ntype nat hook postrouting priority 100;\n"
        f'ip saddr {subnet} oifname != "{config.bridge}" masquerade\n}}\n}}\n'
    )
    result = console.attempt(["nft", "-f", "-"], env=env, stdin=rules)
    if result.returncode:
        console.say(f"  (no address translation for pods, they reach only the cluster: {result.stderr.strip()})")


def stop(config: settings.Settings) -> None:
    """Stops our engine, if it is ours and nobody else's cluster runs on it, and leaves nothing of it running."""
    if not config.run.exists():
        return
    env = environment(config)
    if is_ours(config) and answers(config):
        others = console.capture(["docker", "ps", "-q", "--filter", "label=io.x-k8s.kind.cluster"], env=env).split()
        if others:
            console.say(f"  (the engine goes on: {len(others)} nodes of other clusters run on it)")
            return
        for container in console.capture(["docker", "ps", "-q"], env=env).split():
            console.attempt(["docker", "rm", "-f", "-v", container], env=env)
        console.attempt(["docker", "network", "rm", NETWORK], env=env)
        console.attempt(["docker", "image", "prune", "--force"], env=env)  # layers of images that were built anew
    _end_daemon(config)
    debris.sweep(config)


def _end_daemon(config: settings.Settings) -> None:
    try:
        pid = int((config.run / "docker.pid").read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # it is our child if this very process started it
        time.sleep(0.1)
