"""`kubectl tune`: experiments and their trials from a terminal. Installed as `kubectl-tune`, so kubectl finds it."""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kubetune.cli import (
    edits,
    explain,
    export,
    history,
    importance,
    model,
    models,
    render,
    replay,
    schedule,
    text,
    watch,
)
from kubetune.cli import logs as trial_logs
from kubetune.cli.access import Access, Gateway
from kubetune.kube.client import Client, Json
from kubetune.kube.credentials import Credentials, NoCredentials

ENV_GATEWAY = "KUBETUNE_GATEWAY_SERVICE"
Command: TypeAlias = Callable[[argparse.Namespace, Access, Credentials], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0; 1 for a problem (told on stderr) or an experiment that failed; 2 for wrong usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without UTF-8 gets ? for what it cannot show
        sys.stdout.reconfigure(errors="replace")
    options = parser().parse_args(arguments)
    try:
        if options.command is _replay and replay.is_file(options.name):
            return _decided(replay.read(options.name), options.phase)  # offline
        credentials = Credentials.load(getattr(options, "kubeconfig", None), getattr(options, "context", None))
        return int(options.command(options, _access(options, credentials), credentials))
    except (explain.Problem, NoCredentials) as problem:
        print(f"kubectl tune: {problem}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _access(options: argparse.Namespace, credentials: Credentials) -> Access:
    namespace = getattr(options, "namespace", None) or credentials.namespace
    given = getattr(options, "gateway", None) or os.environ.get(ENV_GATEWAY)
    gateway = Gateway.parse(given) if given else Gateway()
    client = Client(credentials, pool_size=4, user_agent="kubectl-tune")
    return Access(client, namespace, gateway, getattr(options, "service_account", None) or "default")


# commands


def _get(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    if options.name:
        resource = access.experiment(options.name)
        if options.output == "json":
            print(text.as_json(resource))
        else:
            print(*render.experiment(model.experiment(resource), time.time()), sep="\n")
        return 0
    resources = access.experiments(options.all_namespaces)
    if options.output == "json":
        print(text.as_json(list(resources)))
        return 0
    if not resources:
        where = "any namespace" if options.all_namespaces else f"namespace {access.namespace} (-A looks everywhere)"
        print(f"no experiments in {where}", file=sys.stderr)
        return 0
    shown = [model.experiment(resource) for resource in resources]
    print(*render.experiments(shown, time.time(), options.all_namespaces), sep="\n")
    return 0


def _trials(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    shown = model.experiment(access.experiment(options.name))
    state = model.STATES[options.state] if options.state else None
    found = access.trials(options.name, state, phase=options.phase) if shown.total else ()
    answers = {int(answer["number"]): answer for answer in found}
    rows = [model.trial(answers[number]) for number in sorted(answers)]
    if options.state in ("running", "paused"):
        rows = [row for row in rows if row.paused == (options.state == "paused")]
    if options.sort == "value":
        rows = model.by_value(rows, shown.maximize)
    rows = rows[: options.limit]
    if options.output == "json":
        print(text.as_json([answers[one.number] for one in rows]))
    elif options.output == "csv":
        print(render.trials_csv(shown, rows), end="")
    elif rows:
        print(*render.trials(shown, rows, time.time(), wide=options.output == "wide"), sep="\n")
    else:
        print(f"no trials{' ' + options.state if options.state else ''} in {options.name}", file=sys.stderr)
    return 0


def _best(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    shown = model.experiment(access.experiment(options.name))
    if shown.best is None:
        hint = shown.message or "look at it by: kubectl tune get " + options.name
        raise explain.Problem(f"experiment {options.name} has no complete trial yet; {hint}")
    if len(shown.front) > 1 and not options.output:
        print(*render.front(shown), sep="\n")
        return 0
    if options.output == "json":
        print(text.as_json(render.best_json(shown, shown.best)))
    elif not _as_input(options.output, shown.best.parameters):
        print(*render.best(shown, shown.best), sep="\n")
    return 0


def _as_input(output: str | None, parameters: Mapping[str, Any]) -> bool:
    """Print parameters as a program takes them, if that was asked for."""
    if output == "args":
        print(render.arguments(parameters))
    elif output == "env":
        print(*render.environment(parameters), sep="\n")
    return output in ("args", "env")


def _winner(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    shown = model.experiment(access.experiment(options.name))
    if shown.winner is None:
        now = render.phase(shown) or "spec.finalists says how it is found; the best of the search: kubectl tune best"
        raise explain.Problem(f"experiment {options.name} has no winner by fresh runs yet; {now}")
    if options.output == "json":
        print(text.as_json(render.winner_json(shown, shown.winner)))
    elif not _as_input(options.output, shown.winner.parameters):
        print(*render.winner(shown.winner), sep="\n")
    return 0


def _test(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    print(*edits.run_test(access, options.name, options.again), sep="\n")
    return 0


def _models(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    if options.name:
        access.experiment(options.name)  # a name that is wrong is said in our words
    found = access.models(options.name)
    if options.output == "json":
        print(text.as_json(found))
    elif found:
        print(*models.lines(found), sep="\n")
    else:
        where = options.name or f"namespace {access.namespace}"
        print(f"no models in {where}: spec.refit makes one of the winner", file=sys.stderr)
    return 0


def _retry(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    print(*edits.run_retry(access, options.name, options.phase), sep="\n")
    return 0


def _watch(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    return watch.watch(access, options.name, sys.stdout)


def _logs(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    return trial_logs.logs(access, credentials, options.name, options.trial, options.follow, sys.stdout, options.phase)


def _importance(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    resource = access.experiment(options.name)
    shown = model.experiment(resource)
    rows = [model.trial(answer) for answer in (access.trials(options.name, "COMPLETE") if shown.complete else ())]
    found = importance.find(resource, rows, options.evaluator, options.metric, options.interactions)
    if options.output == "json":
        print(text.as_json(importance.as_json(found)))
    else:
        print(*importance.lines(found, len(rows), options.evaluator), sep="\n")
    return 0


def _schedule(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    shown = model.experiment(access.experiment(options.name))
    number = options.trial
    if number is None and shown.best is not None:
        number = shown.best.trial
    if number is None:
        raise explain.Problem(
            f"experiment {options.name} has no complete trial yet; name one to see its schedule so far"
        )
    line = schedule.lineage(map(model.trial, access.trials(options.name)), number)
    if options.output == "json":
        print(text.as_json(schedule.as_json(shown, line)))
    else:
        print(*(schedule.sampler if options.output == "sampler" else schedule.lines)(shown, line), sep="\n")
    return 0


def _export(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    resource = access.experiment(options.name)
    shown = model.experiment(resource)
    if options.output == "json":
        print(text.as_json(_exported(options.name, resource, access)))
        return 0
    answers = sorted(access.trials(options.name) if shown.total else [], key=lambda answer: int(answer["number"]))
    rows = [model.trial(answer) for answer in answers]
    if options.output == "csv":
        print(render.trials_csv(shown, rows), end="")
    else:
        recorded = access.history(options.name) if shown.study else None
        print(*export.markdown(shown, rows, time.time(), resource, recorded), sep="\n")
    return 0


def _exported(name: str, resource: Json, access: Access) -> Json:
    if not model.experiment(resource).study:
        return export.as_json(resource, [], None)
    recorded = access.history(name)
    after = [
        export.Recorded(phase, access.history(name, phase), access.record(name, phase))
        for phase in recorded.get("phases", ())
    ]
    return export.as_json(resource, access.record(name), recorded, after)


def _history(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    document = _exported(options.name, access.experiment(options.name), access)
    if "record" not in document:
        raise explain.Problem("nothing was decided yet")
    replay.there_is(document, options.phase)
    found = history.entries(document, options.all, options.phase)
    if options.output == "json":
        print(text.as_json([{"time": time, "what": what, "message": said} for time, what, said in found]))
    else:
        print(*history.lines(found), sep="\n")
    return 0


def _replay(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    return _decided(_exported(options.name, access.experiment(options.name), access), options.phase)


def _decided(document: Json, phase: str) -> int:
    if "record" not in document:
        raise explain.Problem("nothing was decided yet")
    said, same = replay.again(document, phase)
    print(*said, sep="\n")
    return 0 if same else 1


def _suspend(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    print(*edits.run_suspend(access, options.name, options.wanted), sep="\n")
    return 0


def _stop(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    print(*edits.run_stop(access, options.name, options.trials), sep="\n")
    return 0


def _enqueue(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    print(*edits.run_enqueue(access, options.name, options.parameters, options.set_name), sep="\n")
    return 0


def _narrow(options: argparse.Namespace, access: Access, credentials: Credentials) -> int:
    print(*edits.run_narrow(access, options.name, options.ranges), sep="\n")
    return 0


# usage


def parser() -> argparse.ArgumentParser:
    """The whole usage. Common flags stand before or after the command."""
    common = _common()
    top = argparse.ArgumentParser(
        "kubectl tune", description="Experiments of kubetune and their trials.", parents=[common]
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, summary: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary, parents=[common])
        made.set_defaults(command=command)
        return made

    get = add("get", _get, "list experiments, or show one")
    get.add_argument("name", nargs="?", help="one experiment")
    get.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    get.add_argument("-o", "--output", choices=["table", "json"], default="table")

    trials = add("trials", _trials, "list the trials of an experiment")
    trials.add_argument("name")
    trials.add_argument("--state", choices=sorted(model.STATES), help="only those")
    trials.add_argument("--sort", choices=["number", "value"], default="number", help="value: the best first")
    trials.add_argument("--limit", type=_positive, help="so many at most")
    trials.add_argument("--phase", default="", help="of what comes after the search: finalists, refit, test")
    trials.add_argument(
        "-o", "--output", choices=["table", "wide", "json", "csv"], default="table", help="wide: messages whole"
    )

    best = add("best", _best, "the best trial's parameters, ready to paste")
    best.add_argument("name")
    best.add_argument(
        "-o", "--output", choices=["json", "args", "env"], help="args: --lr=0.01 …; env: lr=0.01, one a line"
    )

    won = add("winner", _winner, "the winner by the finalists' fresh runs, with its confidence interval")
    won.add_argument("name")
    won.add_argument(
        "-o", "--output", choices=["json", "args", "env"], help="args: --lr=0.01 …; env: lr=0.01, one a line"
    )

    tested = add("test", _test, "the score on the test set, which is scored once; --again: once more, on record")
    tested.add_argument("name")
    tested.add_argument("--again", metavar="NAME", help="score it again under this name")

    add("watch", _watch, "live progress until the experiment ends; exit code 0 if it completes").add_argument("name")

    logs = add("logs", _logs, "a trial's log, also after its pod is gone (failed, pruned and best trials)")
    logs.add_argument("name")
    logs.add_argument("trial", type=_trial, help="its number")
    logs.add_argument("--phase", default="", help="of what comes after the search: finalists, refit, test")
    logs.add_argument("-f", "--follow", action="store_true", help="as it is written; waits for the start")

    important = add("importance", _importance, "how much each parameter mattered")
    important.add_argument("name")
    important.add_argument("--evaluator", choices=["ped-anova", "fanova", "mdi"], default="ped-anova")
    important.add_argument("--metric", help="of several objectives, this one; default: the Pareto front")
    important.add_argument(
        "--interactions", action="store_true", help="also how much pairs explain together (needs scikit-learn)"
    )
    important.add_argument("-o", "--output", choices=["table", "json"], default="table")

    scheduled = add("schedule", _schedule, "which parameters a trial trained with from which step on (pbt)")
    scheduled.add_argument("name")
    scheduled.add_argument("trial", type=_trial, nargs="?", help="its number; default: the best")
    scheduled.add_argument(
        "-o", "--output", choices=["table", "json", "sampler"], default="table", help="sampler: to train it again"
    )

    exported = add("export", _export, "everything about it: spec, status and every trial")
    exported.add_argument("name")
    exported.add_argument(
        "-o", "--output", choices=["json", "csv", "md"], default="json", help="csv: the trials; md: a report"
    )

    told = add(
        "history", _history, "what was decided, in order: searches, stages, people's edits, stops; --all: trials too"
    )
    told.add_argument("name")
    told.add_argument("--all", action="store_true", help="with each trial's begin, judgements and end")
    told.add_argument("--phase", default="", help="only what came after the search: finalists, refit, test")
    told.add_argument("-o", "--output", choices=["table", "json"], default="table")

    again = add("replay", _replay, "decide everything again from the record, and compare; needs kubetune with Optuna")
    again.add_argument("name", help="an experiment, or a file that export wrote (- is standard input)")
    again.add_argument("--phase", default="", help="only what came after the search: finalists, refit, test")

    for name, wanted, summary in (
        ("suspend", True, "take the pods away for now; parameters and results stay"),
        ("resume", False, "go on"),
    ):
        made = add(name, _suspend, summary)
        made.set_defaults(wanted=wanted)
        made.add_argument("name")

    kept = add("models", _models, "the models that refits made: version, score on the test set, address, parameters")
    kept.add_argument("name", nargs="?", help="of one experiment")
    kept.add_argument("-o", "--output", choices=["table", "json"], default="table")

    retry = add("retry", _retry, "run again what failed after the search: finalists, refit, test")
    retry.add_argument("name")
    retry.add_argument("--phase", choices=["finalists", "refit", "test"], help="only if it is this that failed")

    stop = add("stop", _stop, "stop trials early; their last value is kept, as of a pruned trial")
    stop.add_argument("name")
    stop.add_argument("trials", nargs="+", type=_trial, metavar="trial", help="numbers")

    enqueue = add("enqueue", _enqueue, "try these parameters next; what is left out is sampled")
    enqueue.add_argument("name")
    enqueue.add_argument("parameters", nargs="+", metavar="parameter=value", help="lr=0.01 optimizer=sgd …")
    enqueue.add_argument(
        "--name", dest="set_name", metavar="NAME", help="of the set: the same again is tried once only"
    )

    narrow = add("narrow", _narrow, "ask for a part of the space from now on; without ranges: for all of it again")
    narrow.add_argument("name")
    narrow.add_argument(
        "ranges", nargs="*", metavar="parameter=range", help="lr=0.001..0.01 optimizer=adam,sgd; lr= as declared"
    )
    return top


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("cluster")
    group.add_argument("-n", "--namespace", help="default: the context's")
    group.add_argument("--context", help="of the kubeconfig")
    group.add_argument("--kubeconfig", help="default: $KUBECONFIG, then ~/.kube/config")
    group.add_argument(
        "--gateway",
        metavar="NAMESPACE/SERVICE[:PORT]",
        help=f"default: ${ENV_GATEWAY}, then kubetune/kubetune-gateway:8443",
    )
    group.add_argument(
        "--service-account", metavar="NAME", help="of the namespace, for the right to read trials (default: default)"
    )
    return common


def _trial(given: str) -> int:
    if not given.isascii() or not given.isdigit():
        raise argparse.ArgumentTypeError(f"{given!r} is no trial number; they are listed by: kubectl tune trials NAME")
    return int(given)


def _positive(given: str) -> int:
    if not given.isascii() or not given.isdigit() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"{given!r} is no number above 0")
    return int(given)


if __name__ == "__main__":
    sys.exit(main())
