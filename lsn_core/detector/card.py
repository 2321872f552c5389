"""A detector's card: what its file says of it, as the README of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsn_core.calibration import DEFAULT_TPR, Calibration
from lsn_core.scores.registry import BASELINE, MEANS, PHOTOS, get_score

if TYPE_CHECKING:
    from lsn_core.detector.detector import Detector

_LISTED = 50


def write_card(detector: Detector, name: str, license: str | None = None, file: str = "detector.safetensors") -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        name: of the detector; ORG/NAME where it is on the Hub.
        license: of the detector, such as "apache-2.0"; None leaves it open, and says so.
        file: of the detector in its repository.
    """
    front = [
        "---",
        "library_name: lsn-core",
        "pipeline_tag: zero-shot-image-classification",
        *([f"license: {license}"] if license else []),
        "tags:\n- out-of-distribution-detection\n- open-set-recognition\n- clip\n- negative-prompts",
        "---",
    ]
    sections = [
        f"# {_plain(name)}",
        f"Tells whether a photo shows one of {len(detector.class_names):,} classes, and which, or none of them. "
        "Made after *Out-of-Distribution Detection with Negative Prompts* (LSN, ICLR 2024).",
        _classes(detector),
        _verdicts(detector),
        _folds(detector),
        _use(name, file),
        _limits(detector, license),
    ]
    return "\n".join(front) + "\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def _classes(detector: Detector) -> str:
    names = [f"`{_plain(name)}`" for name in detector.class_names]
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return f"## Classes\n\n{', '.join(names[:_LISTED])}{more}"


def _verdicts(detector: Detector) -> str:
    score = get_score(detector.score_name)
    lines = [
        f"The score `{detector.score_name}` gives the verdicts: {score.about} ({score.source}). Higher is more like "
        f"the known classes; at {detector.threshold():.5g} and above a photo is one of them."
    ]
    calibration = detector.calibration
    if calibration is None:
        lines.append("It is **not calibrated**: the threshold promises no error rate.")
    elif len(calibration) < Calibration.images_needed():
        lines.append(
            f"It was calibrated with {len(calibration):,} photos, too few for a promise: "
            f"{Calibration.images_needed()} are needed."
        )
    else:
        lines.append(
            f"It was calibrated with {len(calibration):,} held-out photos of the known classes, so that about "
            f"{100 * DEFAULT_TPR:.0f} % of photos like these are kept. Photos of another kind (camera, light, place) "
            "need a calibration of their own: `lsn score --calibrate FOLDER`."
        )
    if "calibration_accuracy" in detector.metrics:
        share = 100 * float(detector.metrics["calibration_accuracy"])
        lines.append(f"Of those photos, {share:.1f} % get their own class.")
    return "## Verdicts\n\n" + " ".join(lines)


def _folds(detector: Detector) -> str:
    choice = detector.fit.choice
    if choice is None or not choice.folds:
        return ""
    rows = [
        f"| {'**' if name == choice.score else ''}`{name}`{'**' if name == choice.score else ''} | "
        f"{100 * row['auroc']:.2f} | {100 * row['fpr95']:.2f} | "
        f"{100 * row['lead']:+.2f} [{100 * row['lead_low']:+.2f}, {100 * row['lead_high']:+.2f}] |"
        for name, row in choice.folds.items()
    ]
    return (
        f"## Why this score\n\n{_plain(choice.reason)}\n\nIn each of {len(choice.hidden)} folds over the training "
        "photos, some classes were hidden and had to be told from the others; the lead is over hand-written zero-shot "
        f"MCM (`{BASELINE}`), with its 95 % interval.\n\n"
        "| score | AUROC | FPR95 | lead in AUROC |\n| --- | --- | --- | --- |\n" + "\n".join(rows)
    )


def _use(name: str, file: str) -> str:
    on_hub = "/" in name
    load = f'from_pretrained("{name}")' if on_hub else f'load("{file}")'
    return (
        f"## Use\n\n```python\nfrom lsn_core import Detector\n\ndetector = Detector.{load}\n"
        'for prediction in detector.predict(["photo.jpg"]):\n'
        "    print(prediction.verdict, prediction.predicted_class, prediction.score)\n```\n\n"
        f"    lsn score --detector {f'hf-hub:{name}' if on_hub else file} photo.jpg"
    )


def _limits(detector: Detector, license: str | None) -> str:
    needs = get_score(detector.score_name).needs
    kept = "features of each training photo" if PHOTOS in needs else "the mean feature of each class's training photos"
    lines = [
        f"- It works with the backbone `{_plain(detector.backbone.name)}` alone (weights "
        f"`{detector.backbone.weights_hash[:12]}`), and knows what that knows.",
        "- It judges whole photos: a known thing among others may be called either way.",
        *([f"- The file holds {kept}."] if needs & {PHOTOS, MEANS} else []),
        f"- Licence: {license or 'not stated by whoever published it'}.",
    ]
    return "## Limits\n\n" + "\n".join(lines)


def _plain(text: str) -> str:
    # Names come from folders of anybody's: nothing in them is to become a link, a table or HTML.
    kept = "".join(" " if character in "\r\n" else character for character in text)
    return kept.replace("`", "'").replace("<", "&lt;").replace("|", "\\|")
