"""Folders on a node: one an attempt, and none is left for long by those that were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lsn_core.jobs.cluster.scratch import NodeFiles, Scratch
from lsn_core.jobs.cluster.waiting import Awaited
from lsn_core.jobs.worker.attempt import Stopped

HOLD = """
import sys, time
from pathlib import Path
from lsn_core.jobs.cluster.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
(scratch.folder / "dataset").write_bytes(b"large")
print("ready", flush=True)
time.sleep(600)
"""


def test_the_next_attempt_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        (theirs,) = (path for path in tmp_path.iterdir() if path.is_dir())
        with closing(Scratch(tmp_path)) as mine:
            assert mine.folder.is_dir() and (theirs / "dataset").is_file()
        assert not mine.folder.exists() and theirs.is_dir()
        other.send_signal(signal.SIGKILL)
    with closing(Scratch(tmp_path)):
        assert not theirs.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["making"]


def test_who_is_stopped_while_a_data_set_is_on_its_way_does_not_wait_for_it(tmp_path: Path) -> None:
    awaited = Awaited(lambda: True)
    with pytest.raises(Stopped):
        NodeFiles(tmp_path, awaited).dataset("0123.zip")
    assert awaited.names() == ("0123.zip",)
