"""The case that best shows what learning changes: a written "not" fails where learned negative prompts are right."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from lsn_app.negation.answer import open_prompts
from lsn_app.serving.photos import read_photo
from lsn_app.serving.requests import DetectorRequest, Problem
from lsn_app.serving.store import Store
from lsn_app.shared.examples import Example
from lsn_core.class_names import fold_name
from lsn_core.negation import Tally, negation_table
from lsn_core.prompts.written import NEGATIVE_TEMPLATE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contrast:
    """One photo asked "Which class is it not?", by written and by learned prompts.

    Attributes:
        label: of the detector.
        example: the photo.
        truth: the class that it shows, as the detector calls it.
        compared: how often each kind of prompts chose between the "no" of that class and that of another.
        written_right, learned_right: how often each was right.
    """

    label: str
    example: Example
    truth: str
    compared: tuple[int, int]
    written_right: int
    learned_right: int

    @property
    def gain(self) -> float:
        """Share of right choices, learned less written, in [-1, 1]."""
        return self.learned_right / self.compared[1] - self.written_right / self.compared[0]


def choose_contrast(store: Store, examples: Sequence[Example]) -> Contrast | None:
    """The shipped detector and example with the largest gain; None where no example shows a class of one."""
    contrasts = []
    for label in store.detectors:
        try:
            written, learned, encoder = open_prompts(store, DetectorRequest("", label))
        except Problem as problem:
            log.warning("the shipped detector %s cannot be used: %s", label, problem)
            continue
        if learned is None or not len(learned.negative):
            continue
        names = {fold_name(name): name for name in learned.class_names}
        for example in examples:
            if (truth := names.get(fold_name(example.label))) is None:
                continue
            feature = encoder.encode_photo(read_photo(str(example.path), example.path.name))
            by_hand = [
                tally for tally in negation_table(written, feature, truth).tallies if tally.wording == NEGATIVE_TEMPLATE
            ]
            written_right, by_written = _rivals(by_hand)
            learned_right, by_learned = _rivals(negation_table(learned, feature, truth).tallies)
            if by_written and by_learned:
                compared = by_written, by_learned
                contrasts.append(Contrast(label, example, truth, compared, written_right, learned_right))
    return max(contrasts, key=lambda contrast: contrast.gain, default=None)


def _rivals(tallies: Sequence[Tally]) -> tuple[int, int]:
    compared = sum(tally.rivals for tally in tallies)
    return compared - sum(tally.rivals_wrong for tally in tallies), compared
