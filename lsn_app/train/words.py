"""What the Train tab says: data sets, jobs and results put into words and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from lsn_app.shared.words import comparison, note, percent, points, problem
from lsn_app.train.trial import CLASSES, PHOTOS
from lsn_core.calibration import Calibration
from lsn_core.data.collection import ImageList, unreadable
from lsn_core.jobs import Job
from lsn_core.jobs.inspection import Inspection

_ROWS = 12
_RECIPES = (
    ("fast", "fast", "minutes"),
    ("paper", "as the paper prints it", "hours"),
    ("reference", "as the authors' code does it", "hours"),
)
_FEW = 100
_HEADLINES = {
    "queued": ("⏳", "Waiting for its turn"),
    "preparing": ("◔", "Reading the photos"),
    "training": ("◑", "Training"),
    "evaluating": ("◕", "Measuring the detector"),
    "done": ("✓", "Done"),
    "stopped": ("■", "Stopped"),
    "failed": ("✕", "Failed"),
    "interrupted": ("…", "Interrupted; it goes on by itself as soon as there is a worker"),
}


def recipe_choices(jobs: Sequence[Job], tried: Mapping[str, float] | None = None) -> list[tuple[str, str]]:
    """Title and name of each recipe, with how long the last job by it took on this machine, or how long it may take.

    Args:
        jobs: all there are, newest first.
        tried: seconds by recipe, from a short trial; where there was no job yet.
    """
    choices = []
    for name, title, usual in _RECIPES:
        last = next((job for job in jobs if job.state == "done" and job.config.get("preset") == name), None)
        took = f"about {duration(tried[name])}" if tried and name in tried else usual
        if last is not None:
            count = len(last.classes)
            took = f"{duration(last.seconds)} here, for the last job, of {count} class{'' if count == 1 else 'es'}"
        choices.append((f"{title} ({took})", name))
    return choices


def recipe_note(jobs: Sequence[Job], tried: Mapping[str, float]) -> str:
    """What the estimates in `recipe_choices` are of; empty where there are none."""
    took = {job.config.get("preset") for job in jobs if job.state == "done"}
    if not set(tried) - took:
        return ""
    return f"“About”: for {CLASSES} classes of {PHOTOS} photos, by a short trial on this machine."


def contents_card(name: str, contents: Inspection, shots: int, calibration_share: float) -> str:
    """What a data set holds: classes with their counts, images that cannot be read, and what is too little.

    Args:
        shots: most images of a class that will be used.
        calibration_share: share of them held out from training.
    """
    rows = sorted(contents.classes.items(), key=lambda item: -item[1])
    cells = "".join(f"<tr><td>{escape(label)}</td><td>{count:,}</td></tr>" for label, count in rows[:_ROWS])
    if len(rows) > _ROWS:
        cells += f"<tr><td>and {len(rows) - _ROWS} more classes</td><td></td></tr>"
    sentences = [f"{contents.images:,} photos of {len(rows)} classes."]
    held_out = round(calibration_share * sum(min(count, shots) for count in contents.classes.values()))
    needed = Calibration.images_needed()
    if held_out < needed:
        sentences.append(
            f"About {held_out} photos can be held out to calibrate the detector, and a promise of 95 % needs {needed}: "
            "give more photos if you can."
        )
    if contents.unreadable:
        reasons = " ".join(escape(problem) for problem in contents.unreadable[:3])
        sentences.append(
            f"{len(contents.unreadable)} of {contents.checked} photos that were opened cannot be read and will be left "
            f"out. {reasons}"
        )
    sentences += map(escape, contents.notes)
    body = "".join(f"<p>{sentence}</p>" for sentence in sentences)
    table = f'<table class="lsn-table"><tr><th>class</th><th>photos</th></tr>{cells}</table>'
    return f'<section class="lsn-found" role="status"><h4>{escape(name)}</h4>{body}{table}</section>'


def ood_note(sets: Sequence[ImageList]) -> str:
    """How many photos of none of the classes there are, and which cannot be read, as HTML."""
    count = sum(len(images) for images in sets)
    wrong = [sentence for images in sets for sentence in unreadable(images)]
    if not count:
        return ""
    html = note(f"{count:,} photo{'' if count == 1 else 's'} to measure against.")
    return html + (problem(f"{len(wrong)} cannot be read and will be left out. {' '.join(wrong[:3])}") if wrong else "")


def job_label(job: Job, position: int | None) -> str:
    """A job in a list, in a few words."""
    return f"{job.name}: {job.state}{f', place {position} in the queue' if position else ''}"


def job_card(job: Job, position: int | None, seconds_left: float | None, hindrance: str = "") -> str:
    """One job as an HTML card.

    Args:
        position: place in the queue, from 1; None where it does not wait there.
        seconds_left: about how long training still takes; None while that is not known.
        hindrance: why jobs that wait are not begun; empty where nothing is in their way.
    """
    icon, title = _HEADLINES[job.state]
    kind = {"failed": "unknown"}.get(job.state, "empty")
    if job.state == "done":
        kind, icon, _ = comparison(_lead(job))
    parts = [f"<p>{escape(sentence)}</p>" for sentence in _sentences(job, position, seconds_left, hindrance)]
    done, total = (job.step, job.total) if job.total else (job.prepared, job.images)
    if job.active and total:
        parts.append(f'<progress value="{done}" max="{total}" aria-label="progress">{done} of {total}</progress>')
    if job.state == "done":
        parts.append(_results(job))
    return (
        f'<section class="lsn-card lsn-{kind}" role="status"><span class="lsn-icon" aria-hidden="true">{icon}</span>'
        f"<div><h2>{escape(job.name)}: {title}</h2>{''.join(parts)}</div></section>"
    )


def is_worse(job: Job) -> bool:
    """Whether hand-written MCM does better on the photos that the job was measured with."""
    return job.state == "done" and comparison(_lead(job))[0] == "unknown"


def _lead(job: Job) -> Sequence[float] | None:
    if lead := job.metrics.get("lead"):
        return lead.get("auroc")
    if "zero_shot_auroc" not in job.metrics:
        return None
    return (job.metrics["auroc"] - job.metrics["zero_shot_auroc"],)  # a job of 0.1 has no interval


def no_job_card() -> str:
    """What stands where a job would be."""
    return (
        '<section class="lsn-card lsn-empty"><span class="lsn-icon" aria-hidden="true">?</span>'
        "<div><h2>No job yet</h2><p>Jobs that you start in this browser appear here, also after you have closed the "
        "page and come back.</p></div></section>"
    )


def duration(seconds: float) -> str:
    """42.3 -> '42 s', 90 -> '2 min', 5400 -> '1.5 h'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _sentences(job: Job, position: int | None, seconds_left: float | None, hindrance: str) -> list[str]:
    sentences = []
    if job.error:
        sentences.append(job.error)
    if job.state == "queued":
        sentences.append(f"Place {position} in the queue." if position else "Its turn is about to come.")
        sentences += [hindrance] * bool(hindrance)
    if job.state == "preparing" and job.images:
        sentences.append(f"{job.prepared:,} of {job.images:,} photos are encoded.")
    if job.state == "training" and job.total:
        left = f", about {duration(seconds_left)} left" if seconds_left is not None else ""
        sentences.append(f"Step {job.step:,} of {job.total:,} ({job.phase} prompts){left}.")
    if job.state == "stopped" and job.step:
        sentences.append(f"It stopped after step {job.step:,} of {job.total:,} and can go on from its last checkpoint.")
    return sentences


