"""The page of a run: the paper's tables, each number beside what was measured here."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.harness.measure import Row
from benchmarks.harness.protocols import FILES
from benchmarks.harness.report import markdown_table
from benchmarks.paper.cells import CLAIMS, METHODS, Claim
from benchmarks.paper.folders import OOD, PUBLISHED, class_list
from benchmarks.paper.plan import REAL_VAL
from benchmarks.paper.record import MEASURED, fingerprint
from benchmarks.paper.run import AVERAGE
from lsn_core.training.presets import PRESETS

COLUMNS = (*OOD, AVERAGE)
BASELINE = "MCM"
TITLES = {
    "Table 1": "ImageNet-100, ViT-B/16",
    "Table 2": "ImageNet-1k, ViT-B/16",
    "Table 4": "what positive and negative prompts are worth (CoCoOp, ImageNet-100, ViT-B/16)",
    "Table 5": "contexts and class names (CoCoOp, ImageNet-100, ViT-B/16)",
    "Table 7": "DualCoOp (ImageNet-100, ResNet-50)",
    "Table 8": "post-hoc methods on raw CLIP features (ImageNet-1k, ViT-B/16)",
    "Table 9": "architectures (ImageNet-100)",
    "Table 10": "BLIP (ImageNet-100)",
    "Table 11": "numbers of classes (ViT-B/16)",
}
OTHERS = "Not in the paper"
SHORTENED, SAMPLED = "†", "*"

HEAD = """# The paper's large-scale tables

FPR95 / AUROC in percent, for each OOD set and their average. For each row first **the paper**'s numbers, then those
measured here by each preset: the mean over the seeds, ± the standard deviation over them. "Lead" is the difference from
zero-shot MCM on hand-written prompts, on the same images: a method helps where FPR95 falls (−) and AUROC rises (+).
"""
NOTES = """
## How to read it

- Of the image classifiers (MSP, ODIN, Energy, GradNorm, ViM and KNN in Tables 1 and 2) the paper took numbers from
  other papers, which fine-tuned the image tower; here a logistic regression learns from the same few labelled images,
  on features of the tower as it is. So do those of Table 8, on a classifier that the paper does not describe.
- VOS is its energy head alone, trained on virtual outliers of the frozen tower's features, where the paper's fine-tunes
  the tower; LiNe (LINe) prunes the linear classifier.
- Prompts learn from all the labelled images drawn (none is held out for a calibration), and are scored by Eq. 14.
- Where the paper does not say which of its two methods "LSN" is, its numbers are those of CoCoOp + LSN (Tables 4, 8, 9
  and 11), and the same is taken for Table 7, whose numbers stand nowhere else.
