"""The training photos of all sets in one table, and the WordNet kinds above the classes that they show."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.embedded_clip.vision import TRAIN_SETS, PhotoFeatures
from scripts.embedded_clip.wordnet import WordNet

log = logging.getLogger(__name__)

FOLDS = 10  # every tenth photo of a set is kept from all fits: what is chosen, and the temperature, is measured on them


@dataclass
class Photos:
    """All training photos in one table; `label` indexes the names of all sets end to end, ImageNet's 1,000 first."""

    features: Tensor  # (N, V, 1280)
    label: Tensor  # (N,)
    group: Tensor  # (N,) which set's names it is classified among: 0 is ImageNet, then as in TRAIN_SETS
    is_small: Tensor  # (N,) whether the photos of its set are too small to be sharp (Tiny ImageNet)
    is_scene: Tensor  # (N,) whether its set's classes are scenes (MiniPlaces)
    names: list[str]
    group_of_name: Tensor  # (L,)

    def subset(self, chosen: Tensor) -> Photos:
        """The photos that `chosen` (N,) marks; names stay."""
        parts = (self.features, self.label, self.group, self.is_small, self.is_scene)
        return Photos(*(part[chosen] for part in parts), self.names, self.group_of_name)

    @staticmethod
    def set_name(group: int) -> str:
        """What a group of names is called."""
        return TRAIN_SETS[group - 1] if group else "imagenet"

    def has_anchor(self, i: int) -> bool:
        """ImageNet classes have an anchor from the classifier; other names need photos."""
        return i < 1000 or bool((self.label == i).any())


@dataclass
class Kinds:
    """Synsets above ImageNet's classes ("dog", "bird", "vehicle"): which classes each stands for."""

    offsets: list[int]
    members: Tensor  # (H, 1000), 1.0 where the class is below the synset


def gather(
    sets: dict[str, PhotoFeatures], imagenet_names: list[str], wnids: list[str], held_out: set[int]
) -> tuple[Photos, Photos]:
    """Joins the sets without photos of held-out ImageNet classes (by index), or of other sets' classes so named.

    Returns:
        Photos to fit to, and every tenth of each set, which is kept from all fits.
    """
    index = {wnid: i for i, wnid in enumerate(wnids)}
    hidden = {imagenet_names[i].lower() for i in held_out}
    names, groups = list(imagenet_names), [0] * len(imagenet_names)
    features, labels, group, small, scene, fold = [], [], [], [], [], []
    for number, (name, photos) in enumerate(sets.items(), start=1):
        if photos.wnids is not None:
            mapping = torch.tensor([index[w] for w in photos.wnids])
            used = 0
        else:
            mapping = torch.arange(len(photos.class_names)) + len(names)
            names += photos.class_names
            groups += [number] * len(photos.class_names)
            used = number
        label = mapping[photos.labels]
        keep = torch.tensor([int(c) not in held_out and names[int(c)].lower() not in hidden for c in label])
        log.info("%s: %d photos, %d left out", name, len(label), int((~keep).sum()))
        features.append(photos.features[keep])
        labels.append(label[keep])
        group.append(torch.full((int(keep.sum()),), used))
        small.append(torch.full((int(keep.sum()),), name == "tinyimagenet"))
        scene.append(torch.full((int(keep.sum()),), name == "miniplaces"))
        fold.append((torch.arange(len(label)) % FOLDS == FOLDS - 1)[keep])
    columns = [torch.cat(column) for column in (features, labels, group, small, scene)]
    photos, kept = Photos(*columns, names, torch.tensor(groups)), torch.cat(fold)
    return photos.subset(~kept), photos.subset(kept)


def find_kinds(net: WordNet, offsets: list[int], held_out: set[int], largest: int = 450) -> Kinds:
    """All synsets strictly above the classes that may be seen, but for those so general that they hold most of them."""
    below: dict[int, list[int]] = {}
    for i, offset in enumerate(offsets):
        for ancestor in net.ancestors(offset):
            if i not in held_out and ancestor not in offsets:
                below.setdefault(ancestor, []).append(i)
    chosen = sorted(ancestor for ancestor, classes in below.items() if len(classes) <= largest)
    members = torch.zeros(len(chosen), len(offsets))
    for row, ancestor in enumerate(chosen):
        members[row, below[ancestor]] = 1.0
    return Kinds(chosen, members)
