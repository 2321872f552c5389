"""Questions about "not", answered from what is cached; the page and the public endpoint ask them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from lsn_app.detect.batch import MAX_PHOTOS, ZIP_LIMITS
from lsn_app.serving.photos import Item, Photo, read_file, read_photo
from lsn_app.serving.requests import Problem, at, open_detector
from lsn_app.serving.store import Encoder, Store
from lsn_app.shared.words import parse_classes
from lsn_core import Backbone, Detector, UserError
from lsn_core.data.labelled import load_data
from lsn_core.detector.detector import NEGATIVE_TEMPLATE, POSITIVE_TEMPLATE
from lsn_core.negation import Choice, NotCount, choose, count_not, fill, negate, written_prompts


@dataclass(frozen=True)
class Claim:
    """A text about a class, which is true or not of what a photo shows."""

    name: str
    negated: bool = False

    @property
    def text(self) -> str:
        """ "a photo of an elephant", or "not a photo of an elephant"."""
        return fill(NEGATIVE_TEMPLATE if self.negated else POSITIVE_TEMPLATE, self.name)

    def holds(self, truth: str) -> bool:
        """Whether it is true of a photo that shows `truth`."""
        return (self.name == truth) != self.negated


@dataclass(frozen=True)
class Preset:
    """A figure of the paper, asked again of an example photo.

    Attributes:
        figure: its number in the paper.
        title: what it is about, for a button.
        says: what the paper found.
        photo: file name of the example.
        truth: what the example shows.
        pairs: texts to choose from, pair after pair.
        paper: which text of each pair the paper's CLIP chooses, 0 or 1; None where the paper does not say. One entry
            more than pairs has the last pair asked again with "not" before the text that lost.
    """

    figure: int
    title: str
    says: str
    photo: str
    truth: str
    pairs: tuple[tuple[Claim, Claim], ...]
    paper: tuple[int | None, ...]


PRESETS = (
    Preset(
        3,
        "the right class, without and with “not”",
        "In the paper CLIP chooses the elephant both times, so with “not” it is wrong.",
        "elephant.jpg",
        "elephant",
        ((Claim("elephant"), Claim("dog")), (Claim("elephant", True), Claim("dog", True))),
        (0, 0),
    ),
    Preset(
        4,
        "add “not” to the text that lost",
        "Neither text is true at first. In the paper CLIP changes its mind as soon as the loser begins with “not”.",
        "zebra.jpg",
        "zebra",
        ((Claim("church"), Claim("guitar")),),
        (None, 1),
    ),
    Preset(
        8,
        "what counts, the right name or the “not”?",
        "In the paper CLIP takes the text that names the right class, “not” or no “not”; where no text names it, the "
        "one with “not”.",
        "cat.jpg",
        "cat",
        (
            (Claim("cat", True), Claim("dog")),
            (Claim("cat", True), Claim("dog", True)),
            (Claim("dog"), Claim("flamingo", True)),
        ),
        (0, 0, 1),
    ),
)


@dataclass(frozen=True)
class Round:
    """One choice between texts, judged where it is known which of them are true.

    Attributes:
        choice: the model's.
        right: whether it is right; None where it is not known, or where all texts are true or none is.
        why: a sentence on that; empty where nothing is known.
    """

    choice: Choice
    right: bool | None = None
    why: str = ""


def play(preset: Preset, encoder: Encoder, feature: Tensor) -> list[Round]:
    """The preset's choices one after the other; feature of shape (1, D)."""
    rounds: list[Round] = []
    pairs = list(preset.pairs)
    for place, expected in enumerate(preset.paper):
        if place == len(pairs):  # the loser, now with "not", stands second
            winner, loser = sorted(pairs[-1], key=lambda claim: claim.text != rounds[-1].choice.chosen)
            pairs.append((winner, Claim(loser.name, True)))
        rounds.append(_judged(pairs[place], preset.truth, expected, encoder, feature))
    return rounds


