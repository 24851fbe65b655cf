"""`make bench`: runs the benchmarks, prints a table, writes bench.json.

Each module of `MODULES` is a benchmark, or several that share a run: it has ``NAMES`` (the results that it brings) and
``run(quick) -> list[Result]``. Each runs in a process of its own, which is ended when its time is over, so one that
hangs or fails costs nobody else's figures.
"""

import argparse
import dataclasses
import importlib
import importlib.util
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from dev.bench.result import Result, from_json, missing, table, to_json

GRACE = 20.0  # seconds for a module to clear up after its time is over


@dataclasses.dataclass(frozen=True)
class Budget:
    """Seconds that a module may take, in its full and its quick form. All together: 75 and 10 minutes."""

    full: float
    quick: float


MODULES = {
    "start": Budget(110, 25),
    "flood200": Budget(600, 95),
    "flood1000": Budget(740, 100),
    "many600": Budget(240, 55),
    "many3600": Budget(480, 55),
    "ask": Budget(360, 45),
    "quality": Budget(720, 45),
    "reports": Budget(150, 60),
    "restart": Budget(280, 45),
    "workers": Budget(820, 75),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all ran and all goals hold; 1: not so."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="names or beginnings of names, such as gap or flood-200,start")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs: ten minutes in all")
    parser.add_argument("--json", default="bench.json", help="where to write the results")
    parser.add_argument("--module", help=argparse.SUPPRESS)  # the child's side
    options = parser.parse_args(arguments)
    if options.module:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("its time is over"))  # it clears up on its way out
        results = importlib.import_module(f"dev.bench.{options.module}").run(options.quick)
        pathlib.Path(options.json).write_text(to_json(results), encoding="utf-8")
        return 0
    wanted = [word.strip() for word in options.only.split(",") if word.strip()]
    chosen = {module: names for module, names in present().items() if selected(names, wanted)}
    if not chosen:
        known = [name for names in present().values() for name in names]
        parser.error(f"--only {options.only}: there are {', '.join(known)}")
    results = []
    for module, names in chosen.items():
        found = run_module(module, names, options.quick)
        results += [result for result in found if selected([result.name], wanted)]
        pathlib.Path(options.json).write_text(to_json(results), encoding="utf-8")  # what is there if it is ended
    print(f"\n{table(results)}\n\nwritten to {options.json}", flush=True)
    return 0 if all(result.holds for result in results) else 1


def present() -> dict[str, list[str]]:
    """The names of the results by module, of the modules that are there."""
    return {
        module: list(importlib.import_module(f"dev.bench.{module}").NAMES)
        for module in MODULES
        if importlib.util.find_spec(f"dev.bench.{module}")
    }


def selected(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether one of the names begins with one of the words; no word selects all."""
    return not wanted or any(name.startswith(word) for name in names for word in wanted)


def run_module(module: str, names: Sequence[str], quick: bool) -> list[Result]:
    """One module in its own process. What it does not bring is there as missing, with the reason."""
    budget = MODULES[module].quick if quick else MODULES[module].full
    print(f"\n== {', '.join(names)} ({time.strftime('%H:%M:%S')}, at most {budget:.0f} s)", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "results.json")
        command = [sys.executable, "-m", "dev.bench", "--module", module, "--json", str(out)]
        with subprocess.Popen([*command, "--quick"] if quick else command) as child:
            why = _wait(child, budget)
        results = from_json(out.read_text(encoding="utf-8")) if out.exists() else []
    brought = {result.name for result in results}
    results += [missing(name, why or "the module did not bring it") for name in names if name not in brought]
    print(f"{table(results)}\n({time.monotonic() - begun:.0f} s)", flush=True)
    return results


def _wait(child: subprocess.Popen[bytes], budget: float) -> str:
    """Why it brought nothing; "": it ended well."""
    try:
        code = child.wait(budget)
        return f"it ended with exit code {code}" if code else ""
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
        return f"it was not done after {budget:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
