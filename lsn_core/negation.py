"""Does CLIP understand "not"? Questions about negation for image features and written or learned prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.class_names import check_class_names, find_name, fold_name, tidy_name
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.prompts.regions import ANCHOR, region_without
from lsn_core.prompts.written import NEGATIONS, POSITIVE_TEMPLATE, fill

REGION = f"no text: the region near “{ANCHOR}”, far from {{}}"

_Text = tuple[int, int]  # (wording, class); wording 0 is the positive one


@dataclass(frozen=True)
class Choice:
    """Which of two or more texts the model holds to describe an image.

    Attributes:
        texts: as asked, shape (T,).
        cosines: cosine of the image to each text, shape (T,), in [-1, 1].
        probabilities: their softmax at the model's own temperature, shape (T,), in [0, 1].
        chosen: the text with the largest cosine, the first of equal ones.
    """

    texts: tuple[str, ...]
    cosines: tuple[float, ...]
    probabilities: tuple[float, ...]
    chosen: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One text of a negation table.

    Attributes:
        text: the prompt in words.
        class_name: the class it is about.
        wording: its template.
        negated: whether it denies the class.
        holds: whether it is true of the image.
        cosine: to the image, in [-1, 1].
        probability: softmax over all texts of the table at the model's own temperature, in [0, 1].
        rank: 1 for the largest cosine; equal cosines share a rank.
        compared: number of texts it is compared with (see `negation_table`).
        wrong: in how many of these comparisons the false text is chosen, in [0, compared].
    """

    text: str
    class_name: str
    wording: str
    negated: bool
    holds: bool
    cosine: float
    probability: float
    rank: int
    compared: int
    wrong: int


@dataclass(frozen=True)
class Tally:
    """How one negative wording fared.

    Attributes:
        wording: its template.
        opposites, opposites_wrong: comparisons with the positive text of the same class, and wrong choices among them.
        rivals, rivals_wrong: comparisons of the denial of the true class with those of other classes, and wrong choices
            among them; 0 for an image that shows none of the classes.
    """

    wording: str
    opposites: int
    opposites_wrong: int
    rivals: int
    rivals_wrong: int


@dataclass(frozen=True)
class NegationTable:
    """All texts about one image, and where the model's order of them is wrong.

    Attributes:
        truth: what the image shows; may be none of the classes.
        truth_given: False where `truth` is only the predicted class.
        known: whether `truth` is one of the classes.
        predicted_class: the class whose positive text fits best.
        rows: best first, shape (C * (1 + K),).
        tallies: one for each negative wording, shape (K,).
    """

    truth: str
    truth_given: bool
    known: bool
    predicted_class: str
    rows: tuple[Row, ...]
    tallies: tuple[Tally, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class NotCount:
    """How often the denial of a class was chosen over its positive text, one image after the other (Figures 9-12).

    Attributes:
        class_name, wording: which pair of texts.
        images: number of images asked.
        chose_not: how many of them chose the denial.
        images_of_class: how many show the class, for which choosing the denial is wrong; None where that is not known.
        chose_not_of_class: how many of those chose the denial.
    """

    class_name: str
    wording: str
    images: int
    chose_not: int
    images_of_class: int | None = None
    chose_not_of_class: int | None = None

    @property
    def wrong(self) -> int | None:
        """Wrong choices, in [0, images]: a denial of what is there, or none of what is not. None if not known."""
        if self.images_of_class is None or self.chose_not_of_class is None:
            return None
        of_others = (self.images - self.images_of_class) - (self.chose_not - self.chose_not_of_class)
        return self.chose_not_of_class + of_others

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "wrong": self.wrong}


