"""Tries every input of the corpus by each of its ways in, under a memory limit.

    python -m benchmarks.reliability [--ways WAY,WAY] [--only WORD]

The ways are the library, the command line, a running app, one that strangers use (LSN_PUBLIC=1, with a host name of its
own), and the tools that such a one gives MCP clients.

For each input (`tests/corpus`): the right value or one clear sentence comes out, no traceback, nothing but UserError
leaves the library, within bounds of time and memory. Library and command line run in a process of their own, the app as
its users run it. Time is CPU time, as other programs may be at work; memory is what an input takes above what the
process took before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.harness.report import RESULTS, environment, markdown_table, write_results
from benchmarks.speed.job_load import running
from lsn_core import load_backbone
from tests.corpus.case import Case
from tests.corpus.every import every_case
from tests.corpus.memory import SPARE, limit_memory
from tests.corpus.outcome import MOST_BYTES, MOST_SECONDS, Result
from tests.corpus.over_mcp import Mcp
from tests.corpus.ways import App, CommandLine, Library

APPS: dict[str, dict[str, str]] = {
    "app": {},
    "public app": {"LSN_PUBLIC": "1", "LSN_HOSTS": "lsn.example"},
    "MCP": {"LSN_PUBLIC": "1", "LSN_MCP": "1"},
}
WAYS = ("library", "command line", *APPS)
_SHARE_SECONDS = 0.02  # an app that answers one client at a time need not hurry
Row = dict[str, Any]


def main() -> None:
    """Tries all, and writes results/reliability.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"some of: {', '.join(WAYS)}")
    parser.add_argument("--only", default="", help="a word in the family and name of the inputs to try")
    options = parser.parse_args()
    begun, rows = time.monotonic(), []
    for way in options.ways.split(","):
        rows += in_app(way, options.only) if way in APPS else in_process(way, options.only)
    for row in rows:
        if row["problem"]:
            print(ascii(f"{row['way']}: {row['family']}: {row['name']}: {row['problem']}"))
    families = by_family(rows)
    if options.only or options.ways != ",".join(WAYS):
        print(table(families))
        return
    failed = [row for row in rows if row["problem"]]
    inputs = len({(row["family"], row["name"]) for row in rows})
    bounds = {"most_seconds": MOST_SECONDS, "most_bytes": MOST_BYTES, "spare_addresses": SPARE}
    write_results(
        "reliability",
        {
            "command": "python -m benchmarks.reliability",
            **environment(0),
            **bounds,
            "seconds": round(time.monotonic() - begun),
            "inputs": inputs,
            "families": families,
            "failed": failed,
        },
    )
    (RESULTS / "reliability.md").write_text(page(inputs, families, failed), encoding="utf-8")


def in_process(way: str, only: str) -> list[Row]:
    """Rows of the library or the command line, tried in a process of its own."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe()
    process = context.Process(target=_work, args=(way, only, theirs))
    process.start()
    theirs.close()
    rows, trying = [], ""
    try:
        while (told := ours.recv()) is not None:
            trying = told if isinstance(told, str) else trying
            rows += [told] if isinstance(told, dict) else []
    except EOFError:
        process.join()
        family, _, name = trying.partition(": ")
        rows.append(_row(Result(Case("", family, name, str, None), way, f"the process ended: {process.exitcode}")))
    process.join()
    return rows


def _work(way: str, only: str, told: Any) -> None:
    warnings.simplefilter("ignore")
    backbone = load_backbone("embedded", "cpu")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as files:
        runner = (Library if way == "library" else CommandLine)(backbone, Path(files))
        cases = _chosen(every_case(backbone, Path(made)), only)
        for case in cases[:3]:
            runner.run(case)  # what is loaded at the first use does not count
        limit_memory()
        for case in tqdm(cases, desc=way, unit="input"):
            told.send(case.id)
            if (result := runner.run(case)) is not None:
                told.send(_row(result))
        told.send(None)


def in_app(way: str, only: str) -> list[Row]:
    """Rows of a running app, set up in one of the ways of `APPS`."""
    backbone = load_backbone("embedded", "cpu")
    torch.set_num_threads(1)  # and in the app: each would wait for the other's threads
    rows = []
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as data:
        cases = _chosen(every_case(backbone, Path(made)), only)
        with running(Path(data), OMP_NUM_THREADS="1", **APPS[way]) as (address, process):
            app = (Mcp if way == "MCP" else App)(address, process, backbone)
            for case in [case for case in cases if case.kind in ("image", "text")][:3]:
                app.run(case)
            limit_memory(process)
            for case in tqdm(cases, desc=way, unit="input"):
                if (result := app.run(case)) is not None:
                    rows.append(_row(replace(result, way=way)))
                    time.sleep(_SHARE_SECONDS)
    return rows


def _chosen(cases: Sequence[Case], only: str) -> list[Case]:
    return [case for case in cases if only in case.id]


def _row(result: Result) -> Row:
    return {
        "family": result.case.family,
        "name": result.case.name.encode("utf-8", "replace").decode(),
        "way": result.way,
        "problem": result.problem.encode("utf-8", "replace").decode(),
        "seconds": round(result.seconds, 2),
        "mib": result.memory >> 20,
    }


def by_family(rows: Sequence[Row]) -> list[Row]:
    """What was tried and passed in each family, worst memory and worst time; the last row is of all."""
    made = []
    for family in [*dict.fromkeys(row["family"] for row in rows), None]:
        members = [row for row in rows if family in (row["family"], None)]
        made.append(
            {
                "family": family or "all",
                "inputs": len({(row["family"], row["name"]) for row in members}),
                "tried": len(members),
                "passed": sum(not row["problem"] for row in members),
                "mib": max((row["mib"] for row in members), default=0),
                "seconds": max((row["seconds"] for row in members), default=0.0),
            }
        )
    return made


def table(families: Sequence[Row]) -> str:
    """Families as Markdown."""
    header = ["family", "inputs", "tried", "passed", "worst memory, MiB", "worst CPU time, s"]
    keys = ("family", "inputs", "tried", "passed", "mib", "seconds")
    return markdown_table(
        header, [[f"{row[key]:,}" if key != "family" else row[key] for key in keys] for row in families]
    )


def page(inputs: int, families: Sequence[Row], failed: Sequence[Row]) -> str:
    """The page about a whole run."""
    lines = [f"- {row['way']}, {row['family']}: {row['name']}. {row['problem']}" for row in failed]
    return "\n".join(
        [
            "# Reliability",
            "",
            "Made by `python -m benchmarks.reliability`, see its docstring and `SECURITY.md`. "
            f"{inputs:,} inputs, each through every one of these ways that takes it: {', '.join(WAYS)}.",
            "",
            table(families),
            "",
            "## What failed",
            "",
            *(lines or ["Nothing."]),
            "",
        ]
    )


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    main()
