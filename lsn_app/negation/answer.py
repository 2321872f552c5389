"""Questions about "not", answered from what is cached; the page and the public endpoint ask them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lsn_app.serving.encoder import Encoder
from lsn_app.serving.photos import Photo, read_photo
from lsn_app.serving.requests import DetectorRequest, Problem, open_saved, parse_classes, problem_at
from lsn_app.serving.store import Store
from lsn_app.shared.uploads import MAX_PHOTOS
from lsn_core import Backbone, Detector, UserError
from lsn_core.data.collection import ImageList
from lsn_core.negation import Choice, NotCount, choose, count_not, written_prompts
from lsn_core.prompts.written import negate


@dataclass(frozen=True)
class NegationRequest:
    """What the tab asks.

    Attributes:
        photo: the photo in question; None while there is none.
        texts: the two texts to choose from.
        detector: the classes of the table, and the detector whose learned prompts stand beside the written ones.
        truth: what the photo shows; empty where that is not known.
    """

    photo: Photo | None
    texts: tuple[str, str]
    detector: DetectorRequest
    truth: str = ""

    def open_encoder(self, store: Store) -> Encoder:
        """The backbone that is asked. Raises Problem where it cannot be had."""
        with problem_at("model"):
            return open_saved(store, self.detector.label, self.detector.backbone)[1]


def ask_texts(encoder: Encoder, photo: Photo, texts: Sequence[str]) -> Choice:
    """The text that the model chooses for a photo. Raises Problem for a user's mistake."""
    with problem_at("photo"):
        feature = encoder.encode_photo(photo)
    with problem_at("texts"):
        return choose(feature, texts, cast(Backbone, encoder))


def ask_negated(encoder: Encoder, photo: Photo, texts: Sequence[str]) -> tuple[Choice, Choice]:
    """The choice between texts, and the one after "not" was put before the text that lost (Figure 4), or taken away."""
    before = ask_texts(encoder, photo, texts)
    loser = before.cosines.index(min(before.cosines))
    changed = [negate(text) if index == loser else text for index, text in enumerate(before.texts)]
    return before, ask_texts(encoder, photo, changed)


def open_prompts(store: Store, wanted: DetectorRequest) -> tuple[Detector, Detector | None, Encoder]:
    """Written prompts for the classes asked about, and the saved detector with its learned ones for the same classes.

    Raises Problem for a user's mistake. Without a saved detector, the second is None.
    """
    with problem_at("model"):
        learned, encoder = open_saved(store, wanted.label, wanted.backbone)
    with problem_at("classes"):
        names = learned.class_names if learned else parse_classes(wanted.classes)
        return written_prompts(cast(Backbone, encoder), names), learned, encoder


@dataclass(frozen=True)
class Counts:
    """What many photos chose.

    Attributes:
        photos: number of photos asked.
        written: counts of the hand-written prompts.
        learned: counts of the detector's prompts; empty without a detector.
        errors: a sentence for each photo left out.
    """

    photos: int
    written: list[NotCount]
    learned: list[NotCount]
    errors: list[str]


def count_photos(
    encoder: Encoder,
    written: Detector,
    learned: Detector | None,
    images: ImageList,
    progress: Callable[[int, int], None] | None = None,
) -> Counts:
    """Asks every photo about every class; those met before come from the cache. Raises Problem where none is usable.

    Args:
        progress: called with (photos done, photos in all).
    """
    encoded = encoder.encode_all(images, progress)
    errors = [problem for _, problem in encoded.errors]
    if not len(encoded.kept):
        raise Problem("files", " ".join(["None of the photos could be read.", *errors[:3]]))
    truths = None if images.classes is None else images.subset(encoded.kept.tolist()).classes
    return Counts(
        len(encoded.kept),
        count_not(written, encoded.features, truths),
        count_not(learned, encoded.features, truths) if learned is not None else [],
        errors,
    )


def probe_line(store: Store, path: str, name: str, texts: Sequence[str]) -> dict[str, Any]:
    """A choice between texts on the default backbone, with `error` set where there is none.

    Args:
        path: the image file.
        name: what to call it.
        texts: two or more.
    """
    line: dict[str, Any] = {"file": name, "texts": list(texts), "cosines": [], "probabilities": [], "chosen": None}
    try:
        if len(texts) > MAX_PHOTOS:
            raise UserError(f"{len(texts):,} texts were given; at most {MAX_PHOTOS:,} are taken. Give fewer.")
        choice = ask_texts(store.encoder(store.default), read_photo(path, name), texts)
    except (Problem, UserError) as error:
        return {**line, "error": str(error)}
    return {**line, **choice.as_dict(), "error": None}
