"""Methods that use a list of nouns: for nearly all of them, an image of a known class shows something else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.harness.classifier import logistic_regression
from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.protocols import FILES
from benchmarks.harness.setting import Setting
from lsn_core.backbones.backbone import Backbone
from lsn_core.prompts.written import POSITIVE_TEMPLATE, fill

NEGATIVE_LABELS = 0.15  # share of the nouns that NegLabel keeps, as in its paper (10,000 of about 70,000)
LABEL_GROUPS = 100
OUTLIERS = 2000  # nouns that stand for images of other things
TOO_NEAR = 0.01  # share of the nouns, those nearest to the known classes, that do not


def neg_label(setting: Setting) -> Scorer:
    """NegLabel (Jiang et al., 2024): the softmax share of the known classes among them and mined negative labels.

    Every text here is "a photo of a {}", where the authors write "The nice {}.".
    """
    return against_negative_labels(setting, setting.zero_shot.positive)


def prototypes(setting: Setting) -> Scorer:
    """NegLabel where a known class is the mean of three unit vectors: its written text, its learned positive prompt and
    its training images. Ours."""
    learned = setting.learned
    means = torch.stack([learned.embedding[learned.labels == c].mean(dim=0) for c in range(len(setting.class_names))])
    parts = (setting.zero_shot.positive, setting.detector().positive, F.normalize(means, dim=-1))
    return against_negative_labels(setting, F.normalize(torch.stack(parts).sum(dim=0), dim=-1))


def against_negative_labels(setting: Setting, classes: Tensor) -> Scorer:
    """The softmax share of the known classes among them and negative labels, averaged over groups of the labels.

    Of all nouns, those are negative labels whose 95th percentile of cosines to the known classes' texts is lowest.

    Args:
        classes: what stands for each known class, shape (C, D), unit length.
    """
    nouns = noun_features(setting.backbone, setting.folder)
    near = torch.quantile(nouns @ setting.zero_shot.positive.T, 0.95, dim=1)
    kept = nouns[near.argsort(stable=True)[: int(NEGATIVE_LABELS * len(nouns))]]
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(setting.config.seed))
    groups, temperature = kept[order].chunk(LABEL_GROUPS), setting.backbone.temperature

    def score(images: Images) -> Tensor:
        x = images.embedding / temperature
        inside = (x @ classes.T).logsumexp(dim=-1)
        shares = [(inside - (x @ group.T).logsumexp(dim=-1)).sigmoid() for group in groups]
        return torch.stack(shares).mean(dim=0)

    return score


def outliers(setting: Setting) -> Scorer:
    """A logistic regression of the known classes' images with one class more: nouns, in the place of outlier images.

    The text features of nouns are moved by the gap between the mean known image and the mean text of the known
    classes, so that they lie where images do. The score is the log odds of the known classes against the nouns. Ours;
    its settings were chosen on training images with hidden classes (see `combination`).
    """
    texts, learned = setting.zero_shot.positive, setting.learned
    nouns = noun_features(setting.backbone, setting.folder)
    order = torch.randperm(len(nouns), generator=torch.Generator().manual_seed(setting.config.seed))
    nearest = (nouns @ texts.T).amax(dim=1).argsort(descending=True, stable=True)[: int(TOO_NEAR * len(nouns))]
    chosen = nouns[order[~torch.isin(order, nearest)][:OUTLIERS]]
    moved = F.normalize(chosen + learned.embedding.mean(dim=0) - texts.mean(dim=0), dim=-1)
    count = len(setting.class_names)
    labels = torch.cat([learned.labels, torch.full((len(moved),), count)])
    linear = logistic_regression(torch.cat([learned.embedding, moved]), labels, 10.0)

    def score(images: Images) -> Tensor:
        logits = linear(images.embedding).detach()
        return logits[:, :count].logsumexp(dim=-1) - logits[:, count]

    return score


def noun_features(backbone: Backbone, folder: Path) -> Tensor:
    """Text features of "a photo of a {}" for each noun of benchmarks/data/nouns.txt, kept in the folder: (N, D)."""
    lines = (FILES / "nouns.txt").read_text().splitlines()
    texts = sorted((fill(POSITIVE_TEMPLATE, line) for line in lines if not line.startswith("#")), key=len)
    digest = hashlib.sha256("\n".join([backbone.weights_hash, *texts]).encode()).hexdigest()
    path = folder / f"nouns-{digest[:16]}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"nouns": backbone.encode_texts(texts)}, path)
    return load_file(path)["nouns"]
