"""`python app.py` writes into its data directory alone: it works where nothing else can be written to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from support import serving

from benchmarks.speed.job_kills import crops, short_config, wait_for
from lsn_core.cache_folders import keep_within
from lsn_core.jobs import Jobs

# Only the data directory's own mount can be written to, whoever tries, and whether or not the attempt is reported.
READ_ONLY = """
mount --make-rprivate / && mount --bind "$LSN_DATA" "$LSN_DATA" && mount -o remount,bind,ro / || exit 99
if mountpoint -q /tmp; then mount -o remount,bind,ro /tmp || exit 99; fi
touch "$HOME/x" 2>/dev/null && exit 98; touch /tmp/x-$$ 2>/dev/null && exit 98
exec "$@"
"""


@pytest.fixture
def locked() -> list[str]:
    """What a command begins with to run on a read-only system. Where that can't be had: a skip, and in CI a failure."""
    command = ["unshare", "--mount", "--", "sh", "-c", READ_ONLY, "sh"]
    tried = (
        subprocess.run(["unshare", "--mount", "--", "true"], capture_output=True, text=True)
        if shutil.which("unshare")
        else None
    )
    if tried is None or tried.returncode:
        reason = f"no read-only system can be made here (it takes root): {tried.stderr.strip() if tried else 'unshare'}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return command


def test_nothing_is_written_outside_the_data_directory(locked: list[str], tmp_path: Path, examples: Path) -> None:
    data, home, temporary = (tmp_path / name for name in ("data", "home", "tmp"))
    for folder in (data, home, temporary):
        folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TMP", "TEMP", "HF_", "XDG"))}
    environment |= {
        "LSN_DATA": str(data),
        "HOME": str(home),
        "LSN_JOB_THREADS": "1",
        "LSN_BACKBONE": "embedded",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    log = tmp_path / "log.txt"
    with closing(Jobs(data)) as jobs, serving([*locked, sys.executable, "app.py"], environment, log) as address:
        client, photo = Client(address, verbose=False), handle_file(str(examples / "dog.jpg"))
        assert client.predict(photo, "dog, cat", api_name="/score")["predicted_class"] == "dog"
        assert client.predict(photo, "dog, cat", "", "grad-cam", api_name="/heatmap")["error"] is None
        job = jobs.submit(crops(tmp_path / "animals", count=4), "ann", short_config(3))
        job = wait_for(jobs, job.id, "done", "failed", patience=120)
        assert job.state == "done", job.error
    assert "Read-only" not in log.read_text()
    assert not [*home.iterdir(), *temporary.iterdir()]
    assert (data / "tmp").is_dir() and (data / "huggingface").is_dir()


def test_places_are_made_once_and_preloaded_models_are_found_where_they_lie(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    preloaded = home / ".cache" / "huggingface" / "hub" / "models--timm--some"
    preloaded.mkdir(parents=True)
    environment = {"HOME": str(home), "MPLCONFIGDIR": str(tmp_path / "mine")}
    for _ in range(2):
        keep_within(data, environment)
    assert environment["MPLCONFIGDIR"] == str(tmp_path / "mine")
    assert environment["TMPDIR"] == str(data / "tmp") and environment["HF_HOME"] == str(data / "huggingface")
    assert (data / "huggingface" / "hub" / "models--timm--some").resolve() == preloaded
    old, young = data / "tmp" / "old", data / "tmp" / "young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (time.time() - 3 * 86_400,) * 2)
    preloaded.rmdir()
    keep_within(data, environment | {"HF_HOME": str(data / "huggingface")})
    assert not old.exists() and young.exists()
