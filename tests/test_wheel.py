"""The wheel works by itself: built, installed where the repository is not, and used as README says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import REPO, serving

import lsn_core

HEAVY = ("gradio", "huey", "matplotlib", "pyarrow", "pytorch_grad_cam", "redis")


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel in it, which sees the other packages of this one."""

    wheel: Path
    bin: Path
    elsewhere: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / program), *arguments]
        return subprocess.run(command, cwd=self.elsewhere, env=outside(), capture_output=True, text=True, timeout=120)


def outside() -> dict[str, str]:
    """This environment without what leads to the repository or to other settings of the project."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("GRADIO")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=REPO, env=outside(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, "--no-compile", str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # A path file's own lines only: the path files of that folder, such as the one of an editable install, do not count.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    yield Installed(wheel, python.parent, elsewhere)
    wheel.unlink()


def test_what_ships_is_in_it_and_screenshots_are_not(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    shipped = {name.split("/_shipped/")[1] for name in names if "/_shipped/" in name}
    tracked = subprocess.run(["git", "ls-files", "checkpoints", "assets"], cwd=REPO, capture_output=True, text=True)
    wanted = {name for name in tracked.stdout.split() if not name.startswith("assets/screenshots/")}
    assert {"checkpoints/embedded-clip/open_clip_model.safetensors", "assets/examples/ATTRIBUTION.csv"} <= wanted
    assert wanted <= shipped
    assert not any("screenshots" in name or name.startswith(("tests/", "scripts/")) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"lsn_core/py.typed", "lsn_core/prompts/nouns.txt"} <= set(names)


def test_the_installed_code_is_what_runs(installed: Installed) -> None:
    script = "import lsn_core, lsn_core.shipped as s; print(lsn_core.__file__, s.EMBEDDED_DIR, s.RESULTS_DIR)"
    done = installed.run("python", "-c", script)
    assert done.returncode == 0, done.stderr
    assert all(path.startswith(str(installed.bin.parent)) and Path(path).exists() for path in done.stdout.split())
    assert installed.run("lsn", "--version").stdout.strip() == lsn_core.__version__


def test_it_scores_a_shipped_photo_with_what_ships(installed: Installed) -> None:
    script = "from lsn_core import examples; print(examples()['church'])"
    photo = installed.run("python", "-c", script).stdout.strip()
    (detector,) = (installed.bin.parent / "lib").glob(
        "python*/site-packages/lsn_core/_shipped/**/imagenette.safetensors"
    )
    done = installed.run("lsn", "score", "--json", "--detector", str(detector), photo)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["predicted_class"]) == ("ID", "church")


def test_the_snippet_of_the_readme_runs(installed: Installed) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    done = installed.run("python", "-c", snippet)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["ID", "OOD"] and lines[0][1] == "dog"


def test_the_page_answers(installed: Installed, tmp_path: Path) -> None:
    environment = {**outside(), "LSN_DATA": str(tmp_path / "data"), "LSN_BACKBONE": "embedded"}
    command = [str(installed.bin / "lsn"), "app"]
    with serving(command, environment, tmp_path / "log.txt", cwd=installed.elsewhere) as address:
        assert address.startswith("http://127.0.0.1:")


def test_scoring_loads_nothing_that_it_does_not_use(examples: Path) -> None:
    script = (
        "import sys; from lsn_core import Detector, load_backbone; import lsn_core.cli.score; "
        "d = Detector.zero_shot(load_backbone('embedded'), ['dog', 'cat']); d.predict([sys.argv[1]]); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(examples / "dog.jpg")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
