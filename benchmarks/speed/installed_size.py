"""How much disk the package takes, and each of its extras more.

    python -m benchmarks.speed.installed_size --work DIR [--torch torch==2.13.0+cpu torchvision==0.28.0]

Builds the wheel, installs it into an empty virtual environment, and into a copy of that once more with each extra.
Counted are the files of site-packages, without what Python compiles from them. `--torch` names the pair that is
installed first: on Linux the index has a torch for NVIDIA GPUs, which takes eight times the room of one for the CPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.harness.report import markdown_table, replace_section, write_results

EXTRAS = (
    "app",
    "mcp",
    "redis",
    "metrics",
    "ray",
    "s3",
    "gcs",
    "onnx",
    "openvino",
    "transformers",
    "docs",
    "bench",
    "dev",
)
REPO = Path(__file__).resolve().parents[2]
PAGE, README = REPO / "docs" / "install.md", REPO / "README.md"


def main() -> None:
    """Writes benchmarks/results/installed_size.json and its table in docs/install.md, and the line of README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="new folder for the environments")
    parser.add_argument("--torch", nargs="+", default=["torch", "torchvision"], help="the pair to install, as for pip")
    parser.add_argument("--extras", nargs="*", default=EXTRAS, choices=EXTRAS)
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(options.work), str(REPO)]
    subprocess.run(build, check=True)
    (wheel,) = options.work.glob("lsn_core-*.whl")
    base = options.work / "base"
    venv.create(base, with_pip=False, symlinks=True)
    empty = packages(base)
    install(base, options.torch)
    torch = packages(base)
    install(base, [str(wheel)])
    found = packages(base)
    rows = [row("", "base", empty, found), row("", "of it torch and torchvision", empty, torch)]
    for extra in options.extras:
        copy = options.work / extra
        shutil.copytree(base, copy, symlinks=True, copy_function=os.link)
        install(copy, [f"{wheel}[{extra}]"])
        rows.append(row(extra, extra, found, packages(copy)))
        shutil.rmtree(copy)
    facts = {"python": platform.python_version(), "system": platform.system(), "torch": version(base, "torch")}
    write_results("installed_size", facts | {"wheel_megabytes": megabytes(wheel.stat().st_size), "rows": rows})
    replace_section(PAGE, "installed-size", table(rows))
    replace_section(README, "size", sentence(rows))
    print(table(rows))


def install(place: Path, what: Iterable[str]) -> None:
    """Installs into a virtual environment, with this one's pip."""
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, *what], check=True)


def packages(place: Path) -> dict[str, int]:
    """Distribution or folder of site-packages -> its bytes."""
    (site,) = (place / "lib").glob("python*/site-packages")
    return {
        entry.name: sum(file.stat().st_size for file in files(entry) if "__pycache__" not in file.parts)
        for entry in site.iterdir()
    }


def files(entry: Path) -> list[Path]:
    """A file itself, or all files below a folder."""
    return [entry] if entry.is_file() else [path for path in entry.rglob("*") if path.is_file()]


def version(place: Path, name: str) -> str:
    """Which version of a package is installed there."""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    command = [str(place / "bin" / "python"), "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def row(extra: str, label: str, before: dict[str, int], after: dict[str, int]) -> dict[str, Any]:
    """What came on top of an environment: megabytes, how many distributions, and the largest of the folders."""
    more = {name: size - before.get(name, 0) for name, size in after.items() if size != before.get(name, 0)}
    largest = sorted(more, key=lambda name: -more[name])[:4]
    return {
        "extra": extra,
        "what": label,
        "megabytes": megabytes(sum(more.values())),
        "distributions": sum(name.endswith(".dist-info") and name not in before for name in after),
        "largest": {name.partition(".cpython")[0]: megabytes(more[name]) for name in largest},
    }


def megabytes(count: float) -> float:
    """Bytes -> millions of bytes."""
    return round(count / 1e6, 1)


def sentence(rows: list[dict[str, Any]]) -> str:
    """The one line of README."""
    size = {row["extra"] or row["what"]: row["megabytes"] / 1000 for row in rows}
    return (
        f"That takes {size['base'] + size['app']:.1f} GB with a CPU build of torch, without `[app]` "
        f"{size['base']:.1f} GB ([what is how large](docs/install.md#how-large-it-is))."
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    return markdown_table(
        ["what", "MB", "packages", "the largest (MB)"],
        [
            [
                f"`[{row['extra']}]`" if row["extra"] else row["what"],
                ("+" if row["extra"] else "") + f"{row['megabytes']:.0f}",
                str(row["distributions"]),
                ", ".join(f"{name} {size:.0f}" for name, size in row["largest"].items() if size >= 1),
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
