"""The command line: what it prints and with which code it ends."""

import re

import pytest

from kubetune import __main__ as command


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"0.1.0 of {name}")
    assert command.main(["version"]) == 0
    assert capsys.readouterr().out == "0.1.0 of kubetune\n"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        (None, "", "set KUBETUNE_DATABASE_URL or KUBETUNE_DATABASE_URL_FILE"),
        ("KUBETUNE_LOG_FORMAT", "xml", "KUBETUNE_LOG_FORMAT='xml': write json or text"),
        ("KUBETUNE_RESYNC", "soon", "KUBETUNE_RESYNC='soon'"),
        ("KUBETUNE_DATABASE_URL_FILE", "/nowhere/url", "/nowhere/url"),
    ],
)
def test_wrong_settings_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str | None, value: str, complaint: str
) -> None:
    monkeypatch.delenv("KUBETUNE_DATABASE_URL", raising=False)
    if name is not None:
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("kubetune.logs.configure", _only_checks)
    assert command.main(["operator"]) == 2
    assert re.match(f"kubetune: .*{re.escape(complaint)}", capsys.readouterr().err)


def _only_checks(level: str, form: str) -> None:
    if form not in ("json", "text"):
        raise ValueError(f"KUBETUNE_LOG_FORMAT={form!r}: write json or text")


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["optimise"])
    assert "invalid choice: 'optimise'" in capsys.readouterr().err