def _judged(claims: tuple[Claim, Claim], truth: str, expected: int | None, encoder: Encoder, feature: Tensor) -> Round:
    choice = choose(feature, [claim.text for claim in claims], cast(Backbone, encoder))
    true = [claim.text for claim in claims if claim.holds(truth)]
    why = {0: "Neither text is true here.", 1: f"Only “{''.join(true)}” is true.", 2: "Both texts are true here."}[
        len(true)
    ]
    if expected is not None:
        same = choice.chosen == claims[expected].text
        why += " CLIP in the paper chooses the same." if same else " CLIP in the paper chooses the other one."
    return Round(choice, choice.chosen == true[0] if len(true) == 1 else None, why)


def ask_texts(encoder: Encoder, photo: Photo, texts: Sequence[str]) -> Choice:
    """The text that the model chooses for a photo. Raises Problem for a user's mistake."""
    feature = at("photo", lambda: encoder.encode_photo(photo))
    return at("texts", lambda: choose(feature, texts, cast(Backbone, encoder)))


def ask_negated(encoder: Encoder, photo: Photo, texts: Sequence[str]) -> tuple[Choice, Choice]:
    """The choice between texts, and the one after "not" was put before the text that lost (Figure 4), or taken away."""
    before = ask_texts(encoder, photo, texts)
    loser = before.cosines.index(min(before.cosines))
    changed = [negate(text) if place == loser else text for place, text in enumerate(before.texts)]
    return before, ask_texts(encoder, photo, changed)


def open_prompts(store: Store, classes: str, label: str, backbone: str) -> tuple[Detector, Detector | None, Encoder]:
    """Written prompts for the classes asked about, and the chosen detector with its learned ones for the same classes.

    Args:
        classes: as typed; of no meaning where a detector is chosen, which asks about its own.
        label: of a shipped detector, or ZERO_SHOT for none.
        backbone: name of the backbone; of no meaning where a detector is chosen.
    """
    learned, encoder = at("model", lambda: open_detector(store, label, backbone))
    names = learned.class_names if learned else at("classes", lambda: parse_classes(classes))
    return at("classes", lambda: written_prompts(cast(Backbone, encoder), names)), learned, encoder


def find_photos(files: Sequence[tuple[str, str]]) -> list[Item]:
    """The photos that uploaded files stand for.

    Args:
        files: path and name of each: photos, or one zip of class folders.

    Raises:
        Problem: too many, or a zip beside other files or without class folders.
    """
    zips = [file for file in files if file[1].lower().endswith(".zip")]
    if zips and len(files) > 1:
        raise Problem("files", "Give either photos or one zip of class folders, not both.")
    if zips:
        path, name = zips[0]
        try:
            data = load_data(path, ZIP_LIMITS)
        except UserError as error:
            raise Problem("files", str(error).replace(path, name)) from error
        items = [Item(data.names[i], partial(data.read, i), data.class_names[data.labels[i]]) for i in range(len(data))]
    else:
        items = [Item(name, partial(read_file, path, name)) for path, name in files]
    if len(items) > MAX_PHOTOS:
        raise Problem("files", f"{len(items):,} photos were given; at most {MAX_PHOTOS:,} are taken. Give fewer.")
    return items


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
    items: Sequence[Item],
    on_done: Callable[[int], object] = lambda count: None,
) -> Counts:
    """Asks every photo about every class; those met before come from the cache. Raises Problem where none is usable.

    Args:
        on_done: called with the number of photos done since it was called last.
    """
    found = encoder.encode_many(items, on_done)
    features = [feature for feature in found if isinstance(feature, Tensor)]
    truths = [item.truth for item, feature in zip(items, found, strict=True) if isinstance(feature, Tensor)]
    errors = [str(error) for error in found if isinstance(error, UserError)]
    if not features:
        raise Problem("files", " ".join(["None of the photos could be read.", *errors[:3]]))
    known = [truth for truth in truths if truth is not None]
    stacked, labels = torch.cat(features), known or None
    return Counts(
        len(features),
        count_not(written, stacked, labels),
        count_not(learned, stacked, labels) if learned is not None else [],
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
