"""What every registered score keeps to, on a made-up world in which each of them can tell known images from others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lsn_core import UserError
from lsn_core.detector.prompts import FixedPrompts
from lsn_core.scores.photos import KnownPhotos
from lsn_core.scores.registry import (
    BIAS,
    MEANS,
    NEGATIVES,
    NOUNS,
    PHOTOS,
    SCORES,
    TERMS,
    UNITS,
    WHOLE,
    ScoreInputs,
    Units,
    check_usable,
    score_parts,
    spreads,
    total,
    usable_scores,
)

C, K, D, NOUN_COUNT = 4, 2, 24, 15
OWN_BIAS = -60.0  # of a made-up backbone with a sigmoid, whose τ is 0.01
SINGLE = [name for name, score in SCORES.items() if not score.sum_of]


@dataclass(frozen=True)
class World:
    """Classes, a negative prompt for each, nouns, photos and images; one direction for each class and for each noun."""

    positive: Tensor
    negative: Tensor
    written: Tensor
    nouns: Tensor
    photos: KnownPhotos
    known: Tensor
    unknown: Tensor

    def inputs(self, images: Tensor) -> ScoreInputs:
        prompts = FixedPrompts(self.positive, self.negative)
        return ScoreInputs(images, prompts, lambda: self.written, 0.01, lambda: self.nouns, self.photos, None, OWN_BIAS)

    def units(self) -> Units:
        return {name: spreads(score_parts(name, self.inputs(self.known), {})) for name in SINGLE}

    def score(self, name: str, images: Tensor) -> Tensor:
        return total(score_parts(name, self.inputs(images), self.units()))

    def permuted(self, order: list[int]) -> World:
        place = torch.tensor(order).argsort()
        photos = replace(self.photos, labels=place[self.photos.labels])
        return replace(
            self,
            positive=self.positive[order],
            negative=self.negative[:, order],
            written=self.written[order],
            photos=photos,
        )


@pytest.fixture(scope="module")
def world() -> World:
    generator = torch.Generator().manual_seed(0)

    def near(directions: Tensor, noise: float = 0.05) -> Tensor:
        return F.normalize(directions + noise * torch.randn(directions.shape, generator=generator), dim=-1)

    axes = torch.eye(D)
    classes, others = axes[:C], axes[C : C + NOUN_COUNT]
    # "No dog" fits what shows another class or a noun.
    rest = F.normalize(classes.sum(dim=0) - classes + others.sum(dim=0), dim=-1)
    labels = torch.arange(40) % C
    return World(
        positive=near(classes),
        negative=torch.stack([near(rest) for _ in range(K)]),
        written=near(classes, 0.1),
        nouns=near(others),
        photos=KnownPhotos(near(classes[labels]), labels, C),
        known=near(classes[torch.arange(12) % C]),
        unknown=near(others),
    )


every_score = pytest.mark.parametrize("name", SCORES)


@every_score
def test_known_images_score_higher(name: str, world: World) -> None:
    assert world.score(name, world.known).min() > world.score(name, world.unknown).max()


@every_score
def test_an_images_score_is_its_own(name: str, world: World) -> None:
    """Neither batch size nor order nor neighbours matter."""
    images = torch.cat([world.known, world.unknown])
    together = world.score(name, images)
    close = {"rtol": 1e-4, "atol": 1e-4}
    one_by_one = torch.cat([world.score(name, image[None]) for image in images])
    assert torch.allclose(one_by_one, together, **close)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(world.score(name, images[order]), together[order], **close)
    assert torch.allclose(world.score(name, world.known.repeat(3, 1)), together[: len(world.known)].repeat(3), **close)
    assert world.score(name, images[:0]).shape == (0,)


@every_score
def test_the_order_of_classes_does_not_matter(name: str, world: World) -> None:
    images = torch.cat([world.known, world.unknown])
    moved = world.permuted([2, 0, 3, 1])
    assert torch.allclose(moved.score(name, images), world.score(name, images), rtol=1e-4, atol=1e-4)


@every_score
def test_its_parts_have_words_and_its_needs_are_told(name: str, world: World) -> None:
    """What a score does not say that it needs is not asked for: nouns take minutes to encode, photos may be missing."""
    needs, inputs = SCORES[name].needs, world.inputs(world.known)

    def forbidden() -> Tensor:
        raise AssertionError("not among its needs")

    photos = None
    if needs & {MEANS, PHOTOS}:
        photos = world.photos if PHOTOS in needs else world.photos.condensed()
    prompts = inputs.prompts
    if NEGATIVES not in needs:
        prompts = FixedPrompts(world.positive, world.negative[:0])
    nouns: Callable[[], Tensor] = (lambda: world.nouns) if NOUNS in needs else forbidden
    units = world.units() if UNITS in needs else {}
    bias = OWN_BIAS if BIAS in needs else None
    asked = ScoreInputs(world.known, prompts, lambda: world.written, 0.01, nouns, photos, bias=bias)
    parts = score_parts(name, asked, units)
    assert parts and parts.keys() <= TERMS.keys()
    assert all(values.shape == (12,) and values.isfinite().all() for values in parts.values())
    assert total(parts).numpy() == pytest.approx(world.score(name, world.known).numpy(), rel=1e-4, abs=1e-5)
    assert bool(SCORES[name].sum_of) == (UNITS in needs) and all(SCORES[t].needs < needs for t in SCORES[name].sum_of)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.sum_of])
def test_sums_are_made_in_units_of_spread(name: str, world: World) -> None:
    images = torch.cat([world.known, world.unknown])
    wanted = np.zeros(len(images))
    for term in SCORES[name].sum_of:
        on_known, on_all = (world.score(term, x).double().numpy() for x in (world.known, images))
        wanted += (on_all - on_known.mean()) / on_known.std()
    assert world.score(name, images).numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert world.score(name, world.known).mean().item() == pytest.approx(0.0, abs=1e-4)
    for units in ({}, {term: {WHOLE: (0.0, 1.0)} for term in SCORES[name].sum_of}):
        with pytest.raises(UserError, match="is missing"):
            score_parts(name, world.inputs(images), units)


def test_the_papers_temperatures_are_in_units_of_the_backbones(world: World) -> None:
    """τ = 1 and τ̄ = 5 for a CLIP whose own temperature is 0.01, as Eq. 14 has them; or multiples of a given unit."""

    def by_hand(temperature: float, negative_temperature: float) -> float:
        image = world.known[0].double().numpy()
        p = np.exp(world.positive.double().numpy() @ image / temperature)
        n = np.exp(world.negative.double().numpy() @ image / negative_temperature)
        return float(p.max() / p.sum() - np.mean(n.min(axis=1) / n.sum(axis=1)))

    prompts = FixedPrompts(world.positive, world.negative)

    def lsn(own: float, unit: float | None = None) -> float:
        inputs = ScoreInputs(
            world.known[:1], prompts, lambda: world.written, own, lambda: world.nouns, None, test_unit=unit
        )
        return total(score_parts("lsn", inputs, {})).item()

    assert lsn(0.01) == pytest.approx(by_hand(1, 5), abs=1e-6)
    assert lsn(0.002) == pytest.approx(by_hand(0.2, 1), abs=1e-6)
    assert lsn(0.002, unit=0.01) == pytest.approx(by_hand(1, 5), abs=1e-6)


def test_a_score_that_cannot_serve_names_those_that_can() -> None:
    things = (NEGATIVES, MEANS, PHOTOS, NOUNS, UNITS, BIAS)
    for count in range(len(things) + 1):
        for some in combinations(things, count):
            for classes in (1, 5):
                has = frozenset(some)
                usable = usable_scores(classes, has)
                for name, score in SCORES.items():
                    if name in usable:
                        check_usable(name, classes, has)
                        continue
                    with pytest.raises(UserError) as refused:
                        check_usable(name, classes, has)
                    message = str(refused.value)
                    assert message.endswith(f"Scores that can serve: {', '.join(usable)}.")
                    missing = score.needs - has
                    assert all(thing in message for thing in missing) and (missing or "only one" in message)
    assert usable_scores(1, frozenset()) == ["max-cosine"]
    assert set(usable_scores(2, frozenset(things))) == set(SCORES)
    with pytest.raises(UserError, match="Known scores: zero-shot-mcm"):
        check_usable("mcn", 3, frozenset())


def test_photos_are_asked_for_in_a_sentence(world: World) -> None:
    inputs = ScoreInputs(
        world.known, FixedPrompts(world.positive, world.negative), lambda: world.written, 0.01, lambda: world.nouns
    )
    with pytest.raises(UserError, match="keeps none"):
        score_parts("knn", inputs, {})
    with pytest.raises(UserError, match="logit bias"):
        score_parts("sigmoid", inputs, {})


def test_a_sigmoids_score_is_that_of_the_best_class_alone(world: World) -> None:
    best = (world.known.double().numpy() @ world.written.double().numpy().T).max(axis=1)
    wanted = 1 / (1 + np.exp(-(best / 0.01 + OWN_BIAS)))
    assert world.score("sigmoid", world.known).numpy() == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    one = ScoreInputs(
        world.known[:1],
        FixedPrompts(world.positive, world.negative),
        lambda: world.written[[int((world.known[0] @ world.written.T).argmax())]],
        0.01,
        lambda: world.nouns,
        bias=OWN_BIAS,
    )
    assert total(score_parts("sigmoid", one, {})).item() == pytest.approx(float(wanted[0]), rel=1e-3)
