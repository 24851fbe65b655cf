"""The worker agent, for real: processes of its own, HTTP on loopback, signals."""

import ast
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import kubetune_worker
from kubetune.controller import jobs
from tests.worker_gateway import NOTHING, Gateway, Json, trial

AGENT = kubetune_worker.__file__


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats and second tries come at once."""
    monkeypatch.setattr(kubetune_worker, "HEARTBEAT", 0.05)
    monkeypatch.setattr(kubetune_worker, "LONGEST_PAUSE", 0.01)


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The container's working directory; its other folders lie beside it."""
    work = tmp_path / "image"
    work.mkdir()
    monkeypatch.chdir(work)
    (tmp_path / "token").write_text("pod.token.here\n")
    return work


def settings(gateway: Gateway, place: pathlib.Path, *command: str, **own: str) -> kubetune_worker.Settings:
    return kubetune_worker.Settings(environment(gateway, place, **own), command)


def environment(gateway: Gateway, place: pathlib.Path, **own: str) -> dict[str, str]:
    given = {
        "PATH": os.environ["PATH"],
        "KUBETUNE_GATEWAY": gateway.url,
        "KUBETUNE_TOKEN_FILE": str(place.parent / "token"),
        "KUBETUNE_WORKER_DIRECTORY": str(place.parent / "scratch"),
        "KUBETUNE_EXPERIMENT": "digits",
    }
    return {**given, **{f"KUBETUNE_WORKER_{name}": value for name, value in own.items()}}


def run(gateway: Gateway, place: pathlib.Path, *command: str, **own: str) -> int:
    return kubetune_worker.Worker(settings(gateway, place, *command, **own)).run()


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


def test_it_runs_on_an_old_python() -> None:
    for path in pathlib.Path(AGENT).parent.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_an_init_container_installs_it(place: pathlib.Path) -> None:
    assert kubetune_worker.main(["install", str(place)]) == 0
    assert (place / "kubetune_worker.py").read_text() == pathlib.Path(AGENT).read_text()


# ---- what a trial is given


