"""`kubetune operator | gateway | migrate | version`: reads the settings, sets up the logs, calls what was asked for."""

import argparse
import gc
import importlib.metadata
import sys
from collections.abc import Sequence

from kubetune import logs
from kubetune.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 asked to stop, 1 failed, 2 wrong settings, 3 another operator took over."""
    parser = argparse.ArgumentParser(
        "kubetune", description="Hyperparameter tuning on Kubernetes. Settings: KUBETUNE_*."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("operator", help="watch Experiments and run their trials")
    commands.add_parser("gateway", help="take in what trials report")
    commands.add_parser("migrate", help="bring the database's tables to this version")
    commands.add_parser("version", help="print the version")
    command = parser.parse_args(arguments).command
    if command == "version":
        sys.stdout.write(importlib.metadata.version("kubetune") + "\n")
        return 0
    try:
        settings = Settings.from_environment()
        logs.configure(settings.log_level, settings.log_format)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"kubetune: {error}\n")
        return 2
    return _run(command, settings)


def _run(command: str, settings: Settings) -> int:
    if not settings.database_url:
        sys.stderr.write("kubetune: set KUBETUNE_DATABASE_URL or KUBETUNE_DATABASE_URL_FILE\n")
        return 2
    if command == "operator":
        from kubetune.controller import operator  # each command loads only what it needs

        _settle()
        return operator.run(settings)
    if command == "gateway":
        from kubetune.gateway import app

        _settle()
        app.run(settings)
        return 0
    from kubetune.storage import migrate

    migrate.migrate(settings.database_url)
    return 0


def _settle() -> None:
    """What the imports made stays, so the garbage collector need not look through it again; and it looks less often: at
    its defaults it takes a third of what the operator spends on a watch event."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


if __name__ == "__main__":
    sys.exit(main())
