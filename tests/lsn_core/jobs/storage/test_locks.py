"""A worker's place is taken as long as the worker or its job's process lives, with either kind of lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import REPO

from lsn_core.errors import UserError
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.system_locks import INHERITED, OWN, LockKind

KINDS = pytest.mark.parametrize("kind", [INHERITED, OWN], ids=["inherited", "own"])
HOLD = """
import subprocess, sys
from pathlib import Path
from lsn_core.jobs.storage.locks import Slots
from lsn_core.jobs.storage.system_locks import INHERITED, OWN
kind = {"inherited": INHERITED, "own": OWN}[sys.argv[2]]
slots = Slots(Path(sys.argv[1]), kind)
slot = slots.take("cpu") if sys.argv[3] == "worker" else slots.join("cpu")
print("taken", flush=True)
if len(sys.argv) > 4:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=0, pass_fds=slot.handed_on) as child:
        print(child.pid, flush=True)
sys.stdin.read()
"""


def holder(folder: Path, kind: LockKind, role: str, *more: str) -> subprocess.Popen[str]:
    """A process that has taken a place."""
    name = "own" if kind is OWN else "inherited"
    command = [sys.executable, "-c", HOLD, str(folder), name, role, *more]
    process = subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "taken\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@KINDS
def test_one_worker_of_a_name(tmp_path: Path, kind: LockKind) -> None:
    slots = Slots(tmp_path, kind)
    assert not slots.held("cuda:0") and not slots.any_held()
    slot = slots.take("cuda:0")
    assert slots.held("cuda:0") and slots.any_held() and not slots.held("cpu")
    with pytest.raises(UserError, match="'cuda:0' is running already"):
        Slots(tmp_path, kind).take("cuda:0", patience=0.1)
    slots.take("cpu").close()
    slot.close()
    assert not slots.held("cuda:0") and not slots.any_held()
    slots.take("cuda:0", patience=0).close()


@KINDS
def test_a_name_that_is_none(tmp_path: Path, kind: LockKind) -> None:
    with pytest.raises(UserError, match="no name for a worker"):
        Slots(tmp_path, kind).take("../cpu")


@KINDS
def test_the_place_of_a_worker_that_was_killed_is_free(tmp_path: Path, kind: LockKind) -> None:
    slots, process = Slots(tmp_path, kind), holder(tmp_path, kind, "worker")
    assert slots.held("cpu")
    kill(process)
    assert not slots.held("cpu")
    slots.take("cpu").close()


def test_who_inherits_the_lock_holds_the_place(tmp_path: Path) -> None:
    slots, process = Slots(tmp_path, INHERITED), holder(tmp_path, INHERITED, "worker", "with a child")
    assert process.stdin is not None and process.stdout is not None
    int(process.stdout.readline())
    process.kill()
    process.wait()
    assert slots.held("cpu")
    with pytest.raises(UserError, match="running already"):
        slots.take("cpu", patience=0.1)
    process.stdin.close()  # the child reads it, too, and ends
    process.stdout.read()
    slots.take("cpu").close()


def test_who_takes_a_lock_beside_it_holds_the_place(tmp_path: Path) -> None:
    slots, worker = Slots(tmp_path, OWN), holder(tmp_path, OWN, "worker")
    job = holder(tmp_path, OWN, "job")
    kill(worker)
    assert slots.held("cpu") and slots.any_held()
    with pytest.raises(UserError, match="running already"):
        slots.take("cpu", patience=0.1)
    with pytest.raises(UserError, match="works for the worker 'cpu' is running already"):
        slots.join("cpu", patience=0.1)
    kill(job)
    assert not slots.held("cpu")
    slots.take("cpu").close()


def test_only_a_lock_that_is_not_inherited_is_taken_by_the_job_itself(tmp_path: Path) -> None:
    inherited, own = Slots(tmp_path, INHERITED).take("a"), Slots(tmp_path, OWN).take("b")
    assert inherited.handed_on and not inherited.own_lock and own.own_lock and not own.handed_on
    inherited.close()
    own.close()
