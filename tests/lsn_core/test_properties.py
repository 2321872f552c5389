"""What holds for any input: drawn by Hypothesis, the same ones each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import MadeUpBackbone, unit_vectors

from lsn_core import Backbone, Detector
from lsn_core.calibration import Calibration
from lsn_core.class_names import check_class_names, fold_name, join_class_names, split_class_names, tidy_name
from lsn_core.scores.registry import SCORES, usable_scores

settings.register_profile("few", max_examples=25, deadline=None, derandomize=True, database=None)
settings.load_profile("few")

CLASSES, SETS, DIM = 5, 2, 16
NAMES = [f"class {i}" for i in range(CLASSES)]
SCORABLE = [name for name in SCORES if name in usable_scores(CLASSES, frozenset({"nouns", "negatives"}))]
seeds = st.integers(0, 10**6)
# Any text but control characters and halves of surrogate pairs, which are refused.
letters = st.characters(exclude_categories=["Cs", "Cc"])
names = st.text(letters, min_size=1, max_size=20).map(tidy_name).filter(bool)
lists = st.lists(names, min_size=1, max_size=8, unique_by=fold_name)


def detector(seed: int, order: list[int] | None = None, **options: object) -> Detector:
    """Random prompts of the classes, in this order."""
    order = list(range(CLASSES)) if order is None else order
    positive = unit_vectors(CLASSES, seed, DIM)[order]
    negative = unit_vectors(SETS * CLASSES, seed + 1, DIM).unflatten(0, (SETS, CLASSES))[:, order]
    return Detector(MadeUpBackbone(), [NAMES[i] for i in order], positive, negative, **options)  # type: ignore[arg-type]


@given(seeds, st.permutations(range(12)), st.integers(1, 12), st.sampled_from(SCORABLE))
def test_a_score_depends_on_no_neighbour_order_or_batch(seed: int, order: list[int], size: int, score: str) -> None:
    one, features = detector(seed), unit_vectors(12, seed + 2, DIM)
    alone = torch.cat([one.score_features(row[None], score) for row in features])
    mixed = torch.cat([one.score_features(part, score) for part in features[order].split(size)])
    torch.testing.assert_close(mixed, alone[order], atol=1e-5, rtol=1e-5)


@settings(max_examples=8)
@given(seeds, st.permutations(range(6)), st.integers(1, 6))
def test_nor_does_the_score_of_a_picture(tiny_backbone: Backbone, seed: int, order: list[int], size: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(rng.integers(0, 256, (*rng.integers(8, 60, 2), 3), dtype=np.uint8)) for _ in range(6)]
    features = unit_vectors(6, seed, tiny_backbone.dim)
    one = Detector(tiny_backbone, ["dog", "cat", "hen"], features[:3], features[None, 3:])
    alone = torch.tensor([one.predict([picture])[0].score for picture in pictures])
    mixed = torch.tensor([found.score for found in one.predict([pictures[i] for i in order], batch_size=size)])
    torch.testing.assert_close(mixed, alone[order], atol=1e-5, rtol=1e-4)


@given(seeds, st.permutations(range(CLASSES)), st.sampled_from(SCORABLE))
def test_classes_in_another_order_give_the_same_of_each(seed: int, order: list[int], score: str) -> None:
    features = unit_vectors(6, seed + 2, DIM)
    plain, permuted = detector(seed, score_name=score), detector(seed, order, score_name=score)
    found = zip(plain.predict_features(features), permuted.predict_features(features), strict=True)
    for one, other in found:
        assert one.predicted_class == other.predicted_class and one.verdict == other.verdict
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.positive == pytest.approx(other.positive, abs=1e-6)
        assert one.negative.keys() == other.negative.keys()
        for name in NAMES:
            assert one.negative[name] == pytest.approx(other.negative[name], abs=1e-6)


@given(seeds, st.integers(1, 60), st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6))
def test_what_is_in_distribution_stays_so_when_more_is_to_be_kept(seed: int, count: int, rates: list[float]) -> None:
    one = detector(seed).calibrate(unit_vectors(count, seed + 3, DIM))
    features = unit_vectors(10, seed + 2, DIM)
    before: set[int] = set()
    threshold = np.inf
    for rate in sorted(rates):
        verdicts = one.predict_features(features, rate)
        kept = {index for index, verdict in enumerate(verdicts) if verdict.verdict == "ID"}
        assert before <= kept and one.threshold(rate) <= threshold
        before, threshold = kept, one.threshold(rate)


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_p_values_of_exchangeable_scores_are_uniform(count: int, seed: int) -> None:
    """Each of M + 1 exchangeable scores is the new one once: its p-values are then 1, ..., M + 1 of M + 1."""
    scores = np.random.default_rng(seed).normal(size=count + 1)
    p_values = [float(Calibration(np.delete(scores, new)).p_values(scores[new])) for new in range(count + 1)]
    np.testing.assert_allclose(sorted(p_values), np.arange(1, count + 2) / (count + 1))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_nor_are_they_too_small_where_scores_are_equal(scores: list[int], alpha: float) -> None:
    p_values = [float(Calibration(scores[:i] + scores[i + 1 :]).p_values(scores[i])) for i in range(len(scores))]
    assert np.mean(np.array(p_values) <= alpha) <= alpha + 1e-9


@settings(max_examples=15)
@given(
    seeds, lists.filter(lambda found: len(found) > 1), st.integers(0, 40), st.sampled_from(["lsn", "mcm", "max-cosine"])
)
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, seed: int, classes: list[str], calibrated: int, score: str
) -> None:
    backbone = MadeUpBackbone()
    positive = unit_vectors(len(classes), seed, DIM)
    one = Detector(backbone, classes, positive, positive.flip(0)[None], score_name=score)  # type: ignore[arg-type]
    if calibrated:
        one = one.calibrate(unit_vectors(calibrated, seed + 3, DIM))
    path: Path = tmp_path_factory.mktemp("saved") / "d.safetensors"
    one.save(path)
    other = Detector.load(path, backbone)  # type: ignore[arg-type]
    features = F.normalize(unit_vectors(4, seed + 2, DIM), dim=-1)
    assert other.predict_features(features) == one.predict_features(features)
    assert other.class_names == one.class_names and other.config == one.config and other.fit == one.fit
    again = path.with_name("again.safetensors")
    other.save(again)
    assert again.read_bytes() == path.read_bytes()


@settings(max_examples=300)
@given(lists)
def test_a_list_that_is_written_loses_no_name(classes: list[str]) -> None:
    assert check_class_names(split_class_names(join_class_names(classes))) == check_class_names(classes)


@settings(max_examples=200)
@given(
    st.lists(st.text("abcxyz0123 -.()", min_size=1, max_size=8), min_size=1, max_size=8),
    st.sampled_from([", ", ";", "\n"]),
)
def test_nor_does_one_that_a_person_writes(entries: list[str], separator: str) -> None:
    """Whatever is no separator is found in the names: but for what counts them up, and bullets."""
    found = split_class_names(separator.join(entries))
    wanted = [" ".join(entry.split()) for entry in entries if entry.strip()]
    assert len(found) == len(wanted)
    assert all(" ".join(name.split()) in entry for name, entry in zip(found, wanted, strict=True))


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_no_text_ends_in_anything_but_a_list(text: str) -> None:
    assert all(name.strip() for name in split_class_names(text))
