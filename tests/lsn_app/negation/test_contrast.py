"""The case that shows what learning changes, against the library's own tables."""

from __future__ import annotations

from pathlib import Path

from lsn_app.negation.contrast import choose_contrast
from lsn_app.negation.words import contrast_card
from lsn_app.serving.store import Store
from lsn_app.shared.examples import load_examples
from lsn_core import Backbone, Detector
from lsn_core.data.images import open_image
from lsn_core.negation import negation_table, written_prompts


def test_the_chosen_case_is_what_the_library_says_of_it(embedded: Backbone) -> None:
    store = Store("embedded")
    contrast = choose_contrast(store, load_examples())
    assert contrast is not None and contrast.gain > 0
    feature = embedded.encode_images([open_image(contrast.example.path)])
    learned = Detector.load(store.detectors[contrast.label], embedded)
    by_hand = negation_table(written_prompts(embedded, learned.class_names), feature, contrast.truth).tallies
    first = next(tally for tally in by_hand if tally.wording == "not a photo of a {}")
    assert (first.rivals - first.rivals_wrong, first.rivals) == (contrast.written_right, contrast.compared[0])
    trained = negation_table(learned, feature, contrast.truth).tallies
    assert sum(tally.rivals - tally.rivals_wrong for tally in trained) == contrast.learned_right
    card = contrast_card(contrast)
    assert f"{contrast.written_right} of {contrast.compared[0]} right" in card
    assert f"{contrast.learned_right} of {contrast.compared[1]} right" in card


def test_without_detectors_there_is_no_case(tmp_path: Path) -> None:
    assert choose_contrast(Store("embedded", detectors_dir=tmp_path), load_examples()) is None
