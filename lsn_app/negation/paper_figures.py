"""The paper's Figures 3, 4 and 8, asked again of example photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from lsn_app.serving.encoder import Encoder
from lsn_core import Backbone
from lsn_core.negation import Choice, choose
from lsn_core.prompts.written import NEGATIVE_TEMPLATE, POSITIVE_TEMPLATE, fill


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
        "without and with “not”",
        "In the paper CLIP chooses the elephant both times, so with “not” it is wrong.",
        "elephant.jpg",
        "elephant",
        ((Claim("elephant"), Claim("dog")), (Claim("elephant", True), Claim("dog", True))),
        (0, 0),
    ),
    Preset(
        4,
        "“not” before the loser",
        "Neither text is true at first. In the paper CLIP changes its mind as soon as the loser begins with “not”.",
        "zebra.jpg",
        "zebra",
        ((Claim("church"), Claim("guitar")),),
        (None, 1),
    ),
    Preset(
        8,
        "the name or the “not”?",
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
    """One choice between texts, and whether it is right where it is known which of them are true.

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
    for number, expected in enumerate(preset.paper):
        if number == len(pairs):  # the loser, now with "not", stands second
            winner, loser = sorted(pairs[-1], key=lambda claim: claim.text != rounds[-1].choice.chosen)
            pairs.append((winner, Claim(loser.name, True)))
        rounds.append(_round(pairs[number], preset.truth, expected, encoder, feature))
    return rounds


def _round(claims: tuple[Claim, Claim], truth: str, expected: int | None, encoder: Encoder, feature: Tensor) -> Round:
    choice = choose(feature, [claim.text for claim in claims], cast(Backbone, encoder))
    true = [claim.text for claim in claims if claim.holds(truth)]
    why = {0: "Neither text is true here.", 1: f"Only “{''.join(true)}” is true.", 2: "Both texts are true here."}[
        len(true)
    ]
    if expected is not None:
        same = choice.chosen == claims[expected].text
        why += " CLIP in the paper chooses the same." if same else " CLIP in the paper chooses the other one."
    return Round(choice, choice.chosen == true[0] if len(true) == 1 else None, why)
