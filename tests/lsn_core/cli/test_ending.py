"""How commands end: by a signal, on a full device."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from lsn_core.cli.app import plain_errors
from lsn_core.cli.ending import unwound_by_signals
from lsn_core.cli.output import echo, echo_json
from lsn_core.errors import UserError

ENDS = """
import os, signal, sys
from lsn_core.atomic import written_beside
from lsn_core.cli.ending import unwound_by_signals
from pathlib import Path
with unwound_by_signals(), written_beside(Path(sys.argv[1])):
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    signal.pause()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_nothing_half_done(name: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS, tmp_path / "x.csv", name], capture_output=True, timeout=60)
    assert done.returncode == 128 + getattr(signal, name) and not list(tmp_path.iterdir()) and not done.stderr


def test_who_ignores_a_signal_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    other = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # other tests' libraries may have handlers of their own
    try:
        with unwound_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, other)


def test_what_the_system_refuses_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        Path("/no/such/folder/x").write_text("")

    with pytest.raises(typer.Exit) as ended:
        plain_errors(refused)()
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err.startswith("Error: /no/such/folder/x: No such file or directory. Check paths")


def test_an_output_that_is_full_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(typer, "echo", full)
    for say in (lambda: echo("a verdict"), lambda: echo_json({"verdict": "ID"})):
        with pytest.raises(UserError, match="output cannot be written \\(No space left"):
            say()
