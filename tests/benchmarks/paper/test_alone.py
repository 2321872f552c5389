"""A folder has one run at a time, and is free again after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.paper.alone import alone_in
from lsn_core import UserError


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    with alone_in(out):
        with pytest.raises(UserError, match=r"Another run is at work in .*run\. Wait .*--out"), alone_in(out):
            pass
        with alone_in(tmp_path / "other"):
            pass
    with pytest.raises(ZeroDivisionError), alone_in(out):
        raise ZeroDivisionError
    with alone_in(out):
        pass
