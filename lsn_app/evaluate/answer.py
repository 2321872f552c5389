"""An evaluation's image sets, and what a detector reaches on them beside MCM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import read_photo
from lsn_app.serving.requests import Place, Problem, at
from lsn_app.shared.examples import Example
from lsn_core import Detector, UserError
from lsn_core.data.archive import ZipSource
from lsn_core.data.features import FeatureSet, ImageEncoder, extract_features
from lsn_core.data.images import IMAGE_SUFFIXES, open_image
from lsn_core.data.labelled import LabelledImages, load_data
from lsn_core.data.sources import DataLimits
from lsn_core.evaluation import Evaluation, Method, class_targets, evaluate
from lsn_core.jobs.storage.files import calling

MAX_IMAGES = 20_000  # of one evaluation
MAX_SETS = 8
REPEATS, SEED = 1000, 0  # of the bootstrap
OURS, OWN_MCM, WRITTEN_MCM = "This detector", "MCM, its own prompts", "MCM, hand-written prompts"
_ARCHIVES = (".zip", ".parquet")
_LIMITS = DataLimits(max_entries=4 * MAX_IMAGES, max_total_bytes=4 * 2**30)
OPENED = 200  # of a set, before anything starts
_BATCH = 16  # so that the bar moves and a stop is heard about twice a second on two cores


@dataclass(frozen=True)
class ImageSet:
    """Images of an evaluation, read one by one.

    Attributes:
        name: what to call the set.
        names: what to call each image, shape (N,).
        classes: the class of each image, shape (N,), or None where that is not known.
        read: encoded bytes of one image by its index. Raises UserError where they cannot be had.
    """

    name: str
    names: tuple[str, ...]
    classes: tuple[str, ...] | None
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def counts(self) -> dict[str, int]:
        """Class name -> number of images; empty where classes are not known."""
        return dict(Counter(self.classes or ()))

    def unreadable(self) -> list[str]:
        """What is wrong with those of up to OPENED images, evenly spread, that cannot be read."""
        found = []
        for index in np.unique(np.linspace(0, len(self) - 1, min(OPENED, len(self))).round().astype(int)).tolist():
            try:
                open_image(self.read(index), name=self.names[index])
            except UserError as error:
                found.append(str(error))
        return found


def open_known(files: Sequence[tuple[str, str]]) -> ImageSet | None:
    """The in-distribution images that uploaded files stand for, None for no files.

    Args:
        files: path and name of each: photos, or one zip or Parquet file; a zip without folders has no classes.

    Raises:
        Problem: they cannot be used.
    """
    if not files:
        return None
    archives = [file for file in files if _is_archive(file)]
    if archives and len(files) > 1:
        raise Problem(
            "known", "Give one zip or Parquet file of the known classes, or photos by themselves; remove the others."
        )
    return at("known", lambda: _open_archive(*archives[0], labelled=True) if archives else _loose(files))


def open_others(files: Sequence[tuple[str, str]]) -> list[ImageSet]:
    """The out-of-distribution sets: each zip or Parquet file is one, photos by themselves make another.

    Args:
        files: path and name of each.

    Raises:
        Problem: they cannot be used, or are too many sets.
    """
    archives, photos = [file for file in files if _is_archive(file)], [file for file in files if not _is_archive(file)]
    sets = [at("others", lambda file=file: _open_archive(*file, labelled=False)) for file in archives]  # type: ignore[misc]
    if photos:
        sets.append(at("others", lambda: _loose(photos)))
    if len(sets) > MAX_SETS:
        raise Problem("others", f"{len(sets)} sets were given; at most {MAX_SETS} are taken. Give fewer.")
    return _told_apart(sets)


def split_examples(examples: Sequence[Example], class_names: Sequence[str]) -> tuple[ImageSet | None, list[ImageSet]]:
    """The example photos that show one of the classes, and one set of the others."""
    wanted = {name.casefold() for name in class_names}
    known = [example for example in examples if example.label.casefold() in wanted]
    other = [example for example in examples if example.label.casefold() not in wanted]
    sets = [
        ImageSet(
            name,
            tuple(example.path.name for example in chosen),
            tuple(example.label for example in chosen),
            lambda index, chosen=chosen: chosen[index].path.read_bytes(),  # type: ignore[misc]
        )
        for name, chosen in (("example photos of your classes", known), ("the other example photos", other))
    ]
    return (sets[0] if known else None), sets[1:] if other else []


def check_sets(known: ImageSet, others: Sequence[ImageSet], judge: Detector) -> None:
    """Raises Problem where there are too many images, or known ones of classes that the detector does not know."""
    total = len(known) + sum(len(one) for one in others)
    if total > MAX_IMAGES:
        raise Problem(
            "known" if len(known) > MAX_IMAGES / 2 else "others",
            f"{total:,} images were given; at most {MAX_IMAGES:,} are taken here. Give fewer, or use the command line.",
        )
    if known.classes is not None:
        at("known", lambda: class_targets(known.classes or (), judge, known.name))


@dataclass(frozen=True)
class Scored:
    """The images of one set that could be read.

    Attributes:
        images: the whole set.
        kept: indices of those that could be read, shape (M,).
        predicted: the class that the detector gives each, shape (M,).
        errors: a sentence for each of the others.
    """

    images: ImageSet
    kept: list[int]
    predicted: list[str]
    errors: list[str]


@dataclass(frozen=True)
class Report:
    """An evaluation and the sets it is of; `known` and `others` are in the order of its scores."""

    evaluation: Evaluation
    judge: Detector
    known: Scored
    others: list[Scored]


def methods_for(judge: Detector, encoder: Encoder) -> list[Method]:
    """The detector, and MCM on its own positive prompts where they are learned and on hand-written ones."""
    written = encoder.zero_shot(judge.class_names)
    methods = [Method(OURS, judge, judge.score_name)]
    if judge.config.get("method") != "zero-shot" and judge.score_name != "mcm":
        methods.append(Method(OWN_MCM, judge, "mcm"))
    return [*methods, Method(WRITTEN_MCM, written, "mcm")]


def measure(
    judge: Detector,
    encoder: Encoder,
    known: ImageSet,
    others: Sequence[ImageSet],
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
    check_sets(known, others, judge)
    total, before = len(known) + sum(len(one) for one in others), 0
    scored, features = [], []
    for images in (known, *others):
        found = extract_features(
            cast(ImageEncoder, encoder), images, cache=cache, batch_size=_BATCH, on_error="skip",
            progress=lambda done, _, before=before: progress(before + done, total),  # type: ignore[misc]
        )  # fmt: skip
        before += len(images)
        scored.append(_scored(images, found, judge, "known" if images is known else "others"))
        features.append(found.features)
    targets = None
    if known.classes is not None:
        targets = class_targets([known.classes[i] for i in scored[0].kept], judge, known.name)
    by_name = {images.name: found for images, found in zip(others, features[1:], strict=True)}
    evaluation = evaluate(methods_for(judge, encoder), features[0], targets, by_name, repeats=REPEATS, seed=SEED)
    return Report(evaluation, judge, scored[0], scored[1:])


def _scored(images: ImageSet, found: FeatureSet, judge: Detector, place: Place) -> Scored:
    errors = [problem for _, problem in found.errors]
    if not len(found.features):
        raise Problem(place, " ".join([f"{images.name}: none of the images could be read.", *errors[:3]]))
    predicted = [judge.class_names[i] for i in judge.classify_features(found.features).tolist()]
    return Scored(images, found.kept.tolist(), predicted, errors)


def _is_archive(file: tuple[str, str]) -> bool:
    return file[1].lower().endswith(_ARCHIVES)


def _open_archive(path: str, name: str, labelled: bool) -> ImageSet:
    source, stem = Path(path), Path(name).stem
    with calling(source, name):
        if name.lower().endswith(".zip"):
            packed = ZipSource(source, _LIMITS)
            chosen = [i for i, file in enumerate(packed.files) if Path(file).suffix.lower() in IMAGE_SUFFIXES]
            if not chosen:
                raise UserError(f"{name}: there are no image files in it.")
            if not labelled or not any("/" in packed.files[i] for i in chosen):
                names = tuple(packed.files[i] for i in chosen)
                return ImageSet(stem, names, None, lambda index: packed.read(chosen[index]))
        data: LabelledImages = load_data(source, _LIMITS)
        classes = tuple(data.class_names[label] for label in data.labels) if labelled else None
        return ImageSet(stem, data.names, classes, data.read)


def _loose(files: Sequence[tuple[str, str]]) -> ImageSet:
    def read(index: int) -> bytes:
        path, name = files[index]
        read_photo(path, name)  # refuses a file that is too large or gone
        return Path(path).read_bytes()

    return ImageSet("photos", tuple(name for _, name in files), None, read)


def _told_apart(sets: list[ImageSet]) -> list[ImageSet]:
    seen: Counter[str] = Counter()
    found = []
    for one in sets:
        seen[one.name] += 1
        name = one.name if seen[one.name] == 1 else f"{one.name} ({seen[one.name]})"
        found.append(ImageSet(name, one.names, one.classes, one.read))
    return found