"""


def page(records: Sequence[Row], about: Sequence[str] = ()) -> str:
    """The page in Markdown.

    Args:
        records: what `record.read_all` gives.
        about: sentences on how it was made.
    """
    paper = json.loads((FILES / "paper.json").read_text())
    parts = [HEAD, *about]
    if shortened := sorted({str(record["shorten"]) for record in records if record.get("shorten")}):
        parts.append(
            f"> **Not the paper's schedules.** Rows with {SHORTENED} were trained for {' or '.join(shortened)} "
            f"update{'s' * (shortened != ['1'])} of each kind of prompt, to try the command. Their numbers say nothing "
            "about the method."
        )
    if any(record.get("sampled") for record in records):
        parts.append(f"Rows with {SAMPLED} were measured on a sample of the test images.")
    parts += _not_the_papers(records)
    for table, title in TITLES.items():
        parts += [f"## {table}: {title}", _table(paper, [c for c in CLAIMS if c.table == table], records)]
    known = {(claim.backbone, claim.classes, claim.method) for claim in CLAIMS}
    if others := [record for record in records if _place(record) not in known]:
        parts += [f"## {OTHERS}", _others(others, records)]
    parts += [NOTES.strip(), _not_measured(records)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _not_the_papers(records: Sequence[Row]) -> Iterator[str]:
    """What of the images is not as the paper has it."""
    fewer, others = set(), {}
    for record in records:
        if record["status"] != MEASURED:
            continue
        classes = record["cell"]["classes"]
        shots, drawn = record.get("settings", {}).get("shots"), record.get("training_images")
        if shots and drawn and drawn < shots * len(class_list(classes)):
            fewer.add(f"{classes} ({drawn:,} instead of {shots * len(class_list(classes)):,})")
        published = {"ID": REAL_VAL * len(class_list(classes)), **PUBLISHED}
        for name, count in record.get("images", {}).items():
            if not record["sampled"] and count != published[name]:
                others[classes if name == "ID" else name] = f"{count:,} instead of {published[name]:,}"
    if fewer:
        yield f"> **Fewer labelled images** than the settings name: {', '.join(sorted(fewer))}."
    if others:
        which = ", ".join(f"{name} {how}" for name, how in sorted(others.items()))
        yield f"> **Not the published numbers of test images**: {which}."


def _table(paper: dict[str, Any], claims: Sequence[Claim], records: Sequence[Row]) -> str:
    rows = []
    of_mcm = {(c.backbone, c.classes): paper[c.table][c.row] for c in CLAIMS if c.method == BASELINE}
    for claim in claims:
        theirs, baseline = paper[claim.table][claim.row], of_mcm[claim.backbone, claim.classes]
        rows.append(_theirs(claim.row, theirs, None if claim.method == BASELINE else baseline))
        rows += _ours((claim.backbone, claim.classes, claim.method), records) or [_missing(claim, records)]
    return markdown_table(_header(), rows)


def _header() -> list[str]:
    return ["method", "preset", *COLUMNS, "lead over MCM, FPR95", "AUROC", "ID accuracy", "seeds"]


def _theirs(name: str, row: dict[str, Any], baseline: dict[str, Any] | None) -> list[str]:
    cells = [f"{row[column]['fpr95']:.2f} / {row[column]['auroc']:.2f}" for column in COLUMNS]
    leads = ["", ""]
    if baseline is not None:
        leads = [f"{row[AVERAGE][key] - baseline[AVERAGE][key]:+.2f}" for key in ("fpr95", "auroc")]
    accuracy = f"{row['id_accuracy']:.2f}" if "id_accuracy" in row else ""
    return [name, "**the paper**", *cells, *leads, accuracy, ""]


def _ours(place: tuple[str, str, str], records: Sequence[Row], name: str = "") -> list[list[str]]:
    measured = [record for record in records if record["status"] == MEASURED]
    members = [record for record in measured if _place(record) == place]
    baseline = [record for record in measured if _place(record) == (*place[:2], BASELINE)]
    return [_line(preset, some, baseline, name) for preset, some in _by_preset(members)]


def _line(preset: str | None, some: Sequence[Row], baseline: Sequence[Row], name: str) -> list[str]:
    cells = [
        f"{_spread([row['metrics'][column]['fpr95'] for row in some])} / "
        f"{_spread([row['metrics'][column]['auroc'] for row in some])}"
        for column in COLUMNS
    ]
    leads = ["", ""]
    if baseline and some[0]["cell"]["method"] != BASELINE:
        # On a sample of the images MCM's own numbers are of others.
        fair = not any(row["sampled"] for row in some)
        of_mcm = baseline[0]["metrics"][AVERAGE]
        leads = [
            f"{statistics.fmean(row['metrics'][AVERAGE][key] for row in some) - of_mcm[key]:+.2f}" if fair else ""
            for key in ("fpr95", "auroc")
        ]
    right = [row["id_accuracy"] for row in some if row["id_accuracy"] is not None]
    marks = SHORTENED * any(row.get("shorten") and row["cell"]["preset"] for row in some)
    marks += SAMPLED * any(row["sampled"] for row in some)
    seeds = [str(row["cell"]["seed"]) for row in some if row["cell"]["seed"] is not None]
    return [
        name,
        f"{preset or 'here'} {marks}".strip(),
        *cells,
        *leads,
        _spread(right) if right else "",
        ", ".join(seeds),
    ]


def _missing(claim: Claim, records: Sequence[Row]) -> list[str]:
    failed = [record for record in records if _place(record) == (claim.backbone, claim.classes, claim.method)]
    reason = METHODS[claim.method].needs or (failed[0]["needs"] if failed else "")
    text = f"needs {reason}" if METHODS[claim.method].needs else f"could not be measured: {reason}"
    return ["", _cell(text) if reason else "not measured", *[""] * (len(_header()) - 2)]


def _others(others: Sequence[Row], records: Sequence[Row]) -> str:
    rows = []
    for place in dict.fromkeys(_place(record) for record in others):
        title = ", ".join(place)
        rows += _ours(place, records, title) or [[title, "could not be measured", *[""] * (len(_header()) - 2)]]
    return markdown_table(_header(), rows)


def _not_measured(records: Sequence[Row]) -> str:
    needs = {name: method.needs for name, method in METHODS.items() if method.needs}
    failed = {" ".join(_place(r)): r["needs"] for r in records if r["status"] != MEASURED}
    rows = [[name, _cell(reason)] for name, reason in (needs | failed).items()]
    return "## What is not measured, and what it would need\n\n" + markdown_table(["row", "needs"], rows)


def _place(record: Row) -> tuple[str, str, str]:
    cell = record["cell"]
    return cell["backbone"], cell["classes"], cell["method"]


def _by_preset(records: Sequence[Row]) -> Iterator[tuple[str | None, list[Row]]]:
    """Those that differ in nothing but the seed, so that an average is of one thing."""
    groups: dict[str, list[Row]] = {}
    for record in sorted(records, key=_order):
        settings = {key: value for key, value in record.get("settings", {}).items() if key != "seed"}
        facts = [record["cell"]["preset"], record.get("shorten"), record["sampled"], settings, record.get("backbone")]
        groups.setdefault(fingerprint(facts), []).append(record)
    for some in groups.values():
        yield some[0]["cell"]["preset"], some


def _order(record: Row) -> tuple[int, int]:
    preset = record["cell"]["preset"]
    return list(PRESETS).index(preset) if preset in PRESETS else -1, record["cell"]["seed"] or 0


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
