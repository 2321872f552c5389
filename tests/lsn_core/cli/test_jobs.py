"""`jobs` and `worker` as their users run them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import REPO, run_command

from benchmarks.speed.job_kills import crops, wait_for, worker
from lsn_core.jobs import Jobs


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command("jobs", *arguments, "--data", folder)


def line(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    (text,) = done.stdout.splitlines()
    return json.loads(text)


def test_a_job_from_submission_to_its_detector(tmp_path: Path) -> None:
    folder, photos = tmp_path / "data", crops(tmp_path / "animals", count=6)
    job = line(folder, "submit", str(photos), "--shots", "6", "--owner", "ann")
    assert (job["state"], job["position"], job["name"]) == ("queued", 1, "animals")
    assert line(folder, "stop", job["id"])["state"] == "stopped"
    assert line(folder, "resume", job["id"])["state"] == "queued"
    with worker(folder):
        wait_for(Jobs(folder), job["id"], "done", "failed")
    assert line(folder, "list", "--owner", "ann")["id"] == job["id"]
    assert run(folder, "list", "--owner", "ben", "--json").stdout == ""
    shown = line(folder, "show", job["id"])
    assert shown["state"] == "done" and Path(shown["detector"]).is_file()
    assert [state for _, state in shown["history"]][-4:] == ["preparing", "training", "evaluating", "done"]
    assert shown["progress"][-1]["step"] == shown["total"] > 0
    assert line(folder, "delete", job["id"]) == {"id": job["id"], "deleted": True}
    assert run(folder, "list", "--json").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "0123456789ab"), "There is no job"),
        (("submit", "/no/such.zip"), "cannot be copied"),
        (("submit", ".", "--preset", "slow"), "Known presets"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


def test_an_unusable_data_set_is_a_failed_job_and_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and then nothing of use")
    done = run(tmp_path / "data", "submit", str(tmp_path / "bad.zip"), "--json")
    assert done.returncode == 1
    job = json.loads(done.stdout)
    assert job["state"] == "failed" and "bad.zip: the zip archive is damaged" in job["error"]


def test_neither_the_command_line_nor_a_waiting_worker_needs_torch() -> None:
    code = (
        "import runpy, sys, lsn_core.jobs\n"
        "sys.argv = ['lsn_core', '--help']\n"
        "try:\n    runpy.run_module('lsn_core')\n"
        "except SystemExit:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
