"""From labelled images to a detector: the same shots are drawn whichever way the images come in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lsn_core import TrainConfig, extract_features, get_preset, load_data, train
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.labelled import LabelledImages
from lsn_core.training.from_images import encode_shots, train_from_images


@pytest.fixture
def images(tmp_path: Path, examples: Path) -> LabelledImages:
    """Twelve crops of each of two photos, and a file that is no image."""
    for name in ("zebra", "hot_air_balloon"):
        (tmp_path / name).mkdir()
        with Image.open(examples / f"{name}.jpg") as photo:
            for n in range(12):
                photo.crop((5 * n, 4 * n, 5 * n + 150, 4 * n + 150)).resize((32, 32)).save(tmp_path / name / f"{n}.png")
    (tmp_path / "zebra" / "damaged.png").write_bytes(b"no picture")
    return load_data(tmp_path)


def config(shots: int) -> TrainConfig:
    preset = get_preset("fast", shots=shots, seed=3)
    short = {"epochs": 2, "batch_size": 4, "context_length": 3}
    return replace(preset, positive=replace(preset.positive, **short), negative=replace(preset.negative, **short))


def test_images_and_their_features_lead_to_the_same_detector(images: LabelledImages, tiny_backbone: Backbone) -> None:
    readable = images.subset([i for i, name in enumerate(images.names) if "damaged" not in name])
    features = extract_features(tiny_backbone, readable, progress=False).features
    from_features = train(features, readable.labels, readable.class_names, tiny_backbone, config(5))
    from_images = train_from_images(readable, tiny_backbone, config(5), progress=False)
    encoded = encode_shots(readable, tiny_backbone, config(5), progress=False)
    from_shots = train_from_images(encoded, tiny_backbone, config(5))
    assert encoded.class_names == ("hot air balloon", "zebra") and len(encoded.features) == 10
    for other in (from_images, from_shots):
        assert other.metrics["train_images"] + other.metrics["calibration_images"] == 10
        for name, learned in from_features.contexts.items():
            exact = tiny_backbone.device.type == "cpu"  # a GPU's sums promise no bits
            torch.testing.assert_close(other.contexts[name], learned, **({"rtol": 0, "atol": 0} if exact else {}))


def test_images_that_cannot_be_read_are_named_and_counted(
    images: LabelledImages, tiny_backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    encoded = encode_shots(images, tiny_backbone, config(128), progress=False)
    assert [name for name, _ in encoded.left_out] == ["zebra/damaged.png"] and len(encoded.labels) == 24
    assert "zebra/damaged.png" in caplog.text
    assert train_from_images(encoded, tiny_backbone, config(128)).metrics["left_out"] == 1