def choose(feature: Tensor, texts: Sequence[str], backbone: Backbone) -> Choice:
    """Has the model choose the text that describes an image.

    Args:
        feature: image feature, shape (D,) or (1, D), unit length.
        texts: two or more, not empty.

    Raises:
        UserError: fewer than two texts, an empty one, or one too long for the text tower.
    """
    texts = tuple(" ".join(text.split()) for text in texts)
    if len(texts) < 2 or not all(texts):
        raise UserError("Two texts or more are needed to choose from, and none may be empty. Write another one.")
    cosines = (backbone.encode_texts(texts) @ feature.float().cpu().reshape(-1)).double()
    probabilities = (cosines / backbone.temperature).softmax(dim=0)
    return Choice(texts, tuple(cosines.tolist()), tuple(probabilities.tolist()), texts[int(cosines.argmax())])


def written_prompts(
    backbone: Backbone,
    class_names: Sequence[str],
    negations: Sequence[str] = NEGATIONS,
    positive: str = POSITIVE_TEMPLATE,
) -> Detector:
    """Hand-written prompts as a detector with one negative set a wording, so that learned ones are asked alike.

    Args:
        class_names: C names.
        negations: K templates, each with {} once; "a" before {} becomes "an" where the name asks for it.
        positive: template of the positive prompt.

    Raises:
        UserError: unusable class names or templates, or a text too long for the text tower.
    """
    names = check_class_names(class_names)
    if not negations or len(set(negations)) < len(negations):
        raise UserError("At least one negative wording is needed, each given once.")
    texts = [fill(template, name) for template in (positive, *negations) for name in names]
    features = backbone.encode_texts(texts).unflatten(0, (1 + len(negations), len(names)))
    config = {"method": "zero-shot", "positive_template": positive, "negative_templates": list(negations)}
    return Detector(backbone, names, features[0], features[1:], config=config)


def region_prompts(backbone: Backbone, class_names: Sequence[str]) -> Detector:
    """A negation that is no text but a region, see `region_without`, as a detector with one negative set.

    Args:
        class_names: C names.

    Raises:
        UserError: unusable class names, or a text too long for the text tower.
    """
    names = check_class_names(class_names)
    *texts, anchor = backbone.encode_texts([*(fill(POSITIVE_TEMPLATE, name) for name in names), ANCHOR])
    positive = torch.stack(texts)
    config = {"method": "zero-shot", "positive_template": POSITIVE_TEMPLATE, "negative_templates": [REGION]}
    return Detector(backbone, names, positive, region_without(anchor, positive)[None], config=config)


def wordings(prompts: Detector) -> tuple[str, tuple[str, ...]]:
    """Templates of the positive and of the K negative prompts; learned ones, which are no words, are numbered."""
    config = prompts.config
    written = config.get("negative_templates") or [config[key] for key in ("negative_template",) if key in config]
    if len(written) == len(prompts.negative):
        return str(config["positive_template"]), tuple(written)
    return "learned positive: {}", tuple(f"learned negative {k + 1}: {{}}" for k in range(len(prompts.negative)))


