"""The command `watch`: its lines, its alarm and its ends."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import REPO, run_inside, until

from lsn_core import Detector
from lsn_core.calibration import Calibration
from lsn_core.cli.watch import interruptible

DETECTOR = REPO / "checkpoints" / "detectors" / "imagenette.safetensors"
START = datetime(2026, 5, 1, 8).astimezone()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(DETECTOR)


@pytest.fixture(scope="module")
def calibration(detector: Detector) -> Calibration:
    assert detector.calibration is not None
    return detector.calibration


def stream(calibration: Calibration, hours: int, changed: int, seed: int = 0) -> list[dict[str, Any]]:
    """Verdicts on 50 photos an hour: scores as of calibration photos, and a third unknown from an hour on."""
    chance, lines = np.random.default_rng(seed), []
    for n in range(50 * hours):
        unknown = n >= 50 * changed and chance.random() < 1 / 3
        low, high = np.quantile(calibration.scores, chance.uniform(size=2))
        score = float(calibration.scores[0] - chance.random() if unknown else (low if chance.random() < 0.5 else high))
        verdict = "ID" if score >= calibration.threshold() else "OOD"
        p_value = float(calibration.p_values(score))
        when = (START + timedelta(minutes=1.2 * n)).isoformat()
        lines.append({"file": f"{n}.jpg", "time": when, "verdict": verdict, "score": score, "p_value": p_value,
                      "score_name": "prototypes", "error": None})  # fmt: skip
    return lines


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


def test_a_change_rings_and_nothing_does_not(calibration: Calibration, tmp_path: Path) -> None:
    calm = write(tmp_path / "calm.jsonl", stream(calibration, 8, 99))
    done = run_inside("watch", calm, "--detector", DETECTOR, "--json")
    assert done.returncode == 0 and done.stderr == ""
    hours = [json.loads(line) for line in done.stdout.splitlines()]
    assert [hour["photos"] for hour in hours] == [50] * 8 and all(hour["closed"] for hour in hours)
    assert hours[0]["from"] == START.isoformat() and all(sum(hour["p_values"]) == 50 for hour in hours)
    changed = write(tmp_path / "changed.jsonl", stream(calibration, 8, 5))
    done = run_inside("watch", changed, "--detector", DETECTOR, "--json", "--page", tmp_path / "x.html")
    assert done.returncode == 3 and "ALARM 2026-05-01" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (at_once,) = (line for line in lines if not line["closed"])
    assert at_once["alarm"] is not None and at_once["highest_evidence"] >= 100 and at_once["from"] >= hours[5]["from"]
    told = [line["verdict"] == "OOD" for line in stream(calibration, 8, 5)]
    assert [line["unknown"] for line in lines if line["closed"]] == np.reshape(told, (8, 50)).sum(axis=1).tolist()
    assert "ALARM at 2026-05-01" in (tmp_path / "x.html").read_text(encoding="utf-8")


def test_people_get_a_table(calibration: Calibration, tmp_path: Path) -> None:
    done = run_inside(
        "watch", write(tmp_path / "x.jsonl", stream(calibration, 30, 99)), "--detector", DETECTOR, "--per", "day"
    )
    head, *days = done.stdout.splitlines()
    assert head.split()[:3] == ["from", "photos", "unknown"] and [day.split()[2] for day in days] == ["800", "700"]
    assert done.stderr == "No alarm.\n" and done.returncode == 0


def test_lines_of_score_come_through_a_pipe(calibration: Calibration, examples: Path, monkeypatch: Any) -> None:
    photos = [examples / "church.jpg", examples / "zebra.jpg"]
    told = run_inside("score", "--detector", DETECTOR, "--json", *photos)
    monkeypatch.setattr(sys, "stdin", io.StringIO(told.stdout))
    # Typer's runner has a standard input of its own, so the command is called as it is.
    from lsn_core.cli.watch import watch

    outputs: list[dict[str, Any]] = []
    monkeypatch.setattr("lsn_core.cli.watch.echo_json", lambda line: outputs.append(dict(line)))
    watch(Path("-"), DETECTOR, as_json=True)
    assert sum(line["photos"] for line in outputs) == 2 and sum(line["unknown"] for line in outputs) == 1


def test_a_folder_is_watched_once(examples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    for n, name in enumerate(("church", "zebra")):
        shutil.copy(examples / f"{name}.jpg", folder)
        os.utime(folder / f"{name}.jpg", (START.timestamp() + 7200 * n,) * 2)
    (folder / "broken.jpg").write_bytes(b"no picture")
    os.utime(folder / "broken.jpg", (START.timestamp(),) * 2)
    done = run_inside("watch", folder, "--detector", DETECTOR, "--once", "--json")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["photos"], first["unknown"], first["unreadable"]) == (1, 0, 1)
    assert (second["photos"], second["unknown"], second["unreadable"]) == (1, 1, 0)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run_inside("watch", empty, "--detector", DETECTOR, "--once").stderr == "No photo came.\n"


def test_it_ends_cleanly_when_it_is_told_to(examples: Path, tmp_path: Path) -> None:
    folder, page = tmp_path / "new", tmp_path / "x.html"
    folder.mkdir()
    shutil.copy(examples / "church.jpg", folder)
    os.utime(folder / "church.jpg", (START.timestamp(),) * 2)
    command = [sys.executable, "-m", "lsn_core", "watch", str(folder), "--detector", str(DETECTOR), "--poll", "0.2"]
    with subprocess.Popen(
        [*command, "--json", "--page", str(page)], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            until(lambda: page.exists() or process.poll() is not None)  # its hour is over, so it is told
            shutil.copy(examples / "zebra.jpg", tmp_path)
            os.utime(tmp_path / "zebra.jpg", (START.timestamp() + 7200,) * 2)
            (tmp_path / "zebra.jpg").rename(folder / "zebra.jpg")
            until(lambda: "2 photos" in page.read_text(encoding="utf-8") or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0 and err == "", err
    assert [(line["photos"], line["unknown"]) for line in map(json.loads, out.splitlines())] == [(1, 0), (1, 1)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_python_drops_is_not_lost() -> None:
    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)  # the exception comes here, and is ignored

    before = signal.getsignal(signal.SIGINT)
    with interruptible() as stopped:
        assert not stopped.is_set()
        Dying()
        assert stopped.is_set()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--classes", "dog,cat"], "not calibrated"),
        ([], "Give either"),
        (["--detector", DETECTOR, "--false-alarm", "2"], "between 0 and 1"),
        (["--detector", DETECTOR, "--poll", "0"], "--poll"),
        (["--detector", DETECTOR, "--page", "x.pdf"], ".html"),
        (["--detector", DETECTOR, "--usual", "gone.jsonl"], "cannot be read"),
        (["--detector", REPO / "checkpoints" / "detectors" / "everyday.safetensors"], "'prototypes'"),
    ],
)
def test_what_it_cannot_do_is_told(calibration: Calibration, tmp_path: Path, options: list[Any], sentence: str) -> None:
    done = run_inside("watch", write(tmp_path / "x.jsonl", stream(calibration, 1, 99)), *options)
    assert done.returncode == 2 and sentence in done.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,verdict\n", "line 1: this is no JSON"),
        ('{"file": "gone.jpg", "score": 1}\n', "line 1: when the photo was taken is not known"),
        ('{"time": "now"}\n', "ISO 8601"),
        ('{"time": 1e9, "file": "a.jpg"}\n', "a.jpg: This is no verdict"),
    ],
)
def test_other_files_are_told(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    done = run_inside("watch", tmp_path / "x.jsonl", "--detector", DETECTOR)
    assert done.returncode == 2 and sentence in done.stderr


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run_inside("watch", tmp_path / "gone", "--detector", DETECTOR)
    assert done.returncode == 2 and "There is no" in done.stderr
