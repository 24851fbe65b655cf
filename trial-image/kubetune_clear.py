"""Clears what an experiment that is over left on its volume claim; the operator runs it in a Job of its own.

    python3 kubetune_clear.py FOLDER [--keep TRIAL/NAME]…

Removes the folder's checkpoints but those that are to stay, and the folder if that can be. What is gone already
is no error: it may be run again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from typing import Sequence  # noqa: UP035 - Python 3.8


def clear(folder: str, keep: Sequence[str]) -> int:
    """Returns how many checkpoints stay. Raises OSError for what cannot be removed."""
    kept = {os.path.normpath(each) for each in keep}
    staying = 0
    for number in filter(str.isdigit, _entries(folder)):  # a trial's; whatever else there is, is not ours
        inner = os.path.join(folder, number)
        for name in _entries(inner):
            if os.path.join(number, name) in kept:
                staying += 1
            else:
                _remove(os.path.join(inner, name))
        if not _entries(inner):
            _remove(inner)
    with contextlib.suppress(OSError):  # not empty, or the volume is mounted here
        os.rmdir(folder)
    return staying


def _entries(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) and not os.path.islink(folder) else []


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser("kubetune_clear", description="Clear an experiment's checkpoints away.")
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--keep", action="append", default=[], metavar="TRIAL/NAME")
    given = parser.parse_args(arguments)
    staying = clear(given.folder, given.keep)
    print(f"{given.folder}: cleared, {staying} checkpoints stay")
    return 0


if __name__ == "__main__":
    sys.exit(main())
