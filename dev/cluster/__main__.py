"""python3 -m dev.cluster: the local cluster's entry points (see README.md beside this file)."""

import argparse
import shlex
import sys

from dev.cluster import console, engine, images, kind, settings, smoke, up

USAGE = "python3 -m dev.cluster"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["build"]:  # everything after it is docker's
        return images.build(settings.load(), arguments[1:])
    parser = argparse.ArgumentParser(prog=USAGE, description="The local Kubernetes cluster of kubetune.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make the cluster, or what of it is missing")
    commands.add_parser("down", help="remove the cluster and everything that runs for it; keep the cache")
    commands.add_parser("status", help="say what is there; exit status 0 if the cluster can be used")
    commands.add_parser("env", help='shell lines that point at the cluster: eval "$(… env)"')
    commands.add_parser("smoke", help="check that jobs, logs, exec, DNS, volumes and simulated GPUs work")
    commands.add_parser("build", help="docker build with what this machine needs: build -t TAG -f DOCKERFILE CONTEXT")
    load = commands.add_parser(
        "load", help="put images of Docker on the nodes, or push them to REGISTRY for a cluster of yours"
    )
    load.add_argument("images", nargs="+", metavar="IMAGE")
    chosen = parser.parse_args(arguments)
    return run(chosen.command, settings.load(), getattr(chosen, "images", []))


def run(command: str, config: settings.Settings, names: list[str]) -> int:
    match command:
        case "up":
            up.up(config)
        case "down":
            up.down(config)
        case "status":
            return up.status(config)
        case "env":
            print_environment(config)
        case "smoke":
            return smoke.smoke(config)
        case "load":
            return load(config, names)
    return 0


def load(config: settings.Settings, names: list[str]) -> int:
    if not config.user_kubeconfig:
        images.load(config, names, kind.nodes(config))
    elif config.registry is None:
        raise settings.UserError(
            "KUBECONFIG names a cluster of yours. Say by REGISTRY=host/path where it takes images from: they are pushed"
            " there. Or say REGISTRY=loaded if its nodes see this machine's Docker images (minikube, Docker Desktop)."
        )
    elif config.registry != settings.LOADED:
        images.push(config, names)
    return 0


def print_environment(config: settings.Settings) -> None:
    env = engine.environment(config)
    tools = shlex.quote(str(config.tools))
    print(f'case ":$PATH:" in *:{tools}:*) ;; *) export PATH={tools}:"$PATH" ;; esac')
    values = {"KUBECONFIG": config.user_kubeconfig or str(config.kubeconfig)}
    values |= {name: env[name] for name in ("DOCKER_HOST", "DOCKER_BUILDKIT") if name in env}
    if config.user_kubeconfig and config.registry not in (None, settings.LOADED):
        values["IMAGE_PREFIX"] = f"{config.registry}/"  # before the names of our images, in the chart and the examples
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (settings.UserError, console.CommandError) as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)
