"""What a worker refuses to take part in, what it sees, and what it need not encode; without a cluster."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsn_core import __version__
from lsn_core.backbones.backbone import Backbone
from lsn_core.cluster.worker import FeatureWorker, Orders, Part, find_images, mark_of
from lsn_core.data.feature_stream import Unopened
from lsn_core.data.photos import open_photos
from lsn_core.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(6):
        Image.new("RGB", (40, 30), (40 * index, 0, 0)).save(tmp_path / f"{index}.png")
    return tmp_path


@pytest.fixture
def orders(tiny_backbone: Backbone, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Orders:
    monkeypatch.setenv("LSN_RUNTIME", "eager")
    return Orders(
        load=lambda: tiny_backbone,
        name="tiny",
        fingerprint=tiny_backbone.fingerprint,
        version=__version__,
        runtime="eager",
        bf16=False,
        threads=torch.get_num_threads(),
        folder=os.getcwd(),
        reopen=partial(open_photos, [photos]),
        mark=mark_of(open_photos([photos])),
        batch_size=4,
        keyed=True,
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": "0.0.1"}, f"cannot help: it has lsn-core {__version__}, not 0.0.1"),
        ({"fingerprint": "another"}, "cannot help: its backbone tiny has other weights, settings or libraries"),
    ],
)
def test_a_machine_that_would_give_other_features_is_refused(
    orders: Orders, changes: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        FeatureWorker().prepare(replace(orders, **changes), None)  # type: ignore[arg-type]


def test_what_compiles_here_has_to_compile_there(
    orders: Orders, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_backbone.runtime, "compile", lambda: False)
    with pytest.raises(UserError, match="cannot help: it cannot compile the image tower"):
        FeatureWorker().prepare(replace(orders, runtime="openvino"), None)


def test_a_worker_gives_features_keys_and_errors_and_leaves_out_what_is_known(
    orders: Orders, photos: Path, tiny_backbone: Backbone
) -> None:
    (photos / "3.png").write_text("no picture")
    orders = replace(orders, mark=mark_of(open_photos([photos])))
    keys = [hashlib.sha256((photos / f"{index}.png").read_bytes()).digest() for index in range(6)]
    worker = FeatureWorker()
    assert worker.prepare(orders, np.unique(np.array([keys[2], keys[5]], "S32")))
    seen = worker.encode(Part(1, 5))
    images = [Unopened((photos / f"{index}.png").read_bytes(), f"{index}.png") for index in range(1, 5)]
    sent = worker.encode(Part(1, 5, (images[0], keys[2], *images[2:])))
    for found in (seen, sent):
        assert found.keys == keys[1:5] and found.kept == [1] and list(found.errors) == [2]
        wanted = tiny_backbone.encode_images([Image.open(photos / f"{index}.png") for index in (1, 4)])
        assert np.abs(found.rows[[0, 3]] - wanted.numpy()).max() < 1e-6
        assert not found.rows[[1, 2]].any()
    assert "3.png: this is not an image" in str(seen.errors[2])


def test_images_are_seen_only_where_names_and_contents_are_the_same(orders: Orders, photos: Path) -> None:
    assert len(find_images(orders) or ()) == 6
    Image.new("RGB", (40, 30), (0, 0, 99)).save(photos / "3.png")  # the one in the middle
    assert find_images(orders) is None
    Image.new("RGB", (40, 30), (120, 0, 0)).save(photos / "3.png")
    assert find_images(orders) is not None
    (photos / "3.png").rename(photos / "other.png")
    assert find_images(orders) is None
    assert find_images(replace(orders, reopen=partial(open_photos, [photos / "none" / "*"]))) is None
    assert find_images(replace(orders, reopen=None)) is None
