"""The report of `benchmarks.gpu` as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.harness.report import markdown_table

Row = dict[str, Any]


def table(report: Row) -> str:
    """The report as a page."""
    return f"# On {report['gpu'] or 'a CPU'}\n\n{tables([report])}\n"


def tables(found: list[Row]) -> str:
    """The tables of a report, as Markdown; parts that it lacks are named."""
    (report,) = found
    made_by = f"`{report['command']}`, torch {report['versions']['torch']}"
    parts = [f"On {report['gpu'] or 'a CPU'}: {made_by}."]
    if report.get("tests"):
        parts.append(f"Tests with their backbones on the device: {report['tests']['summary']}.")
    speeds = ", ".join(f"{name} {value:,.1f}" for name, value in report["tflops"].items())
    parts.append(f"Matrix products of the tower's shape, TFLOP/s: {speeds}.")
    if report.get("note"):
        parts.append(report["note"])
    elif missing := [name.replace("_", " ") for name in _TABLES if not report.get(name)]:
        parts.append(f"Not measured: {', '.join(missing)}.")
    parts += [make(report[name]) for name, make in _TABLES.items() if report.get(name)]
    if report.get("compiled"):
        r = report["compiled"]
        parts.append(
            f"torch.compile took {r['compile_s']:.0f} s for {r['classes']} classes, and its steps in bf16 "
            f"{1000 * r['step_s']:.1f} ms."
        )
    return "\n\n".join(parts)


def _parity(rows: list[Row]) -> str:
    return markdown_table(["parity", "against", "difference"], [[r["what"], r["against"], _gap(r)] for r in rows])


def _gap(row: Row) -> str:
    if "least_cosine" in row:
        return f"cosine at least {row['least_cosine']:.5f}"
    if "relative" in row:
        return f"{row['relative']:.1e} of its norm"
    return f"at most {row['largest_difference']:.1e}"


def _steps(rows: list[Row]) -> str:
    header = ["classes", "a step of training, K = 3", "precision", "ms", "floor, ms", "of the floor", "peak GiB"]
    lines = [
        [
            f"{r['classes']:,}",
            r["way"],
            r["precision"],
            "out of memory" if r["step_s"] is None else f"{1000 * r['step_s']:,.1f}",
            f"{1000 * r['floor_s']:,.1f}",
            "" if r["step_s"] is None else f"{100 * r['floor_s'] / r['step_s']:.0f} %",
            f"{r.get('peak_gib', '')}",
        ]
        for r in rows
    ]
    return markdown_table(header, lines)


def _runs(rows: list[Row]) -> str:
    header = ["classes", "shots", "precision", "`fast` from features to detector, s", "peak GiB"]
    lines = [
        [f"{r['classes']:,}", f"{r['shots']}", r["precision"], f"{r['seconds']:.1f}", f"{r.get('peak_gib', '')}"]
        for r in rows
    ]
    return markdown_table(header, lines)


def _images(rows: list[Row]) -> str:
    lines = [
        [r["precision"], f"{r['bare_tower']:,.0f}", f"{r['from_memory']:,.0f}", f"{100 * r['share']:.0f} %"]
        for r in rows
    ]
    return markdown_table(["ViT-B/16, pictures/s", "bare tower", "from memory", "share"], lines)


def _heat_maps(rows: list[Row]) -> str:
    lines = [[r["method"], f"{r['ms']:.1f}", f"{r.get('peak_gib', '')}"] for r in rows]
    return markdown_table(["heat maps of four prompts", "ms", "peak GiB"], lines)


_TABLES: dict[str, Callable[[list[Row]], str]] = {
    "parity": _parity,
    "steps": _steps,
    "runs": _runs,
    "images": _images,
    "heat_maps": _heat_maps,
}
