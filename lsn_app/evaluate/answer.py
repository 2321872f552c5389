"""An evaluation's image sets, and what a detector reaches on them beside MCM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.requests import DetectorRequest, Place, Problem, problem_at
from lsn_app.shared.examples import Example
from lsn_app.shared.uploads import MAX_IMAGES, open_known, open_others
from lsn_core import Detector
from lsn_core.class_names import fold_name
from lsn_core.data.collection import ImageList
from lsn_core.data.features import FeatureSet, extract_features
from lsn_core.evaluation import Evaluation, Method, class_targets, evaluate

REPEATS, SEED = 1000, 0  # of the bootstrap
OURS, OWN_MCM, WRITTEN_MCM = "This detector", "MCM, its own prompts", "MCM, hand-written prompts"
_BATCH = 16  # so that the bar moves and a stop is heard about twice a second on two cores


def split_examples(examples: Sequence[Example], class_names: Sequence[str]) -> tuple[ImageList | None, list[ImageList]]:
    """The example photos that show one of the classes, and one set of the others."""
    wanted = {fold_name(name) for name in class_names}
    known = [example for example in examples if fold_name(example.label) in wanted]
    other = [example for example in examples if fold_name(example.label) not in wanted]
    sets = [
        ImageList(
            tuple(example.path.name for example in chosen),
            lambda index, chosen=chosen: chosen[index].path.read_bytes(),  # type: ignore[misc]
            tuple(example.label for example in chosen),
            title,
        )
        for title, chosen in (("example photos of your classes", known), ("the other example photos", other))
    ]
    return (sets[0] if known else None), sets[1:] if other else []


@dataclass(frozen=True)
class EvaluateRequest:
    """What is to be measured.

    Attributes:
        detector: which detector.
        known: path and name of each uploaded file of its classes.
        others: those of other things.
        example: whether the example photos are taken in the place of files.
    """

    detector: DetectorRequest
    known: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    example: bool = False

    def open_sets(self, examples: Sequence[Example], detector: Detector) -> tuple[ImageList | None, list[ImageList]]:
        """The known images (None without any) and the sets of others. Raises Problem where they are unusable."""
        if self.example:
            return split_examples(examples, detector.class_names)
        return open_known(self.known), open_others(self.others)


def check_sets(known: ImageList, others: Sequence[ImageList], detector: Detector) -> None:
    """Raises Problem where there are too many images, or known ones of classes that the detector does not know."""
    total = len(known) + sum(len(one) for one in others)
    if total > MAX_IMAGES:
        raise Problem(
            "known" if len(known) > MAX_IMAGES / 2 else "others",
            f"{total:,} images were given; at most {MAX_IMAGES:,} are taken here. Give fewer, or use the command line.",
        )
    if known.classes is not None:
        with problem_at("known"):
            class_targets(known.classes, detector, known.title)


@dataclass(frozen=True)
class Scored:
    """The images of one set that could be read.

    Attributes:
        images: the whole set.
        kept: indices of those that could be read, shape (M,).
        predicted: the class that the detector gives each, shape (M,).
        errors: a sentence for each of the others.
    """

    images: ImageList
    kept: list[int]
    predicted: list[str]
    errors: list[str]


@dataclass(frozen=True)
class Report:
    """An evaluation and the sets it is of; `known` and `others` are in the order of its scores."""

    evaluation: Evaluation
    detector: Detector
    known: Scored
    others: list[Scored]


def methods_for(detector: Detector, encoder: Encoder) -> list[Method]:
    """The detector, and MCM on its own positive prompts where they are learned and on hand-written ones."""
    written = encoder.zero_shot(detector.class_names)
    methods = [Method(OURS, detector, detector.score_name)]
    if detector.config.get("method") != "zero-shot" and detector.score_name != "mcm":
        methods.append(Method(OWN_MCM, detector, "mcm"))
    return [*methods, Method(WRITTEN_MCM, written, "mcm")]


def measure(
    detector: Detector,
    encoder: Encoder,
    known: ImageList,
    others: Sequence[ImageList],
    cache: Path,
    progress: Callable[[int, int], None],
) -> Report:
    """Encodes all images and measures the detector on them beside MCM.

    Args:
        cache: folder of the feature cache.
        progress: called with (images done, images in all); what it raises goes through.

    Raises:
        Problem: the sets do not fit the detector, or none of the images of a set can be read.
    """
    check_sets(known, others, detector)
    total, before = len(known) + sum(len(one) for one in others), 0
    scored, features = [], []
    for images in (known, *others):
        extracted = extract_features(
            encoder,
            images,
            cache=cache,
            batch_size=_BATCH,
            on_error="skip",
            progress=lambda done, _, before=before: progress(before + done, total),  # type: ignore[misc]
        )
        before += len(images)
        scored.append(_scored(images, extracted, detector, "known" if images is known else "others"))
        features.append(extracted.features)
    targets = None
    if known.classes is not None:
        targets = class_targets([known.classes[i] for i in scored[0].kept], detector, known.title)
    by_name = {images.title: rows for images, rows in zip(others, features[1:], strict=True)}
    evaluation = evaluate(methods_for(detector, encoder), features[0], targets, by_name, repeats=REPEATS, seed=SEED)
    return Report(evaluation, detector, scored[0], scored[1:])


def _scored(images: ImageList, extracted: FeatureSet, detector: Detector, place: Place) -> Scored:
    errors = [problem for _, problem in extracted.errors]
    if not len(extracted.features):
        raise Problem(place, " ".join([f"{images.title}: none of the images could be read.", *errors[:3]]))
    predicted = [detector.class_names[i] for i in detector.classify_features(extracted.features).tolist()]
    return Scored(images, extracted.kept.tolist(), predicted, errors)