def _results(job: Job) -> str:
    known, other = int(job.metrics.get("n_id") or 0), int(job.metrics.get("n_ood") or 0)
    if not known:
        return "<p>No photos were left to measure it with: there was one of each class.</p>"
    rows = [("right class", "id_accuracy")]
    where = f"Measured on {known} photos of your classes held out from training"
    if other:
        rows += [("AUROC", "auroc"), ("FPR95, less is better", "fpr95")]
        where += f", against {other} photos that show none of them ({job.metrics['ood']})"
    cells = "".join(
        f"<tr><td>{label}</td><td>{_percent(job, key)}</td><td>{_percent(job, f'zero_shot_{key}')}</td></tr>"
        for label, key in rows
    )
    sentences = [f"{where}."]
    if other:
        sentences.append(
            "AUROC: how often a photo of your classes scores above one of the others. FPR95: how many of the others "
            "pass at the threshold that keeps 95 % of your photos."
        )
    if known < _FEW or 0 < other < _FEW:
        sentences.append("These are few photos: take the figures as a hint.")
    if left_out := job.metrics.get("left_out"):
        sentences.append(
            f"{left_out} {'photo' if left_out == 1 else 'photos'} could not be read and had no part in it."
        )
    head = "<tr><th></th><th>trained</th><th>hand-written prompts</th></tr>"
    verdict = comparison(_lead(job))[2] + (": keep the hand-written prompts." if is_worse(job) else ".")
    table = f'<table class="lsn-table">{head}{cells}</table><p>{escape(" ".join(sentences))}</p>'
    return f"<p><b>{escape(verdict)}</b></p>{table}{_folds(job)}"


def _folds(job: Job) -> str:
    choice = job.metrics.get("choice") or {}
    if not choice.get("folds"):
        return ""
    rows = ""
    for name, row in choice["folds"].items():
        title = f"<b>{escape(name)}</b>" if name == choice["score"] else escape(name)
        lead, low, high = (points(100 * row[key]) for key in ("lead", "lead_low", "lead_high"))
        rows += f"<tr><td>{title}</td><td>{percent(row['auroc'])}</td><td>{percent(row['fpr95'])}</td>"
        rows += f"<td>{lead} ({low} to {high})</td></tr>"
    head = "<tr><th>score</th><th>AUROC</th><th>FPR95</th><th>lead over hand-written MCM, points</th></tr>"
    return (
        f"<details><summary>Why the score “{escape(choice['score'])}”</summary><p>{escape(choice.get('reason', ''))} "
        "Each score was tried on training photos alone, with some of the classes hidden in turn.</p>"
        f'<table class="lsn-table">{head}{rows}</table></details>'
    )


def _percent(job: Job, key: str) -> str:
    return percent(job.metrics[key]) if key in job.metrics else "–"
