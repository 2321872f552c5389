"""The build of the embedded checkpoint: what may be seen, captions, resuming, and what is measured on kept photos."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip import SimpleTokenizer

from scripts.embedded_clip import student
from scripts.embedded_clip.anchors import FitConfig, Space, fit_space
from scripts.embedded_clip.captions import NEGATIONS, CaptionSampler, Vocabulary
from scripts.embedded_clip.measure import Labelled, best_scale, calibration_error, unknown_classes
from scripts.embedded_clip.photos import Kinds, gather
from scripts.embedded_clip.student import train_text_tower
from scripts.embedded_clip.vision import VIEWS, PhotoFeatures

NAMES = ("cat", "elephant", "dog", "goldfish", "orange", "hourglass")


def make_sampler() -> CaptionSampler:
    targets = F.normalize(torch.randn(len(NAMES), 16, generator=torch.Generator().manual_seed(1)), dim=-1)
    words = Vocabulary([(1.0, dict(zip(NAMES, targets, strict=True)))])
    return CaptionSampler(words, {"cat": torch.zeros(len(NEGATIONS), 16)}, seed=3, token_budget=64)


def test_captions_say_an_elephant_and_point_where_their_name_does() -> None:
    sampler, tokenizer = make_sampler(), SimpleTokenizer()
    said = set()
    for _ in range(60):
        batch = sampler.draw()
        assert (batch.tokens[torch.arange(len(batch.tokens)), batch.eot] == tokenizer.eot_token_id).all()
        assert torch.allclose(batch.target.norm(dim=-1), torch.ones(len(batch.target)))
        for row, eot, target in zip(batch.tokens, batch.eot, batch.target, strict=True):
            text = tokenizer.decode(row[1:eot].tolist()).replace(" .", "").strip()
            if text.startswith("a photo of") and " and " not in text and text.split()[-1] in NAMES:
                said.add(text)
                own = sampler.words.targets[sampler.words.names.index(text.split()[-1])]
                assert target @ own > 0.999
    assert {"a photo of an elephant", "a photo of an hourglass", "a photo of a dog"} <= said
    assert not {"a photo of a elephant", "a photo of an dog"} & said


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_text_tower_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student, "EVERY", 4)
    bank = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))

    def make() -> open_clip.CLIP:
        torch.manual_seed(0)
        vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
        text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
        return open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)

    whole, before = make(), make().state_dict()
    train_text_tower(whole, make_sampler(), bank, "cpu", 12, tmp_path / "whole.pt")
    train_text_tower(make(), make_sampler(), bank, "cpu", 12, tmp_path / "parts.pt", stop_after=6)
    torch.manual_seed(99)  # another process has another random state, and begins behind the last checkpoint
    resumed = make()
    train_text_tower(resumed, make_sampler(), bank, "cpu", 12, tmp_path / "parts.pt")
    found = resumed.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in whole.state_dict().items())
    assert not torch.equal(found["text_projection"], before["text_projection"])


def make_sets() -> dict[str, PhotoFeatures]:
    generator = torch.Generator().manual_seed(0)

    def photos(count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.rand(count, len(VIEWS), 24, generator=generator), torch.arange(count) % classes

    return {
        "imagenette": PhotoFeatures(*photos(40, 2), ["tench", "church"], ["n1", "n3"]),
        "miniplaces": PhotoFeatures(*photos(60, 3), ["abbey", "Church", "beach"], None),
        "tinyimagenet": PhotoFeatures(*photos(40, 2), ["goldfish", "church"], ["n2", "n3"]),
    }


def test_held_out_classes_leave_no_photo_and_every_tenth_is_kept() -> None:
    names = [f"class {i}" for i in range(1000)]
    names[:3] = ["tench", "goldfish", "church"]
    wnids = ["n1", "n2", "n3", *(f"x{i}" for i in range(997))]
    photos, kept = gather(make_sets(), names, wnids, held_out={2})
    shown = {photos.names[int(i)].lower() for i in (*photos.label, *kept.label)}
    assert shown == {"tench", "goldfish", "abbey", "beach"}  # no church of any set, nor of that name
    assert len(photos.label) + len(kept.label) == 20 + 40 + 20
    everything, tenth = gather(make_sets(), names, wnids, held_out=set())
    assert len(tenth.label) == 14 and len(everything.label) == 126
    both = torch.cat([everything.features, tenth.features])
    assert len(both.flatten(1).unique(dim=0)) == 140


@pytest.mark.usefixtures("one_thread")
def test_the_image_side_sees_nothing_of_held_out_rows() -> None:
    names = [f"class {i}" for i in range(1000)]
    wnids = [f"n{i}" for i in range(1000)]
    photos, _ = gather(make_sets(), names, wnids, held_out={7})
    kinds = Kinds([1, 2], torch.rand(2, 1000, generator=torch.Generator().manual_seed(4)).round())
    rows, bias = torch.randn(1000, 24, generator=torch.Generator().manual_seed(5)), torch.zeros(1000)
    changed = rows.clone()
    changed[7] += 100
    config = FitConfig(dim=16, steps=3)
    first, second = (fit_space(photos, r, bias, {7}, kinds, 0, config) for r in (rows, changed))
    assert torch.equal(first.projection.weight, second.projection.weight)
    again = Space.from_state(first.state())
    assert torch.equal(again.anchors, first.anchors) and torch.equal(again.projection.bias, first.projection.bias)


def test_calibration_error_and_scale() -> None:
    # Four photos at an angle to two classes: confidence is the same for all, and three of four are right.
    directions = torch.eye(2)
    features = F.normalize(torch.tensor([[1.0, 0.8]] * 4), dim=-1)
    photos = Labelled(features, torch.tensor([0, 0, 0, 1]), directions)
    scale = best_scale([photos])
    confidence = 1 / (1 + math.exp(-scale * float(features[0, 0] - features[0, 1])))
    assert photos.top1 == 0.75
    assert abs(confidence - 0.75) < 0.01  # likelihood is best where confidence is how often it is right
    assert calibration_error(photos, scale) == pytest.approx(abs(confidence - 0.75), abs=1e-5)
    assert calibration_error(photos, 100.0) == pytest.approx(0.25, abs=1e-3)


def test_unknown_classes_are_told_by_their_cosines() -> None:
    labels = torch.arange(60) % 6
    clear = Labelled(torch.eye(6)[labels], labels, torch.eye(6))
    assert unknown_classes(clear) == (1.0, 0.0)
    blind = Labelled(F.normalize(torch.ones(60, 6), dim=-1), labels, torch.eye(6))
    assert np.allclose(unknown_classes(blind), (0.5, 1.0))
