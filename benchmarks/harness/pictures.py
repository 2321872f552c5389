"""Pictures of the tables, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

Row = dict[str, Any]
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = BLUE, ORANGE, *_ = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"


def methods_by_protocol(summary: Sequence[Row], panel: str, path: Path, title: str) -> None:
    """AUROC and FPR95 of each method, two panels for each value of `panel`; whiskers are deviations over seeds."""
    panels = list(dict.fromkeys(row[panel] for row in summary))
    methods = list(dict.fromkeys(row["method"] for row in summary))
    size = (2.4 * len(panels) + 2, 0.24 * len(methods) * 2 + 1.6)
    figure, axes = pyplot.subplots(2, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for measure, label, colour, line in (("auroc", "AUROC, %", BLUE, axes[0]), ("fpr95", "FPR95, %", ORANGE, axes[1])):
        for name, axis in zip(panels, line, strict=True):
            members = {row["method"]: row for row in summary if row[panel] == name}
            shown = [i for i, method in enumerate(methods) if method in members]
            values = [members[methods[i]][measure] for i in shown]
            spread = [members[methods[i]][f"{measure}_seeds"] or 0 for i in shown]
            axis.barh(shown, values, xerr=spread, color=colour, height=0.7, error_kw={"elinewidth": 0.8})
            axis.set_yticks(range(len(methods)), methods, fontsize=8)
            axis.set_xlim(min(50, min(values) - 2) if measure == "auroc" else 0, 100)
            axis.set_xlabel(label, fontsize=8)
            axis.set_title(name, fontsize=9)
            axis.grid(axis="x", linewidth=0.4)
    axes[0][0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def by_shots(summary: Sequence[Row], path: Path) -> None:
    """AUROC by the number of labelled images per class, a line for each kind of prompts."""
    figure, axis = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    kinds = dict.fromkeys(row["method"] for row in summary)
    for kind, colour, marker in zip(kinds, COLOURS, "os^vD", strict=False):
        members = [row for row in summary if row["method"] == kind]
        shots, values, spread = ([row[key] for row in members] for key in ("shots", "auroc", "auroc_seeds"))
        axis.errorbar(shots, values, yerr=[s or 0 for s in spread], label=kind, color=colour, marker=marker, capsize=2)
    axis.set_xscale("log", base=2)
    ticks = sorted({row["shots"] for row in summary})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xlabel("labelled images per class")
    axis.set_ylabel("AUROC, %")
    axis.grid(linewidth=0.4)
    axis.legend()
    _save(figure, path)


def not_counts(details: Sequence[Row], path: Path) -> None:
    """For each OOD set, the share of images that choose a class's denial; classes in the order of their share."""
    sets = list(dict.fromkeys(row["ood"] for row in details))
    figure, axes = pyplot.subplots(
        1, len(sets), figsize=(3.2 * len(sets), 3), sharey=True, squeeze=False, layout="constrained"
    )
    for name, axis in zip(sets, axes[0], strict=True):
        shares = sorted((100 * row["chose_not"] / row["images"] for row in details if row["ood"] == name), reverse=True)
        axis.fill_between(range(len(shares)), shares, color=BLUE, step="mid", label='"not a photo of a [class]"')
        axis.fill_between(range(len(shares)), shares, 100, color=ORANGE, step="mid", label='"a photo of a [class]"')
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("classes", fontsize=8)
        axis.set_xlim(0, len(shares) - 1)
        axis.set_ylim(0, 100)
    axes[0][0].set_ylabel("share of images, %", fontsize=8)
    axes[0][0].legend(loc="lower left", fontsize=7)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
