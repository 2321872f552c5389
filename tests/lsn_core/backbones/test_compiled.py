"""The compiled image tower gives PyTorch's features, whichever way it is asked, or PyTorch does the work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from support import REPO

from lsn_core import UserError, load_backbone
from lsn_core.backbones import compiled
from lsn_core.backbones.backbone import Backbone

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
TOWERS = {
    "vit": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "wide pictures": {"image_size": [32, 64], "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "mean of patches": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8}
    | {"pool_type": "avg", "final_ln_after_pool": True},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
    "timm": {"image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and compiling allowed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv(compiled.VARIABLE, "auto")
    return tmp_path / "torch" / "lsn_core"


def make(vision: dict[str, object]) -> Backbone:
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=48, vision_cfg=vision, text_cfg=TEXT)
    size = vision["image_size"]
    model.visual.preprocess_cfg = {"size": size, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "squash"}
    return Backbone(model, "random", open_clip.get_tokenizer("ViT-B-32"))


def noise(backbone: Backbone, count: int) -> torch.Tensor:
    size = backbone.model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return torch.randint(256, (count, height, width, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("tower", TOWERS)
def test_its_features_are_those_of_pytorch(tower: str, cache: Path) -> None:
    backbone = make(TOWERS[tower])
    crops = noise(backbone, 21)
    wanted = backbone.encode_crops(crops)
    assert not backbone.runtime.is_converted and backbone.runtime.compile() and backbone.runtime.is_converted
    assert backbone.runtime.name == "openvino"
    found = backbone.encode_crops(crops)
    assert found.dtype == torch.float32 and (found - wanted).abs().max() < 1e-5
    alone = torch.cat([backbone.encode_crops(one[None]) for one in crops])
    assert (found - alone).abs().max() < 1e-6
    assert len(list(cache.iterdir())) == 1


def test_the_embedded_one_is_kept_for_the_next_process_and_may_be_called_by_many_threads(cache: Path) -> None:
    backbone = load_backbone("embedded", "cpu")
    crops = noise(backbone, 40)
    wanted = backbone.encode_crops(crops)
    backbone.expect(31)
    backbone.expect(255)
    assert backbone.runtime.name == "eager"
    backbone.expect(256)
    assert backbone.runtime.name == "openvino"
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(backbone.encode_crops, crops.split(5)))
    assert (torch.cat(parts) - wanted).abs().max() < compiled.LARGEST_DIFFERENCE
    assert (torch.cat(parts) * wanted).sum(-1).min() > 1 - 1e-6
    again = load_backbone("embedded", "cpu")
    again.expect(31)
    assert again.runtime.name == "eager"
    again.expect(32)
    assert again.runtime.name == "openvino" and len(list(cache.iterdir())) == 1


def test_other_weights_have_a_tower_of_their_own(cache: Path) -> None:
    first, second = make(TOWERS["vit"]), make(TOWERS["vit"])
    with torch.no_grad():
        second.model.visual.proj.mul_(-1)
    assert first.runtime.compile() and second.runtime.compile()
    crops = noise(first, 2)
    assert (first.encode_crops(crops) + second.encode_crops(crops)).abs().max() < 1e-5
    assert len(list(cache.iterdir())) == 2


def test_a_tower_that_gives_other_features_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "LARGEST_DIFFERENCE", -1.0)
    backbone = make(TOWERS["vit"])
    wanted = backbone.encode_crops(noise(backbone, 3))
    assert not backbone.runtime.compile() and backbone.runtime.name == "eager" and "differs by" in caplog.text
    assert torch.equal(backbone.encode_crops(noise(backbone, 3)), wanted)


@pytest.mark.parametrize("damage", ["empty", "other weights", "gone"])
def test_a_damaged_file_costs_time_only(damage: str, cache: Path) -> None:
    first = make(TOWERS["vit"])
    wanted = first.encode_crops(noise(first, 2))
    assert first.runtime.compile()
    (folder,) = cache.iterdir()
    if damage == "gone":
        (folder / "tower.bin").unlink()
    elif damage == "empty":
        (folder / "tower.xml").write_text("")
    else:
        values = np.fromfile(folder / "tower.bin", dtype=np.float32)
        np.where(np.abs(values) > 1e-3, values * 2, values).tofile(folder / "tower.bin")
    second = make(TOWERS["vit"])
    assert second.runtime.compile() and (second.encode_crops(noise(second, 2)) - wanted).abs().max() < 1e-5


def test_a_damaged_file_that_cannot_be_removed_costs_time_only(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(TOWERS["vit"]).runtime.compile()
    (folder,) = cache.iterdir()
    (folder / "tower.xml").write_text("")
    removed = shutil.rmtree

    def stays(path: Path, **options: Any) -> None:
        if Path(path) != folder:
            removed(path, **options)

    monkeypatch.setattr(shutil, "rmtree", stays)
    second = make(TOWERS["vit"])
    assert second.runtime.compile() and second.encode_crops(noise(second, 2)).isfinite().all()
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_where_it_cannot_be_kept_it_is_used_all_the_same(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    backbone = make(TOWERS["vit"])
    assert backbone.runtime.compile() and backbone.runtime.name == "openvino"
    assert backbone.encode_crops(noise(backbone, 9)).isfinite().all()


def test_a_tower_that_cannot_be_converted_stays_with_pytorch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Choosing(torch.nn.Module):
        """Asks its values which way to go, as no graph can."""

        image_size, preprocess_cfg = 32, {"size": 32}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = x.mean((2, 3))
            return pooled if float(pooled.sum()) > 0 else -pooled

    backbone = make(TOWERS["vit"])
    backbone.model.visual = Choosing()
    assert not backbone.runtime.compile() and not backbone.runtime.can_compile
    assert "could not be compiled" in caplog.text and backbone.runtime.name == "eager"
    assert backbone.encode_crops(noise(backbone, 2)).shape == (2, 3)


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "eager")
    backbone = make(TOWERS["vit"])
    backbone.expect(10**6)
    assert not backbone.runtime.can_compile and not backbone.runtime.compile() and backbone.runtime.name == "eager"
    monkeypatch.setenv(compiled.VARIABLE, "openvino")
    backbone = make(TOWERS["vit"])
    backbone.expect(1)
    assert backbone.runtime.name == "openvino"
    monkeypatch.setenv(compiled.VARIABLE, "tensorrt")
    with pytest.raises(UserError, match=r"LSN_RUNTIME='tensorrt'.*auto, eager, openvino"):
        make(TOWERS["vit"])
    monkeypatch.setenv(compiled.VARIABLE, "openvino")
    monkeypatch.setattr(compiled, "is_installed", lambda: False)
    with pytest.raises(UserError, match="pip install openvino"):
        make(TOWERS["vit"])


def test_converting_counts_nobody_on_the_network(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_compiled as t\n"
        "assert t.make(t.TOWERS['vit']).runtime.compile()\n"
        "assert not [name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=200,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{REPO}:{REPO / 'tests'}", "TORCH_HOME": str(tmp_path / "t")},
    )
    assert done.returncode == 0, done.stderr


def test_bf16_is_another_function_that_is_near() -> None:
    backbone = make(TOWERS["vit"])
    crops, fingerprint = noise(backbone, 5), backbone.fingerprint
    wanted = backbone.encode_crops(crops)
    backbone.runtime.use_bf16()
    assert backbone.fingerprint == f"{fingerprint}:bf16"
    assert ((backbone.encode_crops(crops) * wanted).sum(-1) > 0.97).all()


def test_without_a_compiled_tower_there_is_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "eager")
    backbone = make(TOWERS["vit"])
    with pytest.raises(UserError, match="LSN_RUNTIME=eager"):
        backbone.runtime.use_bf16()
    assert ":bf16" not in backbone.fingerprint


FIRST_PICTURES = """
import faulthandler, sys, threading
faulthandler.dump_traceback_later(20, exit=True)
from lsn_core.backbones.compiled import openvino
package, together = openvino(), threading.Barrier(8)
sys.setswitchinterval(1e-6)
def first():
    together.wait()
    package.Type.f32.to_dtype()
threads = [threading.Thread(target=first) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_first_pictures_of_several_threads_do_not_make_them_wait_for_each_other() -> None:
    for _ in range(2):  # without care, one process in four stands still
        done = subprocess.run([sys.executable, "-c", FIRST_PICTURES], cwd=REPO, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
