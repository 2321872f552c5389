"""Scores fitted to features of photos of the known classes: prototypes, nearest neighbours and ViM.

They are written out here, so that a detector file needs no other package to score; the tests hold them against
pytorch-ood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 10


@dataclass(frozen=True)
class KnownPhotos:
    """Features of photos of the known classes.

    Attributes:
        features: shape (M, D), unit length.
        labels: class indices, int64, shape (M,).
        class_count: C.
        complete: whether these are all photos, or one of each class: the direction of its mean.
    """

    features: Tensor
    labels: Tensor
    class_count: int
    complete: bool = True

    @cached_property
    def means(self) -> Tensor:
        """The mean direction of each class, shape (C, D), unit length; 0 for a class without photos."""
        sums = self.features.new_zeros(self.class_count, self.features.shape[1])
        return F.normalize(sums.index_add(0, self.labels, self.features), dim=-1)

    def rounded(self) -> KnownPhotos:
        """In half precision, as a file keeps them: a detector scores the same before it is saved and after."""
        return replace(self, features=self.features.half().float())

    @cached_property
    def outside(self) -> tuple[Tensor, Tensor]:
        """The mean feature (D,) and an orthonormal basis (D, D - d) of what the principal space leaves out.

        That space has d dimensions: one for every ten photos, at least C and at most half of D.
        """
        count, dim = self.features.shape
        kept = min(max(self.class_count, min(dim // 2, count // 10)), dim - 1)
        center = self.features.mean(dim=0)
        centered = (self.features - center).double()
        vectors = torch.linalg.eigh(centered.T @ centered).eigenvectors  # eigenvalues ascend
        return center, vectors[:, : dim - kept].float()

    def condensed(self) -> KnownPhotos:
        """The means alone: all that `prototypes` needs."""
        return KnownPhotos(self.means, torch.arange(self.class_count), self.class_count, complete=False)


def prototypes(written: Tensor, photos: KnownPhotos) -> Tensor:
    """Each class as one direction: the sum of its written text and its mean photo (two unit vectors).

    Image and text prototypes without training, as in suPreMe (2025).

    Args:
        written: text features of the written prompts, shape (C, D), unit length.

    Returns:
        Shape (C, D), unit length.
    """
    return F.normalize(written + photos.means, dim=-1)


def knn(features: Tensor, photos: KnownPhotos, neighbours: int = NEIGHBOURS) -> Tensor:
    """Minus the Euclidean distance to the k-th nearest photo (Sun et al., 2022).

    Args:
        features: of images, shape (N, D), unit length.
        neighbours: k; the farthest photo where there are fewer.

    Returns:
        Shape (N,), in [-2, 0].
    """
    k = min(neighbours, len(photos.features))
    cosine = (features @ photos.features.T).topk(k, dim=-1).values[:, -1]
    return -(2.0 - 2.0 * cosine).clamp_min(0.0).sqrt()


@dataclass(frozen=True)
class Residual:
    """What of an image's feature lies outside the principal space of known photos (ViM, Wang et al., 2022).

    Attributes:
        center: mean feature of the known photos, shape (D,).
        directions: orthonormal basis of what the principal space leaves out, shape (D, D - d).
        scale: α, which gives the residual of a known photo the mean size of its largest logit.
    """

    center: Tensor
    directions: Tensor
    scale: float

    @staticmethod
    def of(photos: KnownPhotos, logits: Tensor) -> Residual:
        """Fits α to photos.

        Args:
            logits: of the photos, shape (M, C).
        """
        center, directions = photos.outside
        sizes = ((photos.features - center) @ directions).norm(dim=-1)
        return Residual(center, directions, float(logits.amax(dim=-1).mean() / sizes.mean().clamp_min(1e-12)))


def vim(features: Tensor, logits: Tensor, residual: Residual) -> Tensor:
    """Virtual-logit matching: the energy of the logits less the virtual logit, which is the scaled residual.

    Args:
        features: of images, shape (N, D).
        logits: of the same images, shape (N, C): here cosines to the written prompts over the model's temperature.

    Returns:
        Shape (N,).
    """
    outside = ((features - residual.center) @ residual.directions).norm(dim=-1)
    return logits.logsumexp(dim=-1) - residual.scale * outside
