"""Puts results beside the paper's figures: the Markdown tables of benchmarks/README.md and the headline in README.md.

python -m benchmarks.page          # writes them anew from benchmarks/results/
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.protocols import FILES, ZOC
from benchmarks.harness.report import PAGE, RESULTS, markdown_table, replace_section
from benchmarks.methods.registry import NOT_RUN

Row = dict[str, Any]
README = PAGE.parents[1] / "README.md"
HEADLINE = ("MCM", "ViM", "NegLabel", "CoOp", "CoOp + LSN", "CoCoOp + LSN", "LSN + NegLabel", "best combination")
OF_TABLE4 = {
    "MCM": "MCM",
    "full": "full model",
    "no-positive": "w/o positive prompts",
    "no-negative": "w/o negative prompts",
    "no-regulariser": "w/o semantic orthogonality loss",
    "multi-positive": "multi positive prompts",
}
OF_TABLE5 = {
    "pos-specific-name": "pos-specific-w name",
    "pos-shared-name": "pos-shared-w name",
    "pos-specific-no-name": "pos-specific-w/o name",
    "neg-specific-name": "neg-specific-w name",
    "neg-shared-name": "neg-shared-w name",
    "neg-specific-no-name": "neg-specific-w/o name",
}
OF_TABLE11 = {"MCM": "ImageNet-10/MCM", "CoCoOp + LSN": "ImageNet-10/LSN"}


def main() -> None:
    """Writes every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for page, marker, text in sections():
        replace_section(page, marker, text)


def sections(folder: Path = RESULTS) -> list[tuple[Path, str, str]]:
    """Page, marker and Markdown of every table, from the results in a folder."""
    paper = json.loads((FILES / "paper.json").read_text())
    rows = {
        name: json.loads((folder / f"{name}.json").read_text())["rows"]
        for name in ("table1", "table3", "table4", "table5", "figure7", "figures9-12", "combination")
    }
    return [
        (PAGE, "table3", small_scale(rows["table3"], paper["Table 3"])),
        (PAGE, "table1", large_scale(rows["table1"], paper["Table 11"])),
        (PAGE, "table4", ablation(rows["table4"], paper["Table 4"], OF_TABLE4)),
        (PAGE, "table5", ablation(rows["table5"], paper["Table 5"], OF_TABLE5)),
        (PAGE, "figure7", shots(rows["figure7"])),
        (PAGE, "figures9-12", not_counts(rows["figures9-12"])),
        (PAGE, "combination", combination(rows["combination"])),
        (README, "headline", headline(rows["table3"], paper["Table 3"])),
    ]


def small_scale(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """AUROC and FPR95 of every method; the paper's in brackets."""
    columns = [*ZOC, "average"]
    ours = {(row["method"], row["protocol"]): row for row in summary}
    methods = list(dict.fromkeys(row["method"] for row in summary))
    parts = []
    for measure, label in (("auroc", "AUROC"), ("fpr95", "FPR95")):
        lines = []
        for method in methods:
            theirs = paper.get(method, {})
            cells = [cell(ours[method, column], measure, theirs.get(column)) for column in columns[:-1]]
            average = f"**{ours[method, 'average'][measure]:.2f}**"
            lines.append([method, *cells, with_paper(average, mean(theirs, measure))])
        for method, why in NOT_RUN.items():
            if method in paper:
                cells = [with_paper("-", paper[method][column][measure]) for column in columns[:-1]]
                lines.append([f"{method}: {why}", *cells, with_paper("-", mean(paper[method], measure))])
        parts.append(markdown_table([label, *columns], lines))
    return "\n\n".join(parts)


def large_scale(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """AUROC / FPR95 of every method on each OOD set; the paper's average in a column of its own."""
    sets = list(dict.fromkeys(row["ood"] for row in summary))
    ours = {(row["method"], row["ood"]): row for row in summary}
    lines = []
    for method in dict.fromkeys(row["method"] for row in summary):
        theirs = paper.get(OF_TABLE11.get(method, ""), {}).get("Average")
        cells = [both(ours[method, ood]) for ood in sets]
        lines.append([method, *cells, accuracy(ours[method, sets[0]]), both(theirs) if theirs else ""])
    return markdown_table(["AUROC / FPR95", *sets, "ID accuracy", "paper, ImageNet-10"], lines)


def ablation(summary: Sequence[Row], paper: dict[str, Any], names: dict[str, str]) -> str:
    """AUROC / FPR95 on the stand-ins, on CIFAR10's splits, and the paper's average on ImageNet-100."""
    ours = {(row["method"], row["protocol"], row["ood"]): row for row in summary}
    lines = [
        [theirs, both(ours[name, "Imagenette", "average"]), both(ours[name, "CIFAR10", "CIFAR10"]),
         both(paper[theirs]["Average"]) if theirs in paper else ""]
        for name, theirs in names.items()
    ]  # fmt: skip
    return markdown_table(["AUROC / FPR95", "Imagenette, 4 sets", "CIFAR10, 5 splits", "paper, ImageNet-100"], lines)


def shots(summary: Sequence[Row]) -> str:
    """AUROC by the number of labelled images per class."""
    kinds = list(dict.fromkeys(row["method"] for row in summary))
    counts = list(dict.fromkeys(row["shots"] for row in summary))
    ours = {(row["method"], row["shots"]): row for row in summary}
    lines = [
        [kind, *(f"{ours[kind, n]['auroc']:.2f} ± {ours[kind, n]['auroc_std']:.2f}" for n in counts)] for kind in kinds
    ]
    return markdown_table(["AUROC", *(f"{n} per class" for n in counts)], lines)


def not_counts(summary: Sequence[Row]) -> str:
    """How often a class's denial is chosen."""
    lines = [
        [row["ood"], row["images"], row["classes"], f"{row['chose_not']:.1f} %", f"{row['classes_mostly_not']:.1f} %"]
        for row in summary
    ]
    header = ["images of", "images", "classes", '"not" chosen', "classes where most choose it"]
    return markdown_table(header, [[str(value) for value in line] for line in lines])


def combination(summary: Sequence[Row]) -> str:
    """How the combination grew."""
    lines = [[row["scores"], f"{row['hidden_auroc']:.2f}"] for row in summary]
    return markdown_table(["sum of", "AUROC, hidden classes"], lines)


def headline(summary: Sequence[Row], paper: dict[str, Any]) -> str:
    """The averages over Table 3's five sets of a few methods."""
    average = {row["method"]: row for row in summary if row["protocol"] == "average"}
    lines = []
    for method in HEADLINE:
        theirs = paper.get(method, {})
        lines.append([method, *(with_paper(f"{average[method][m]:.2f}", mean(theirs, m)) for m in ("auroc", "fpr95"))])
    return markdown_table(["method", "AUROC, average of five sets", "FPR95"], lines)


def cell(row: Row, measure: str, theirs: dict[str, float] | None) -> str:
    return with_paper(f"{row[measure]:.2f}", theirs[measure] if theirs else None)


def both(row: Row) -> str:
    return f"{row['auroc']:.2f} / {row['fpr95']:.2f}"


def accuracy(row: Row) -> str:
    return "" if row["id_accuracy"] is None else f"{row['id_accuracy']:.1f}"


def with_paper(ours: str, theirs: float | None) -> str:
    return ours if theirs is None else f"{ours} ({theirs:.2f})"


def mean(theirs: dict[str, Any], measure: str) -> float | None:
    values = [theirs[column][measure] for column in ZOC if column in theirs]
    return sum(values) / len(values) if len(values) == len(ZOC) and None not in values else None


if __name__ == "__main__":
    main()
