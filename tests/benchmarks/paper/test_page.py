"""The page puts means, spreads and leads beside the paper's numbers, and says what is not the paper's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from benchmarks.paper.page import page


def record(method: str, fpr95: float, auroc: float, seed: int | None = None, **more: Any) -> dict[str, Any]:
    values = {"fpr95": fpr95, "auroc": auroc}
    preset = None if seed is None else more.pop("preset", "paper")
    cell = {"backbone": "ViT-B/16", "classes": "ImageNet-100", "method": method, "preset": preset, "seed": seed}
    sets = ("iNaturalist", "SUN", "Places", "Textures", "Average")
    return {
        "cell": cell,
        "status": "measured",
        "metrics": dict.fromkeys(sets, values),
        "id_accuracy": 90.0 + (seed or 0),
        "sampled": False,
        "shorten": None,
    } | more


def rows(text: str, table: str) -> list[list[str]]:
    part = text.split(f"## {table}:")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]


def test_each_row_stands_under_the_papers_with_its_lead_over_mcm() -> None:
    records = [
        record("MCM", 40.0, 90.0),
        record("CoOp + LSN", 20.0, 95.0, seed=0),
        record("CoOp + LSN", 22.0, 96.0, seed=1),
        record("CoOp + LSN", 30.0, 91.0, seed=0, preset="fast"),
    ]
    lines = rows(page(records), "Table 1")
    at = next(i for i, line in enumerate(lines) if line[0] == "CoOp + LSN")
    theirs, paper, fast = lines[at : at + 3]
    assert theirs[1:] == [
        "**the paper**",
        "5.74 / 98.32",
        "12.42 / 97.53",
        "14.62 / 96.89",
        "9.17 / 97.82",
        "10.49 / 97.64",
        "-22.09",
        "+3.16",
        "92.88",
        "",
    ]
    assert paper[1:] == ["paper", *["21.00 ± 1.41 / 95.50 ± 0.71"] * 5, "-19.00", "+5.50", "90.50 ± 0.71", "0, 1"]
    assert fast[1:] == ["fast", *["30.00 / 91.00"] * 5, "-10.00", "+1.00", "90.00", "0"]
    assert "†" not in page(records).split("## How to read it")[0]


def test_the_papers_leads_are_over_the_mcm_of_the_same_classes() -> None:
    lines = {line[0]: line for line in rows(page([]), "Table 11")}
    assert lines["ImageNet-10/LSN"][7:9] == ["-0.25", "+0.14"]
    assert lines["ImageNet-1k/LSN"][7:9] == ["-13.33", "+2.34"]
    lines = {line[0]: line for line in rows(page([]), "Table 5")}  # which has no row of MCM
    assert lines["neg-shared-w name"][7:9] == ["+48.69", "-12.21"]


def test_short_schedules_samples_and_what_is_not_run_are_marked() -> None:
    records = [
        record("MCM", 40.0, 90.0, shorten=2),
        record("CoCoOp", 20.0, 95.0, seed=0, shorten=2, sampled=True),
        record("KNN", 20.0, 95.0) | {"status": "failed", "needs": "memory | disk"},
    ]
    text = page(records)
    assert "**Not the paper's schedules.**" in text and "trained for 2 updates" in text
    lines = rows(text, "Table 1")
    ours = lines[next(i for i, line in enumerate(lines) if line[0] == "CoCoOp") + 1]
    assert ours[1] == "paper †*"
    assert ours[7:9] == ["", ""]  # MCM was measured on other images
    after = {above[0]: line for above, line in pairwise(lines)}
    assert after["MCM"][1] == "here"  # nothing of it was trained
    assert after["NPOS"][1].startswith("needs the image tower fine-tuned")
    assert after["CoOp"][1] == "not measured"
    assert "| ViT-B/16 ImageNet-100 KNN | memory \\| disk |" in text


def test_seeds_of_other_settings_are_not_averaged() -> None:
    """A folder may hold a try of one seed beside the whole of another."""
    short = record("CoOp", 50.0, 50.0, seed=0, shorten=2, settings={"shots": 128, "seed": 0})
    whole = [record("CoOp", 10.0, 90.0, seed=n, settings={"shots": 128, "seed": n}) for n in (1, 2)]
    fewer = record("CoOp", 20.0, 80.0, seed=3, settings={"shots": 16, "seed": 3})
    lines = rows(page([short, *whole, fewer]), "Table 1")
    at = next(i for i, line in enumerate(lines) if line[0] == "CoOp")
    assert [(line[1], line[2], line[-1]) for line in lines[at + 1 : at + 4]] == [
        ("paper †", "50.00 / 50.00", "0"),
        ("paper", "10.00 ± 0.00 / 90.00 ± 0.00", "1, 2"),
        ("paper", "20.00 / 80.00", "3"),
    ]


def test_every_measurement_is_on_the_page_once_or_more() -> None:
    other = record("KNN", 12.5, 87.5)  # the paper has no KNN on ImageNet-100
    text = page([other])
    assert "## Not in the paper" in text
    assert "| ViT-B/16, ImageNet-100, KNN | here | 12.50 / 87.50 |" in text


def test_images_that_are_not_the_papers_are_told_of() -> None:
    published = {"ID": 5000, "iNaturalist": 10_000, "SUN": 10_000, "Places": 10_000, "Textures": 5640}
    settings = {"shots": 128, "seed": 0}
    fine = record("CoOp", 10.0, 90.0, seed=0, settings=settings, training_images=12_800, images=published)
    assert "**Fewer labelled" not in page([fine]) and "**Not the published" not in page([fine])
    fewer = record("CoOp", 10.0, 90.0, seed=1, settings=settings, training_images=12_799, images=published | {"SUN": 9})
    text = page([fine, fewer])
    assert "**Fewer labelled images** than the settings name: ImageNet-100 (12,799 instead of 12,800)." in text
    assert "**Not the published numbers of test images**: SUN 9 instead of 10,000." in text
    sampled = record("CoCoOp", 10.0, 90.0, seed=1, images={"ID": 3, "SUN": 3}, sampled=True)
    assert "**Not the published" not in page([sampled])