def negation_table(prompts: Detector, feature: Tensor, truth: str | None = None) -> NegationTable:
    """All positive and negative prompts ranked for one image, wrong choices counted.

    A positive text holds when the image shows its class, a negative one when it does not. These pairs, of which exactly
    one text holds, are compared, and a choice is wrong when the false text scores as high as the true one or higher:

    - opposites: each negative text with the positive text of the same class;
    - rivals: the denial of the true class (false) with the denial of every other class in the same wording (true), the
      paper's Figure 3;
    - the positive text of the true class with those of the others, which is classification.

    So the denial of what is there is marked when it beats something true, the denial of anything else when it loses.

    Args:
        prompts: `written_prompts`, or a trained detector: then the learned prompts are asked.
        feature: image feature, shape (D,) or (1, D), unit length.
        truth: what the image shows, in any spelling that `fold_name` takes as the same. A name that is none of the
            classes makes every denial true; None takes the class whose positive text fits best.
    """
    positive, negative = (part[0].double() for part in prompts.cosines(feature.reshape(1, -1)))  # (C,), (K, C)
    names = prompts.class_names
    predicted = names[int(positive.argmax())]
    truth_name = tidy_name(truth or "") or predicted
    there = find_name(truth_name, names)
    cosines = torch.cat([positive[None], negative])  # (1 + K, C)
    probabilities = (cosines / prompts.backbone.temperature).flatten().softmax(dim=0).view_as(cosines)
    compared, wrong = np.zeros(cosines.shape, int), np.zeros(cosines.shape, int)
    wrong_by_kind: Counter[tuple[str, int]] = Counter()
    values = cosines.tolist()
    for kind, true, false in _pairs(len(negative), len(names), there):
        mistaken = values[false[0]][false[1]] >= values[true[0]][true[1]]
        wrong_by_kind[kind, true[0] or false[0]] += mistaken
        for text in (true, false):
            compared[text] += 1
            wrong[text] += mistaken
    flat = -cosines.flatten().numpy()
    order = np.argsort(flat, kind="stable")
    ranks = 1 + np.searchsorted(flat[order], flat, side="left").reshape(cosines.shape)
    first, others = wordings(prompts)
    templates = (first, *others)
    rows = [
        Row(
            text=fill(templates[k], names[c]),
            class_name=names[c],
            wording=templates[k],
            negated=k > 0,
            holds=(c == there) != (k > 0),
            cosine=values[k][c],
            probability=float(probabilities[k, c]),
            rank=int(ranks[k, c]),
            compared=int(compared[k, c]),
            wrong=int(wrong[k, c]),
        )
        for k, c in (divmod(int(text), len(names)) for text in order)
    ]
    rivals = 0 if there is None else len(names) - 1
    tallies = [
        Tally(wording, len(names), wrong_by_kind["opposites", k], rivals, wrong_by_kind["rivals", k])
        for k, wording in enumerate(others, start=1)
    ]
    given = bool(tidy_name(truth or ""))
    return NegationTable(truth_name, given, there is not None, predicted, tuple(rows), tuple(tallies))


def _pairs(sets: int, classes: int, there: int | None) -> Iterator[tuple[str, _Text, _Text]]:
    """Kind, true text and false text of each comparison; `there` is the class that the image shows, None for none."""
    for k in range(1, 1 + sets):
        for c in range(classes):
            yield ("opposites", (0, c), (k, c)) if c == there else ("opposites", (k, c), (0, c))
    if there is None:
        return
    for c in set(range(classes)) - {there}:
        for k in range(1, 1 + sets):
            yield "rivals", (k, c), (k, there)
        yield "classification", (0, there), (0, c)


def count_not(prompts: Detector, features: Tensor, truths: Sequence[str] | None = None) -> list[NotCount]:
    """Asks every image about every class: "a photo of a X", or "not a photo of a X"? (Figures 9-12.)

    Args:
        prompts: `written_prompts`, or a trained detector: then the learned prompts are asked.
        features: image features, shape (N, D), unit length.
        truths: what each image shows, shape (N,); names outside the classes are allowed. None where it is not known.

    Returns:
        One count for each wording and class, wording by wording, shape (K * C,). A denial is chosen when its cosine is
        the larger one of the two.
    """
    if truths is not None and len(truths) != len(features):
        raise ValueError(f"{len(truths)} truths for {len(features)} images")
    positive, negative = prompts.cosines(features)
    denied = (negative > positive[:, None]).numpy()  # (N, K, C)
    true_names = None if truths is None else np.array([fold_name(name) for name in truths], dtype=object)
    counts = []
    for k, wording in enumerate(wordings(prompts)[1]):
        for c, name in enumerate(prompts.class_names):
            members = None if true_names is None else true_names == fold_name(name)
            counts.append(
                NotCount(
                    class_name=name,
                    wording=wording,
                    images=len(features),
                    chose_not=int(denied[:, k, c].sum()),
                    images_of_class=None if members is None else int(members.sum()),
                    chose_not_of_class=None if members is None else int(denied[members, k, c].sum()),
                )
            )
    return counts
