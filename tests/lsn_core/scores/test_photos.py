"""Scores of photos against pytorch-ood and plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_ood.detector import KNN, ViM

from lsn_core.scores.photos import KnownPhotos, Residual, knn, prototypes, vim

D = 12


def _unit(count: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, D, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture
def photos() -> KnownPhotos:
    """Forty photos of three classes, not centred on the origin."""
    return KnownPhotos(F.normalize(_unit(40, 1) + _unit(1, 2), dim=-1), torch.arange(40) % 3, 3)


def test_nearest_neighbours_are_those_of_pytorch_ood(photos: KnownPhotos) -> None:
    images = torch.cat([_unit(9, 3), photos.features[:1]])  # and a photo itself
    for k in (1, 10):
        theirs = KNN(None, k=k).fit_features(photos.features, photos.labels).predict_features(images)
        assert knn(images, photos, k).numpy() == pytest.approx(-theirs.numpy(), abs=1e-3 if k == 1 else 1e-6)


def test_with_few_photos_the_farthest_counts(photos: KnownPhotos) -> None:
    few = KnownPhotos(photos.features[:4], photos.labels[:4], 3)
    images = _unit(5, 4)
    farthest = torch.cdist(images.double(), few.features.double()).amax(dim=1)
    assert knn(images, few).numpy() == pytest.approx(-farthest.numpy(), abs=1e-6)


@pytest.mark.parametrize("centered", [False, True])
def test_virtual_logits_are_those_of_pytorch_ood(photos: KnownPhotos, centered: bool) -> None:
    """The origin is the photos' mean here, and there what the last layer maps to 0: the same for photos around 0."""
    if centered:
        photos = KnownPhotos(torch.cat([photos.features, -photos.features]), photos.labels.repeat(2), 3)
    text, images = _unit(3, 5) * 20, _unit(9, 6)
    dimensions = 8 if centered else 4  # a tenth of the photos, at least C
    dimensions = min(dimensions, D // 2)
    theirs = ViM(None, d=dimensions, w=text, b=torch.zeros(3))
    if not centered:
        theirs.u = photos.features.mean(dim=0)
    theirs.fit_features(photos.features, photos.labels)
    residual = Residual.of(photos, photos.features @ text.T)
    assert residual.directions.shape == (D, D - dimensions)
    ours = vim(images, images @ text.T, residual)
    assert ours.numpy() == pytest.approx(-theirs.predict_features(images).numpy(), rel=1e-4, abs=1e-4)


def test_the_residual_of_one_photo_and_of_more_classes_than_dimensions() -> None:
    for count, classes in ((1, 1), (5, 5), (40, 40)):
        photos = KnownPhotos(_unit(count, 7), torch.arange(count) % classes, classes)
        residual = Residual.of(photos, torch.ones(count, classes))
        assert residual.directions.shape[1] >= 1
        assert vim(_unit(3, 8), torch.ones(3, classes), residual).isfinite().all()


def test_prototypes_are_text_and_mean_photo(photos: KnownPhotos) -> None:
    text, x, y = _unit(3, 9), photos.features.numpy(), photos.labels.numpy()
    made = prototypes(text, photos)
    for c in range(3):
        mean = x[y == c].mean(axis=0)
        both = text[c].numpy() + mean / np.linalg.norm(mean)
        assert made[c].numpy() == pytest.approx(both / np.linalg.norm(both), abs=1e-6)


def test_means_are_all_that_prototypes_need(photos: KnownPhotos) -> None:
    text = _unit(3, 9)
    condensed = photos.condensed()
    assert condensed.features.shape == (3, D) and not condensed.complete
    assert torch.allclose(prototypes(text, condensed), prototypes(text, photos), atol=1e-6)
    rounded = condensed.rounded()
    assert torch.equal(rounded.features.half().float(), rounded.features) and not rounded.complete
    assert torch.allclose(prototypes(text, rounded), prototypes(text, photos), atol=1e-3)


def test_a_class_without_photos_is_its_text_alone() -> None:
    text = _unit(3, 9)
    made = prototypes(text, KnownPhotos(_unit(4, 1), torch.tensor([0, 0, 2, 2]), 3))
    assert torch.allclose(made[1], text[1], atol=1e-6) and not torch.allclose(made[0], text[0], atol=1e-2)
