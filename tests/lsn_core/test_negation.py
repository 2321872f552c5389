"""The "not" probe against choices written out by hand, and on the embedded model with real photos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lsn_core import Backbone, Detector, UserError
from lsn_core.data.images import open_image
from lsn_core.negation import (
    REGION,
    NegationTable,
    choose,
    count_not,
    negation_table,
    region_prompts,
    wordings,
    written_prompts,
)
from lsn_core.prompts.written import NEGATIONS, fill, negate

NAMES = ("cat", "dog", "elephant")


def prompts_of(backbone: Backbone, positive: list[float], negative: list[list[float]]) -> tuple[Detector, Tensor]:
    """A detector and an image feature with exactly these cosines: the image is the first axis of the space."""
    size = 64

    def unit(cosine: float, place: int) -> Tensor:
        vector = torch.zeros(size)
        vector[0], vector[place] = cosine, (1 - cosine**2) ** 0.5
        return vector

    features = torch.stack([unit(value, 1 + i) for i, value in enumerate(np.concatenate([positive, *negative]))])
    stacked = features.unflatten(0, (1 + len(negative), len(positive)))
    config = {
        "positive_template": "a photo of a {}",
        "negative_templates": [f"no {k} {{}}" for k in range(len(negative))],
    }
    names = NAMES[: len(positive)]
    return Detector(backbone, names, stacked[0], stacked[1:], config=config), unit(1.0, 1)


def marks(table: NegationTable) -> dict[str, tuple[bool, int, int]]:
    return {row.text: (row.holds, row.compared, row.wrong) for row in table.rows}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("elephant", "not a photo of an elephant"),
        ("dog", "not a photo of a dog"),
        ("Airplane", "not a photo of an Airplane"),
        ("hourglass", "not a photo of an hourglass"),
        ("horse", "not a photo of a horse"),
        ("unicycle", "not a photo of a unicycle"),
        ("umbrella", "not a photo of an umbrella"),
        ("X-ray", "not a photo of an X-ray"),
        ("T-shirt", "not a photo of a T-shirt"),
        ("one-armed bandit", "not a photo of a one-armed bandit"),
        ("European fire salamander", "not a photo of a European fire salamander"),
    ],
)
def test_the_article_fits_the_name(name: str, text: str) -> None:
    assert fill("not a photo of a {}", name) == text


def test_only_the_article_before_the_name_changes() -> None:
    assert fill("a photo with no {}", "elephant") == "a photo with no elephant"
    assert fill("An {} in a photo", "dog") == "A dog in a photo"
    assert fill("pizza {}", "elephant") == "pizza elephant"  # no article ends "pizza"
    with pytest.raises(UserError, match="must hold"):
        fill("a photo", "dog")


def test_not_is_put_before_a_text_and_taken_away_again() -> None:
    assert negate("a photo of a dog") == "not a photo of a dog"
    assert negate("Not a photo of a dog") == "a photo of a dog"


def test_a_choice_is_the_softmax_at_the_models_temperature(tiny_backbone: Backbone) -> None:
    feature = torch.nn.functional.normalize(torch.randn(64, generator=torch.Generator().manual_seed(0)), dim=0)
    texts = ["a photo of a dog", "not a  photo of a dog ", "grass"]
    choice = choose(feature, texts, tiny_backbone)
    assert choice.texts == ("a photo of a dog", "not a photo of a dog", "grass")
    cosines = tiny_backbone.encode_texts(choice.texts).numpy().astype(np.float64) @ feature.numpy()
    weights = np.exp((cosines - cosines.max()) / tiny_backbone.temperature)
    assert choice.cosines == pytest.approx(cosines, abs=1e-6)
    assert choice.probabilities == pytest.approx(weights / weights.sum(), abs=1e-5)
    assert choice.chosen == choice.texts[int(cosines.argmax())]
    assert json.loads(json.dumps(choice.as_dict()))["chosen"] == choice.chosen


@pytest.mark.parametrize("texts", [[], ["one"], ["one", " "], ["one", "word " * 100]])
def test_texts_that_are_no_choice_are_refused(tiny_backbone: Backbone, texts: list[str]) -> None:
    with pytest.raises(UserError, match=r"\.$"):
        choose(torch.ones(64) / 8, texts, tiny_backbone)


def test_a_model_that_understands_has_no_mark(tiny_backbone: Backbone) -> None:
    prompts, feature = prompts_of(tiny_backbone, [0.9, 0.2, 0.1], [[0.1, 0.6, 0.7]])
    table = negation_table(prompts, feature, "cat")
    assert all(row.wrong == 0 for row in table.rows)
    assert [row.rank for row in table.rows][:4] == [1, 2, 3, 4]
    assert [row.text for row in table.rows][:3] == ["a photo of a cat", "no 0 elephant", "no 0 dog"]
    (tally,) = table.tallies
    assert (tally.opposites, tally.opposites_wrong, tally.rivals, tally.rivals_wrong) == (3, 0, 2, 0)


def test_a_bag_of_words_is_marked_wherever_a_false_text_beats_a_true_one(tiny_backbone: Backbone) -> None:
    # "no cat" fits a cat better than the other denials (Figure 3), and "a photo of a dog" better than "no dog".
    prompts, feature = prompts_of(tiny_backbone, [0.9, 0.5, 0.1], [[0.8, 0.4, 0.3]])
    table = negation_table(prompts, feature, "Cat")
    assert table.truth_given and table.known and table.predicted_class == "cat"
    assert marks(table) == {
        "a photo of a cat": (True, 3, 0),  # against no cat, a dog, an elephant
        "no 0 cat": (False, 3, 2),  # beats no dog and no elephant
        "a photo of a dog": (False, 2, 1),  # beats no dog
        "no 0 dog": (True, 2, 2),  # loses to a dog and to no cat
        "no 0 elephant": (True, 2, 1),  # loses to no cat
        "a photo of an elephant": (False, 2, 0),
    }
    (tally,) = table.tallies
    assert (tally.opposites_wrong, tally.rivals_wrong) == (1, 2)


def test_a_misclassified_photo_marks_the_positive_texts(tiny_backbone: Backbone) -> None:
    prompts, feature = prompts_of(tiny_backbone, [0.5, 0.9, 0.1], [[0.0, 1.0, 0.2], [0.6, 0.0, 0.2]])
    found = marks(negation_table(prompts, feature, "cat"))
    assert found["a photo of a cat"] == (True, 4, 2)  # loses to a dog, and to the second "no cat"
    assert found["a photo of a dog"] == (False, 3, 2)  # beats a cat, and the second "no dog"


def test_without_a_truth_the_predicted_class_is_taken(tiny_backbone: Backbone) -> None:
    prompts, feature = prompts_of(tiny_backbone, [0.1, 0.9, 0.2], [[0.3, 0.2, 0.4]])
    table = negation_table(prompts, feature)
    assert (table.truth, table.truth_given) == ("dog", False)
    assert marks(table) == marks(negation_table(prompts, feature, "dog"))


def test_for_a_photo_of_something_else_every_denial_is_true(tiny_backbone: Backbone) -> None:
    prompts, feature = prompts_of(tiny_backbone, [0.5, 0.1, 0.2], [[0.3, 0.2, 0.4]])
    table = negation_table(prompts, feature, "guitar")
    assert not table.known and table.tallies[0].rivals == 0
    assert all(row.holds == row.negated for row in table.rows)
    assert {row.text for row in table.rows if row.wrong} == {"a photo of a cat", "no 0 cat"}
    assert {row.compared for row in table.rows} == {1}


def test_equal_cosines_are_a_wrong_choice_and_share_a_rank(tiny_backbone: Backbone) -> None:
    features = torch.eye(64)[[0, 1]]
    prompts = Detector(tiny_backbone, ["cat", "dog"], features, features[None])
    table = negation_table(prompts, torch.eye(64)[0], "cat")
    assert [row.rank for row in table.rows] == [1, 1, 3, 3]
    assert table.tallies[0].opposites_wrong == 2
    assert [row.text for row in table.rows if row.negated] == ["learned negative 1: cat", "learned negative 1: dog"]


def test_probabilities_of_the_table_are_one_softmax(tiny_backbone: Backbone) -> None:
    prompts, feature = prompts_of(tiny_backbone, [0.9, 0.5, 0.1], [[0.8, 0.4, 0.3]])
    rows = negation_table(prompts, feature).rows
    logits = np.array([row.cosine for row in rows]) / tiny_backbone.temperature
    weights = np.exp(logits - logits.max())
    assert [row.probability for row in rows] == pytest.approx(weights / weights.sum(), abs=1e-9)


def test_counts_of_many_photos(tiny_backbone: Backbone) -> None:
    names = ["cat", "dog"]
    positive, negative = torch.eye(64)[:2], torch.eye(64)[2:4]
    prompts = Detector(tiny_backbone, names, positive, negative[None])
    images = torch.zeros(4, 64)
    for row, (cat, dog, no_cat, no_dog) in enumerate([(3, 1, 2, 2), (1, 2, 2, 1), (2, 1, 3, 0), (1, 1, 2, 2)]):
        images[row, :4] = torch.tensor([cat, dog, no_cat, no_dog], dtype=torch.float32)
    images = torch.nn.functional.normalize(images, dim=1)
    cat, dog = count_not(prompts, images, ["CAT", "dog", "cat", "guitar"])
    assert (cat.images, cat.chose_not, cat.images_of_class, cat.chose_not_of_class) == (4, 3, 2, 1)
    assert cat.wrong == 1  # the cat that is "no cat"; both others are "no cat", rightly
    assert (dog.images, dog.chose_not, dog.images_of_class, dog.chose_not_of_class) == (4, 2, 1, 0)
    assert dog.wrong == 1  # the third photo is "a dog"
    unlabelled = count_not(prompts, images)
    assert [item.chose_not for item in unlabelled] == [3, 2] and unlabelled[0].wrong is None
    assert [item.chose_not for item in count_not(prompts, images[:0])] == [0, 0]


def test_a_region_tells_which_class_it_is_not_where_written_negations_fail(embedded: Backbone, examples: Path) -> None:
    names = ["cat", "dog", "elephant", "flamingo", "zebra"]
    regions, written = region_prompts(embedded, names), written_prompts(embedded, names)
    for name in names:
        feature = embedded.encode_images([open_image(examples / f"{name}.jpg")])
        (tally,) = negation_table(regions, feature, name).tallies
        assert (tally.rivals, tally.rivals_wrong) == (4, 0) and tally.wording == REGION
        assert negation_table(written, feature, name).tallies[0].rivals_wrong == 4


def test_written_prompts_are_the_texts_themselves(tiny_backbone: Backbone) -> None:
    prompts = written_prompts(tiny_backbone, ["dog", "elephant"])
    assert prompts.negative.shape == (4, 2, 64) and wordings(prompts) == ("a photo of a {}", NEGATIONS)
    texts = [
        "not a photo of an elephant",
        "a photo with no elephant",
        "a photo without an elephant",
        "anything but an elephant",
    ]
    assert torch.allclose(prompts.negative[:, 1], tiny_backbone.encode_texts(texts), atol=1e-6)
    assert wordings(Detector.zero_shot(tiny_backbone, ["dog", "cat"]))[1] == ("not a photo of a {}",)


@pytest.mark.parametrize("negations", [[], ["no {}", "no {}"], ["no class"]])
def test_unusable_wordings_are_refused(tiny_backbone: Backbone, negations: list[str]) -> None:
    with pytest.raises(UserError, match=r"\."):
        written_prompts(tiny_backbone, NAMES, negations)


def test_the_embedded_clip_does_not_understand_not(embedded: Backbone, examples: Path) -> None:
    feature = embedded.encode_images([open_image(examples / "elephant.jpg")])
    assert choose(feature, ["a photo of an elephant", "a photo of a dog"], embedded).chosen == "a photo of an elephant"
    denied = choose(feature, ["not a photo of an elephant", "not a photo of a dog"], embedded)
    assert denied.chosen == "not a photo of an elephant"  # Figure 3: wrong
    table = negation_table(written_prompts(embedded, ["elephant", "dog", "cat", "zebra"]), feature, "elephant")
    assert table.tallies[0].rivals_wrong == 3


def test_learned_negatives_know_which_class_is_there(embedded: Backbone) -> None:
    # The shipped detector's own training images are not in the repository; a church is one of its classes.
    root = Path(__file__).resolve().parent.parent.parent
    detector = Detector.load(root / "checkpoints" / "detectors" / "imagenette.safetensors", embedded)
    feature = embedded.encode_images([open_image(root / "assets" / "examples" / "church.jpg")])
    written = negation_table(written_prompts(embedded, detector.class_names), feature, "church")
    learned = negation_table(detector, feature, "church")
    assert written.tallies[0].rivals_wrong == 9  # "not a church" fits best of all denials
    assert [tally.rivals_wrong for tally in learned.tallies] == [0, 0, 0]
