"""DualCoOp (Sun et al., 2022) of the paper's Table 7: one positive and one negative context, learned at once.

For each class, the softmax over the cosines to its positive and its negative prompt, times 20, says whether it
is there; the contexts are shared by the classes and learned with the asymmetric loss of multi-label recognition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor

from benchmarks.harness.images import Images
from benchmarks.harness.setting import Setting
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets

SCALE = 20.0
GAMMA_POSITIVE, GAMMA_NEGATIVE, CLIP = 1, 2, 0.05


def dual_coop(setting: Setting, updates: int | None = None) -> Callable[[Images], Tensor]:
    """Trains on the setting's images with the optimizer and passes of its positive prompts; the score of an image is
    the largest probability of a class being there, in (0, 1).

    Args:
        updates: steps after which it stops, short of these passes.
    """
    config, backbone = setting.config.positive, setting.backbone
    x, y = setting.learned.embedding.to(backbone.device), setting.learned.labels.to(backbone.device)
    tower = TextTower(backbone, NameTokens.of(backbone, setting.class_names, config.context_length))
    generator = torch.Generator().manual_seed(setting.config.seed)
    prompts = PromptSets(2, 1, config.context_length, backbone.width, generator).to(backbone.device)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.SGD
    optimizer = kind(prompts.parameters(), config.lr)
    batches = math.ceil(len(x) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * batches)
    drawn = (batch for _ in range(config.epochs) for batch in _batches(len(x), config.batch_size, generator))
    for chosen in islice(drawn, updates):
        loss = asymmetric_loss(presence(x[chosen], tower.encode(prompts())), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        text = tower.encode(prompts()).cpu()
    return lambda images: presence(images.embedding, text).amax(dim=-1)


def _batches(images: int, size: int, generator: torch.Generator) -> Sequence[Tensor]:
    return torch.randperm(images, generator=generator).split(size)


def presence(features: Tensor, text: Tensor) -> Tensor:
    """Probability of each class being there.

    Args:
        features: of images, shape (N, D), unit length.
        text: of positive and negative prompts, shape (2, C, D), unit length.

    Returns:
        Shape (N, C), in (0, 1).
    """
    positive, negative = torch.einsum("nd,kcd->knc", features, text)
    return (SCALE * (positive - negative)).sigmoid()


def asymmetric_loss(probability: Tensor, labels: Tensor) -> Tensor:
    """The asymmetric loss (Ridnik et al., 2021) of images that show one class each.

    Args:
        probability: of each class, shape (N, C), in (0, 1).
        labels: class indices, shape (N,).
    """
    right = torch.nn.functional.one_hot(labels, probability.shape[1]).bool()
    shifted = (probability - CLIP).clamp_min(0)
    there = (1 - probability) ** GAMMA_POSITIVE * probability.clamp_min(1e-8).log()
    absent = shifted**GAMMA_NEGATIVE * (1 - shifted).clamp_min(1e-8).log()
    return -torch.where(right, there, absent).sum(dim=-1).mean()
