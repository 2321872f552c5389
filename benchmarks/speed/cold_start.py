"""How long does a command take that begins with nothing in memory, beside another version's?

    python -m benchmarks.speed.cold_start [--other CHECKOUT] [--rounds 9]

Each command is a process of its own, and those of the two versions take turns. Told are the median of the time that
passes and of the processor time (user) that is spent, which other work on the machine lengthens less. Files are in the
system's cache; nothing else is kept from one to the next.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness.report import PAGE, environment, markdown_table, replace_section, write_results

HERE = Path(__file__).resolve().parents[2]
COMMANDS: dict[str, list[str]] = {
    "import lsn_core": ["-c", "import lsn_core"],
    "lsn --help": ["-c", "from lsn_app.console import run; run()", "--help"],
    "lsn score, names": ["-m", "lsn_core", "score", "--classes", "dog,cat,elephant", "assets/examples/dog.jpg"],
    "lsn score, a detector": [
        *("-m", "lsn_core", "score", "--detector", "checkpoints/detectors/imagenette.safetensors"),
        "assets/examples/church.jpg",
    ],
}


def main() -> None:
    """Writes benchmarks/results/cold_start.json and its table in benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, help="checkout of another version, to compare with")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    versions = {"now": HERE} | ({"before": options.other.resolve()} if options.other else {})
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(-1, options.rounds):  # one round in which files get into the cache
        for command, arguments in COMMANDS.items():
            for version, checkout in sorted(versions.items(), reverse=bool(number % 2)):
                spent = seconds(arguments, checkout, options.threads)
                if number >= 0:
                    taken.setdefault((command, version), []).append(spent)
    rows = [row(command, version, spent) for (command, version), spent in sorted(taken.items())]
    facts = {"rounds": options.rounds, "threads": options.threads, "load": round(os.getloadavg()[0], 1)}
    write_results("cold_start", environment() | facts | {"rows": rows})
    replace_section(PAGE, "cold-start", table(rows))
    print(table(rows))


def seconds(arguments: list[str], checkout: Path, threads: int) -> tuple[float, float]:
    """Seconds that pass until a command of a checkout has ended, and seconds of processor time that it spends."""
    there = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
    before, begun = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=checkout, env=there, check=True, capture_output=True)
    passed, after = time.perf_counter() - begun, os.times()
    return passed, after.children_user - before.children_user


def row(command: str, version: str, spent: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians, and the shortest time, of one command of one version."""
    passed, user = zip(*spent, strict=True)
    return {
        "command": command,
        "version": version,
        "seconds": round(statistics.median(passed), 2),
        "shortest": round(min(passed), 2),
        "user_seconds": round(statistics.median(user), 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, a line for each command."""
    found = {(row["command"], row["version"]): row for row in rows}
    versions = sorted({row["version"] for row in rows})
    header = ["command"] + [f"{what}, {version}" for version in versions for what in ("seconds (shortest)", "user")]
    lines = []
    for command in COMMANDS:
        cells = [f"`{command}`"]
        for version in versions:
            one = found[command, version]
            cells += [f"{one['seconds']:.2f} ({one['shortest']:.2f})", f"{one['user_seconds']:.2f}"]
        lines.append(cells)
    return markdown_table(header, lines)


if __name__ == "__main__":
    main()
