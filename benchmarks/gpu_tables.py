"""The report of `benchmarks.gpu` as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.report import markdown_table

Row = dict[str, Any]


def table(report: Row) -> str:
    """The report as a page."""
    return f"# On {report['gpu'] or 'a CPU'}\n\n{tables([report])}\n"


def tables(found: list[Row]) -> str:
    """The tables of a report, as Markdown."""
    (report,) = found
    made_by = f"`{report['command']}`, torch {report['versions']['torch']}"
    parts = [f"On {report['gpu'] or 'a CPU'}: {made_by}.", ""]
    if report.get("tests"):
        parts += [f"Tests with their backbones on the device: {report['tests']['summary']}.", ""]
    speeds = ", ".join(f"{name} {value:,.1f}" for name, value in report["tflops"].items())
    parts += [f"Matrix products of the tower's shape, TFLOP/s: {speeds}.", ""]
    if report.get("note"):
        parts += [report["note"], ""]
    if report["parity"]:
        rows = [[r["what"], r["against"], _parity(r)] for r in report["parity"]]
        parts += [markdown_table(["parity", "against", "difference"], rows), ""]
    rows = [
        [
            f"{r['classes']:,}",
            r["way"],
            r["precision"],
            "out of memory" if r["step_s"] is None else f"{1000 * r['step_s']:,.1f}",
            f"{1000 * r['floor_s']:,.1f}",
            "" if r["step_s"] is None else f"{100 * r['floor_s'] / r['step_s']:.0f} %",
            f"{r.get('peak_gib', '')}",
        ]
        for r in report["steps"]
    ]
    header = ["classes", "a step of training, K = 3", "precision", "ms", "floor, ms", "of the floor", "peak GiB"]
    parts += [markdown_table(header, rows), ""]
    if report.get("compiled"):
        r = report["compiled"]
        parts += [
            f"torch.compile took {r['compile_s']:.0f} s for {r['classes']} classes, and its steps in bf16 "
            f"{1000 * r['step_s']:.1f} ms.",
            "",
        ]
    rows = [
        [f"{r['classes']:,}", f"{r['shots']}", r["precision"], f"{r['seconds']:.1f}", f"{r.get('peak_gib', '')}"]
        for r in report["runs"]
    ]
    parts += [
        markdown_table(["classes", "shots", "precision", "`fast` from features to detector, s", "peak GiB"], rows),
        "",
    ]
    rows = [
        [r["precision"], f"{r['bare_tower']:,.0f}", f"{r['from_memory']:,.0f}", f"{100 * r['share']:.0f} %"]
        for r in report["images"]
    ]
    parts += [markdown_table(["ViT-B/16, pictures/s", "bare tower", "from memory", "share"], rows), ""]
    if report["heat_maps"]:
        rows = [[r["method"], f"{r['ms']:.1f}", f"{r.get('peak_gib', '')}"] for r in report["heat_maps"]]
        parts += [markdown_table(["heat maps of four prompts", "ms", "peak GiB"], rows), ""]
    return "\n".join(parts).strip()


def _parity(row: Row) -> str:
    if "least_cosine" in row:
        return f"cosine at least {row['least_cosine']:.5f}"
    if "relative" in row:
        return f"{row['relative']:.1e} of its norm"
    return f"at most {row['largest_difference']:.1e}"
