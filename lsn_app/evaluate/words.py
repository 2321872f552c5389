"""What the Evaluate tab says: what sets hold, results with how sure they are, and tables as HTML and CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from lsn_app.evaluate.answer import REPEATS, SEED, WRITTEN_MCM, Report
from lsn_app.shared.csv_links import csv_text, download_link
from lsn_app.shared.uploads import OPENED
from lsn_app.shared.words import comparison, note, percent, problem
from lsn_core.data.collection import ImageList, unreadable
from lsn_core.evaluation import AVERAGE, Row
from lsn_core.metrics import OODMetrics

_FEW = 100
_CLASSES = 8
_HEADS = ("Photos", "Method", "AUROC", "FPR95, less is better", "AUPR", "Right class", "Known / other")


def nothing_yet() -> str:
    """What stands where the result will be."""
    return _card(
        "empty",
        "?",
        "Nothing measured yet",
        ["Give photos of the known classes and others, then press Start; or try it with the example photos."],
    )


def at_work() -> str:
    """What stands there while it measures."""
    return _card("empty", "◑", "Measuring", ["Photos met before are read from the cache; others take their time."])


def stopped() -> str:
    """What stands there after a stop."""
    return _card("empty", "■", "Stopped", ["What was read so far is kept: another start goes on from there."])


def failed() -> str:
    """What stands there when something has to be put right first."""
    return _card(
        "empty", "!", "Nothing measured", ["Something needs to be put right first: see the message by the input."]
    )


def contents(known: ImageList | None, others: Sequence[ImageList]) -> str:
    """What the uploaded files hold, before anything starts: counts, classes, photos that cannot be read."""
    if known is None and not others:
        return note("Give photos first, or try it with the examples.")
    parts = [_set_contents("Known", known)] if known else [note("Photos of known classes are still missing.")]
    parts += [_set_contents("Other", one) for one in others] or [note("Photos of other things are still missing.")]
    return f'<section class="lsn-found" role="status">{"".join(parts)}</section>'


def _set_contents(kind: str, images: ImageList) -> str:
    sentences = [f"{_photos(len(images))}."]
    if images.classes and kind == "Known":
        ranked = Counter(images.classes).most_common()
        listed = ", ".join(f"{name} ({count:,})" for name, count in ranked[:_CLASSES])
        more = f" and {len(ranked) - _CLASSES} more" if len(ranked) > _CLASSES else ""
        sentences.append(f"{_count(len(ranked), 'class', 'classes')}: {listed}{more}.")
    elif kind == "Known":
        sentences.append("Their classes are not known, so the share of right classes cannot be told.")
    bad = unreadable(images, OPENED)
    body = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    if bad:
        opened = min(len(images), OPENED)
        body += problem(
            f"{len(bad)} of {opened} that were opened cannot be read and will be left out. {' '.join(bad[:3])}"
        )
    return f"<h4>{kind}: {escape(images.title)}</h4>{body}"


def result_card(report: Report, name: str) -> str:
    """The comparison with MCM first; then the averages in sentences, what they mean, and how sure they are.

    Args:
        name: of the detector.
    """
    ours, theirs = report.evaluation.averages[0], report.evaluation.averages[-1]
    start = f"On average over {len(report.others)} sets a" if len(report.others) > 1 else "A"
    sentences = [
        f"{start} known photo scores above another photo in {percent(ours.metrics.auroc)} of all pairs "
        f"(AUROC). At the threshold that keeps 95 % of the known photos, {percent(ours.metrics.fpr95)} of the others "
        "pass as known (FPR95).",
        _theirs(theirs),
        f"Ranges in small print hold 95 of 100 values when such photos are drawn anew (bootstrap, {REPEATS:,} draws, "
        f"seed {SEED}).",
    ]
    few = min(ours.n_id, *(len(one.kept) for one in report.others))
    if few < _FEW:
        sentences.append(_few(few, ours, report))
    kind, icon, title = comparison(report.evaluation.lead.get("auroc"))
    if is_worse(report):
        sentences.insert(0, "Keep the hand-written prompts: on these photos they do better.")
    return _card(kind, icon, f"{name}: {title[0].lower()}{title[1:]}", sentences)


def is_worse(report: Report) -> bool:
    """Whether hand-written MCM has the larger AUROC."""
    return comparison(report.evaluation.lead.get("auroc"))[0] == "unknown"


def _theirs(theirs: Row) -> str:
    return (
        f"{WRITTEN_MCM}, on the same photos: AUROC {percent(theirs.metrics.auroc)}, "
        f"FPR95 {percent(theirs.metrics.fpr95)}."
    )


def _few(few: int, ours: Row, report: Report) -> str:
    sentence = f"{_photos(few)} {'is' if few == 1 else 'are'} too few for firm numbers: take them as a hint."
    if ours.metrics.fpr95 == 0:
        # Clopper and Pearson's upper end for no case among n: at 95 %, about 3 / n.
        most = 1 - 0.05 ** (1 / min(len(one.kept) for one in report.others))
        sentence += f" None of the others passed here, yet up to {percent(round(most, 2))} could (95 % confidence)."
    return sentence


def table(report: Report) -> str:
    """All rows as an HTML table, averages first, with ranges and photos left out."""
    averages = report.evaluation.averages if len(report.others) > 1 else []
    rows = "".join(_row(row) for row in [*averages, *report.evaluation.rows])
    head = "".join(f'<th scope="col">{text}</th>' for text in _HEADS)
    left_out = [error for one in (report.known, *report.others) for error in one.errors]
    missing = ""
    if left_out:
        more = f" And {len(left_out) - 3} more." if len(left_out) > 3 else ""
        missing = problem(
            f"{_photos(len(left_out))} could not be read and had no part in it. {' '.join(left_out[:3])}{more}"
        )
    return (
        '<div class="not-scroll eval-scroll" tabindex="0" role="region" aria-label="Results"><table class="eval-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{missing}"
    )


def _row(row: Row) -> str:
    cells = []
    for name, value in row.metrics.as_dict().items():
        low, high = row.intervals[name]
        cells.append(f"<td>{percent(value)}<small>{100 * low:.3g} to {100 * high:.3g}</small></td>")
    right = "–" if row.id_accuracy is None else percent(row.id_accuracy)
    name = "<b>average</b>" if row.ood == AVERAGE else escape(row.ood)
    return (
        f'<tr><th scope="row">{name}</th><td>{escape(row.method)}</td>{"".join(cells)}<td>{right}</td>'
        f"<td>{row.n_id:,} / {row.n_ood:,}</td></tr>"
    )


def links(report: Report) -> str:
    """Links to the table and to the scores of all images as CSV."""
    names = OODMetrics._fields
    ends = [f"{name}_{end}" for name in names for end in ("low", "high")]
    header = ("ood", "method", "score", *names, *ends, "id_accuracy", "n_id", "n_ood")
    rows = [
        (
            row.ood,
            row.method,
            row.score,
            *row.metrics,
            *(end for name in names for end in row.intervals[name]),
            row.id_accuracy,
            row.n_id,
            row.n_ood,
        )
        for row in [*report.evaluation.rows, *report.evaluation.averages]
    ]
    return (
        f'<p class="eval-links">{download_link(csv_text(header, rows), "evaluation.csv", "Download the table as CSV")} '
        f"{download_link(_image_csv(report), 'evaluation-scores.csv', 'Download all scores as CSV')}</p>"
    )


def _image_csv(report: Report) -> str:
    evaluation = report.evaluation
    methods = list(evaluation.known)
    rows = []
    sets = [(report.known, "ID", evaluation.known)]
    sets += [(one, "OOD", evaluation.others[one.images.title]) for one in report.others]
    for one, side, scores in sets:
        for row, index in enumerate(one.kept):
            label = one.images.classes[index] if one.images.classes else None
            values = [float(scores[method][row]) for method in methods]
            rows.append((one.images.title, side, one.images.names[index], label, one.predicted[row], *values))
    header = ("set", "side", "image", "class", "predicted", *(f"score: {method}" for method in methods))
    return csv_text(header, rows)


def _photos(count: int) -> str:
    return _count(count, "photo", "photos")


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _card(kind: str, icon: str, title: str, sentences: Sequence[str]) -> str:
    body = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return (
        f'<section class="lsn-card lsn-{kind}" role="status"><span class="lsn-icon" aria-hidden="true">{icon}</span>'
        f"<div><h2>{escape(title)}</h2>{body}</div></section>"
    )