@pytest.mark.parametrize(
    ("text", "expanded"),
    [  # as k8s.io/kubernetes/third_party/forked/golang/expansion has it
        ("$(A)", "a"),
        ("--lr=$(A),$(B)", "--lr=a,b"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$$$$(A)", "$$(A)"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$($(A))", "$($(A))"),
        ("$(DOLLAR)", "$(A)"),  # what is put in is not looked at again
        ("$()", "$()"),
        ("", ""),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    assert kubetune_worker.expand(text, {"A": "a", "B": "b", "DOLLAR": "$(A)"}) == expanded


@pytest.mark.parametrize("value", [0.1, 1e-05, 1e22, 3, -7, True, False, "sgd", "a b$(c)", 1.0, 2**53])
def test_a_parameter_looks_the_same_as_in_a_pod_of_its_own(value: Any) -> None:
    assert kubetune_worker.text(json.loads(json.dumps(value))) == jobs.text(value)


def test_command_and_environment(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.append(trial(17, 2, lr=0.01, name="$(lr)", flag=True))
    out = place.parent / "out.json"
    code = f"import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open({str(out)!r}, 'w'))"
    declared = [
        {"name": "RATE", "value": "rate-$(lr)-$(SECRET)-$(LATER)"},
        {"name": "SECRET"},
        {"name": "BOTH", "value": "$(RATE)/$(SECRET)/$$(lr)"},
        {"name": "LATER", "value": "x"},
    ]
    given = {**environment(gateway, place, ENV=json.dumps(declared), SEED="100"), "SECRET": "s3", "ELSE": "kept"}
    arguments = ["--lr=$(lr)", "$(name)", "$(flag)", "$$(lr)", "$(KUBETUNE_TRIAL)", "$(BOTH)", "$(nobody)"]
    worker = kubetune_worker.Worker(kubetune_worker.Settings(given, [*python(code), *arguments]))
    assert worker.run() == 0
    got, variables = json.loads(out.read_text())
    both = "rate-0.01-$(SECRET)-$(LATER)/s3/$(lr)"
    assert got == ["--lr=0.01", "$(lr)", "true", "$(lr)", "17", both, "$(nobody)"]
    assert variables["BOTH"] == both
    assert (variables["lr"], variables["flag"], variables["ELSE"]) == ("0.01", "true", "kept")
    assert json.loads(variables["KUBETUNE_PARAMETERS"]) == {"lr": 0.01, "name": "$(lr)", "flag": True}
    assert (variables["KUBETUNE_TRIAL"], variables["KUBETUNE_ATTEMPT"], variables["KUBETUNE_SEED"]) == (
        "17",
        "2",
        "117",
    )
    assert variables["KUBETUNE_EXPERIMENT"] == "digits"
    assert not [name for name in variables if name.startswith("KUBETUNE_WORKER_")]


def test_what_its_leg_gets_is_a_variable_that_arguments_may_name(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.append({**trial(3), "environment": {"epochs": "9"}})
    code = "import os, sys; assert sys.argv[1] == os.environ['epochs'] == '9'"
    run(gateway, place, *python(code), "$(epochs)")
    (ended,) = gateway.ended
    assert ended["reason"] is None


def test_a_run_gets_what_its_leg_gets(gateway: Gateway, place: pathlib.Path) -> None:
    """As in a pod of its own: tests/unit/test_jobs.py."""
    leg = {"KUBETUNE_FOLD": "2", "KUBETUNE_REPLICATE": "1", "KUBETUNE_SEED": "4711"}
    gateway.grants.append({**trial(17, 2, lr=0.01), "environment": leg})
    out = place.parent / "out.json"
    code = f"import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open({str(out)!r}, 'w'))"
    assert run(gateway, place, *python(code), "--fold=$(KUBETUNE_FOLD)", SEED="100") == 0
    got, variables = json.loads(out.read_text())
    assert got == ["--fold=2"]
    assert {name: variables[name] for name in leg} == leg


def test_what_names_a_parameter_that_the_trial_does_not_have_is_dropped_for_that_trial(
    gateway: Gateway, place: pathlib.Path
) -> None:
    """As in a pod of its own: tests/unit/test_jobs.py."""
    gateway.grants.extend([trial(0, 1, optimizer="adam"), trial(1, 1, optimizer="sgd", momentum=0.5)])
    out = place.parent / "out.jsonl"
    code = f"import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]), file=open({str(out)!r}, 'a'))"
    declared = [
        {"name": "PLAIN", "value": "$(optimizer)"},
        {"name": "RATE", "value": "m=$(momentum)"},
        {"name": "FLAGS", "value": "$(PLAIN),$(RATE)"},
    ]
    own = {"ENV": json.dumps(declared), "CONDITIONAL": '["momentum"]', "SLOTS": "1"}
    arguments = ["--optimizer=$(optimizer)", "--momentum=$(momentum)", "--text=$$(momentum)", "$(FLAGS)"]
    assert run(gateway, place, *python(code), *arguments, **own) == 0
    (without, env_without), (with_, env_with) = map(json.loads, out.read_text().splitlines())
    assert without == ["--optimizer=adam", "--text=$(momentum)"]
    assert with_ == ["--optimizer=sgd", "--momentum=0.5", "--text=$(momentum)", "sgd,m=0.5"]
    assert not {"momentum", "RATE", "FLAGS"} & env_without.keys()
    assert (env_with["FLAGS"], env_with["PLAIN"], env_without["PLAIN"]) == ("sgd,m=0.5", "sgd", "adam")
    assert json.loads(env_without["KUBETUNE_PARAMETERS"]) == {"optimizer": "adam"}


def test_a_folder_of_its_own_with_what_the_image_has(gateway: Gateway, place: pathlib.Path) -> None:
    (place / "helper.py").write_text("value = 7\n")
    (place / "data").mkdir()
    (place / "data" / "x.txt").write_text("x")
    (place / "train.py").write_text(
        "import helper, os, tempfile\n"
        "assert helper.value == 7 and open('data/x.txt').read() == 'x'\n"
        "assert not os.path.exists('result.txt'), 'of another trial'\n"
        "open('result.txt', 'w').write('mine')\n"
        "assert tempfile.gettempdir().startswith(os.path.dirname(os.getcwd()))\n"
    )
    gateway.grants.extend([trial(0), trial(1)])
    assert run(gateway, place, sys.executable, "train.py") == 0
    assert [each["reason"] for each in gateway.ended] == [None, None], gateway.ended
    assert not (place / "result.txt").exists()


def test_the_client_reports_as_its_trial(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.extend([trial(4), trial(5, 3)])
    client = pathlib.Path(AGENT).with_name("kubetune_trial.py")
    assert run(gateway, place, sys.executable, str(client), "report", "loss=0.5") == 0
    assert [given for given, _ in gateway.reports] == ["pod.token.here~4~1", "pod.token.here~5~3"]
    assert gateway.reports[0][1]["metrics"] == {"loss": 0.5}


# ---- how it ends


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        ("", None, ""),
        ("raise SystemExit(3)", "ExitCode", "exited with code 3"),
        ("import os; os.kill(os.getpid(), 11)", "ExitCode", "exited with code 139 (SIGSEGV)"),
        ("import os; os.kill(os.getpid(), 9)", "ExitCode", "exited with code 137 (SIGKILL)"),
    ],
)
def test_how_it_ended(gateway: Gateway, place: pathlib.Path, code: str, reason: str | None, message: str) -> None:
    gateway.grants.append(trial(0))
    assert run(gateway, place, *python(code)) == 0
    assert [(each["trial"], each["attempt"], each["reason"], each["message"]) for each in gateway.ended] == [
        (0, 1, reason, message)
    ]


def test_killed_for_memory(gateway: Gateway, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([2, 3])
    monkeypatch.setattr(kubetune_worker, "memory_kills", lambda: next(counts))
    gateway.grants.append(trial(0))
    run(gateway, place, *python("import os; os.kill(os.getpid(), 9)"))
    assert gateway.ended[0]["reason"] == "OOMKilled"


def test_a_command_that_is_not_there(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.append(trial(0))
    assert run(gateway, place, "no-such-command") == 0
    assert gateway.ended[0]["reason"] == "Config"
    assert "no-such-command" in gateway.ended[0]["message"]


def test_its_log_is_its_own(gateway: Gateway, place: pathlib.Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    gateway.grants.extend([trial(0, word="zero"), trial(1, word="one")])
    code = (
        "import sys; print('hello', sys.argv[1], flush=True);"
        "print('x' * 30000, file=sys.stderr); sys.exit('last words')"
    )
    run(gateway, place, *python(code), "$(word)")
    written = capfdbinary.readouterr().out.decode()
    assert "[0/1] hello zero\n" in written
    assert "[1/1] hello one\n" in written
    for each in gateway.ended:
        assert each["log"].endswith("last words\n")
        assert len(each["log"]) == kubetune_worker.LOG_TAIL


def test_a_log_that_swells_on_the_wire_fits(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.append(trial(0))
    run(gateway, place, *python(r"import sys; sys.stdout.buffer.write(b'\0' * 20000 + b'end'); sys.exit(1)"))
    assert gateway.ended[0]["log"].endswith("end")
    assert len(json.dumps(gateway.ended[0])) < 65536


def test_a_deadline(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.append(trial(0))
    assert run(gateway, place, *python("import time; time.sleep(600)"), DEADLINE="0.2") == 0
    assert gateway.ended[0]["reason"] == "DeadlineExceeded"


def test_who_ignores_a_deadline_is_killed_with_what_it_began(gateway: Gateway, place: pathlib.Path) -> None:
    pid = place.parent / "pid"
    code = (
        "import signal, subprocess, sys, time; signal.signal(15, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"open({str(pid)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    gateway.grants.append(trial(0))
    assert run(gateway, place, *python(code), DEADLINE="1", GRACE="0.1") == 0
    assert gateway.ended[0]["reason"] == "DeadlineExceeded"
    assert not is_alive(int(pid.read_text()))


def is_alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_what_a_trial_leaves_behind_ends_with_it(gateway: Gateway, place: pathlib.Path) -> None:
    pid = place.parent / "pid"
    code = (
        "import subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"open({str(pid)!r}, 'w').write(str(child.pid))"
    )
    gateway.grants.append(trial(0))
    assert run(gateway, place, *python(code)) == 0
    assert gateway.ended[0]["reason"] is None
    assert not is_alive(int(pid.read_text()))


def test_an_attempt_that_is_over_is_ended_and_not_told_of(gateway: Gateway, place: pathlib.Path) -> None:
    """Stopped, fenced, or its experiment has ended: the heartbeat says so."""

    def beat(body: Json) -> Json:
        told = [{**each, "over": True, "stop": True, "reason": ""} for each in body["running"]]
        return {"trials": told, "drain": False}

    gateway.beat = beat
    gateway.grants.extend([trial(0)])
    assert run(gateway, place, *python("import time; time.sleep(600)")) == 0
    assert gateway.ended == []


# ---- the gateway and the end of the worker


def test_while_the_gateway_is_away_nothing_is_lost(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.append(trial(0))
    gateway.failures.extend([(503, {"error": "not now"}), (500, {"error": "?"}), (401, {"error": "renewed"})])
    assert run(gateway, place, *python("")) == 0
    gateway.failures.extend([(503, {"error": "not now"})] * 3)
    gateway.grants.append(trial(1))
    assert run(gateway, place, *python("raise SystemExit(1)")) == 0
    assert [(each["trial"], each["reason"]) for each in gateway.ended] == [(0, None), (1, "ExitCode")]


def test_who_waits_asks_again(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.extend([NOTHING, NOTHING, trial(0), NOTHING])
    assert run(gateway, place, *python("")) == 0
    assert [each["ended"] is not None for each in gateway.asked] == [False, False, False, True, False]


def test_slots_run_at_the_same_time(gateway: Gateway, place: pathlib.Path) -> None:
    """Each waits for the other's file."""
    gateway.grants.extend([trial(0), trial(1)])
    code = (
        "import os, sys, time; me, other = int(sys.argv[2]), 1 - int(sys.argv[2]);"
        "open(f'{sys.argv[1]}/{me}', 'w').close()\n"
        "while not os.path.exists(f'{sys.argv[1]}/{other}'): time.sleep(0.01)"
    )
    assert run(gateway, place, *python(code), str(place.parent), "$(KUBETUNE_TRIAL)", SLOTS="2") == 0
    assert sorted(each["trial"] for each in gateway.ended) == [0, 1]
    assert {each["slot"] for each in gateway.asked} >= {0, 1}


def test_a_worker_that_is_over_ends_well(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.failures.append((409, {"error": "worker 0 is over"}))
    assert run(gateway, place, *python("")) == 0


def test_a_worker_that_is_refused_says_so(
    gateway: Gateway, place: pathlib.Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    gateway.failures.extend([(403, {"error": "not your business"})] * 99)
    assert run(gateway, place, *python("")) == 1
    assert b"not your business" in capfdbinary.readouterr().out


@pytest.mark.parametrize("missing", ["KUBETUNE_GATEWAY", "KUBETUNE_TOKEN_FILE"])
def test_what_it_cannot_begin_without(
    gateway: Gateway, place: pathlib.Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(gateway, place).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    assert kubetune_worker.main(["--", "true"]) == 1
    assert kubetune_worker.main([]) == 1


def started(gateway: Gateway, place: pathlib.Path, code: str, **own: str) -> "subprocess.Popen[bytes]":
    """The agent as a process, whose first trial says that it runs."""
    agent = subprocess.Popen(
        [sys.executable, AGENT, "--", *python("print('up', flush=True)\n" + code)],
        env=environment(gateway, place, **own),
        stdout=subprocess.PIPE,
    )
    assert agent.stdout is not None
    while b"up" not in agent.stdout.readline():
        assert agent.poll() is None
    return agent


def test_told_to_leave_it_gives_its_trial_back(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.extend([trial(0), trial(1)])
    agent = started(gateway, place, "import time; time.sleep(600)", GRACE="1")
    agent.send_signal(signal.SIGTERM)
    agent.communicate(timeout=60)
    assert agent.returncode == 143
    assert [(each["trial"], each["reason"]) for each in gateway.ended] == [(0, "Returned")]


def test_told_to_leave_it_lets_a_trial_end_that_is_about_to(gateway: Gateway, place: pathlib.Path) -> None:
    gateway.grants.extend([trial(0), trial(1)])
    go = place.parent / "go"
    agent = started(
        gateway, place, f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)", GRACE="120"
    )
    agent.send_signal(signal.SIGTERM)
    go.touch()
    agent.communicate(timeout=60)
    assert agent.returncode == 143
    assert [(each["trial"], each["reason"]) for each in gateway.ended] == [(0, None)]
    assert collections.Counter(each["slot"] for each in gateway.asked) == {0: 1, None: 1}


def test_the_token_file_of_a_trial_is_renewed(gateway: Gateway, place: pathlib.Path) -> None:
    """Kubernetes renews the pod's; the trial's follows with the next heartbeat."""
    code = (
        "import os, time; path = os.environ['KUBETUNE_TOKEN_FILE']\n"
        "open(os.environ['POD'], 'w').write('pod.token.renewed')\n"
        "while open(path).read() != 'pod.token.renewed~0~1': time.sleep(0.01)"
    )
    gateway.grants.append(trial(0))
    given: Mapping[str, str] = {**environment(gateway, place), "POD": str(place.parent / "token")}
    worker = kubetune_worker.Worker(kubetune_worker.Settings(given, python(code)))
    gateway.tokens.add("pod.token.renewed")
    assert worker.run() == 0
    assert gateway.ended[0]["reason"] is None
