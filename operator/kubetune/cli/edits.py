"""What the command line writes: always the spec, always intent (docs/decisions/0003-stop-trials.md)."""

from collections.abc import Sequence

from kubetune.cli import explain, model, text
from kubetune.cli.access import Access
from kubetune.kube.client import Json


def suspend(resource: Json, wanted: bool) -> Json | None:
    """The change of the spec; None when it is so already. Raises Problem for an experiment that has ended."""
    shown = model.experiment(resource)
    if shown.ended:
        raise explain.Problem(
            f"experiment {shown.name} has ended ({shown.state}); there is nothing to suspend or resume"
        )
    return None if shown.suspend == wanted else {"suspend": wanted}


def stop(resource: Json, numbers: Sequence[int]) -> Json | None:
    """stopTrials with ``numbers`` merged in; None when all are there. Raises Problem if a trial does not exist yet."""
    shown = model.experiment(resource)
    if shown.ended:
        raise explain.Problem(f"experiment {shown.name} has ended ({shown.state}); no trial of it runs")
    for number in numbers:
        if not 0 <= number < shown.total:
            raise explain.no_trial(shown.name, number, shown.total)
    merged = sorted({*shown.stop_trials, *numbers})
    return None if merged == sorted(shown.stop_trials) else {"stopTrials": merged}


def run_suspend(access: Access, name: str, wanted: bool) -> list[str]:
    before = model.experiment(access.edit(name, lambda resource: suspend(resource, wanted)))
    if wanted:
        running = text.plural(before.active, "trial")
        return [
            f"experiment {name} is suspended: the pods of {running} go now",
            "they keep their numbers and parameters and start again on: kubectl tune resume " + name,
        ]
    return [f"experiment {name} goes on; follow it by: kubectl tune watch {name}"]


def run_stop(access: Access, name: str, numbers: Sequence[int]) -> list[str]:
    access.edit(name, lambda resource: stop(resource, numbers))
    trials = ("trial " if len(numbers) == 1 else "trials ") + ", ".join(str(number) for number in numbers)
    return [
        f"{trials} of {name} told to stop: at the next report, or at the latest after the grace; what had ended stays"
    ]
