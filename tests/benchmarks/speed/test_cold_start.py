"""Commands of two checkouts are timed as processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.cold_start import COMMANDS, row, seconds, table


def test_time_that_passes_and_time_that_is_worked_are_told_apart(tmp_path: Path) -> None:
    worked = "while time.process_time() < 0.5: sum(range(10_000))"  # many ticks of the clock that counts user time
    (tmp_path / "here.py").write_text(f"import time\ntime.sleep(2)\n{worked}")
    passed, user = seconds(["-c", "import here"], tmp_path, 1)
    assert passed > 2 > user > 0.2


def test_a_command_that_fails_is_no_time(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="non-zero exit status"):
        seconds(["-c", "raise SystemExit(3)"], tmp_path, 1)


def test_the_table_puts_before_beside_now() -> None:
    times = {"before": [(3.0, 2.0), (9.0, 2.2), (4.0, 2.4)], "now": [(1.0, 0.5), (1.5, 0.6), (2.0, 0.7)]}
    rows = [row(command, version, spent) for command in COMMANDS for version, spent in times.items()]
    header, _, first, *_ = table(rows).splitlines()
    assert header.index("before") < header.index("now")
    assert [cell.strip() for cell in first.split("|")[2:-1]] == ["4.00 (3.00)", "2.20", "1.50 (1.00)", "0.60"]
