"""Names of backbones: a wrong one gets the one that would work, or the true reason, and nothing is downloaded first."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from lsn_core import Backbone, Detector, UserError, load_backbone
from lsn_core.backbones.names import resolve
from lsn_core.backbones.weights_file import WeightsFile, find_activation
from lsn_core.cli.app import build

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
LARGER = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "image_size": 64}}  # type: ignore[dict-item]
DEEPER = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "layers": 3}}  # type: ignore[dict-item]


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the network for anything fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something is downloaded")

    for name in ("download_pretrained", "download_pretrained_from_hf", "_get_hf_config"):
        monkeypatch.setattr(open_clip.factory, name, refuse)


@pytest.fixture(scope="module", autouse=True)
def architectures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Small architectures that open_clip knows by name, as it knows ViT-B-32."""
    folder = tmp_path_factory.mktemp("architectures")
    before = open_clip.factory._MODEL_CONFIG_PATHS[:], dict(open_clip.factory._MODEL_CONFIGS)
    for name, config in {
        "Tiny-8": TINY,
        "Tiny-8-quickgelu": {**TINY, "quick_gelu": True},
        "Tiny-8-64": LARGER,
        "Tiny-8-deep": DEEPER,
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    yield
    open_clip.factory._MODEL_CONFIG_PATHS[:] = before[0]
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._MODEL_CONFIGS.update(before[1])


def weights(path: Path, arch: str = "Tiny-8", metadata: dict[str, str] | None = None, **more: torch.Tensor) -> Path:
    torch.manual_seed(0)
    state = open_clip.create_model(arch, pretrained=None).state_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous().clone() for name, value in (state | more).items()}, path, metadata)
    return path


def refusal(name: str) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(name, device="cpu")
    message = str(caught.value)
    assert "\n" not in message and "download on first use" not in message
    return message


# -- names ------------------------------------------------------------------------------------------------------------

MEANT = {
    "ViT-B/32": "ViT-B-32:openai",
    "ViT-B-32/openai": "ViT-B-32:openai",
    "openai/clip-vit-base-patch32": "ViT-B-32:openai",
    "hf-hub:openai/clip-vit-base-patch32": "ViT-B-32:openai",
    "hf-hub:OpenAI/CLIP-ViT-Large-Patch14-336": "ViT-L-14-336:openai",
    "https://huggingface.co/openai/clip-vit-base-patch16": "ViT-B-16:openai",
    "https://huggingface.co/openai/clip-vit-base-patch16/tree/main": "ViT-B-16:openai",
    "google/siglip-base-patch16-224": "ViT-B-16-SigLIP:webli",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "ViT-B-32:laion2b_s34b_b79k",
    "timm/vit_base_patch32_clip_224.openai": "ViT-B-32:openai",
    "ViT-L/14@336px": "ViT-L-14-336:openai",
    "RN50": "RN50:openai",
    "rn50x4": "RN50x4:openai",
    "ViT-B-32": "ViT-B-32:openai",
    "ViT-B-32:": "ViT-B-32:openai",
    "ViT_B_32": "ViT-B-32:openai",
    "ViTB32": "ViT-B-32:openai",
    "clip-ViT-B-32": "ViT-B-32:openai",
    "vit-b-32:openai": "ViT-B-32:openai",
    "VIT-B-32:OPENAI": "ViT-B-32:openai",
    "ViT-B-32:OpenAI": "ViT-B-32:openai",
    "ViT-B-32:openai/": "ViT-B-32:openai",
    "ViT-B-32 : openai": "ViT-B-32:openai",
    "ViT-B-32;openai": "ViT-B-32:openai",
    "ViT-B-32@openai": "ViT-B-32:openai",
    "ViT-B-32-openai": "ViT-B-32:openai",
    '"ViT-B-32:openai"': "ViT-B-32:openai",
    "('ViT-B-32', 'openai')": "ViT-B-32:openai",
    "ViT-B-32:laion2b": "ViT-B-32:laion2b_e16",
    "ViT-B-32-quickgelu:laion2b_s34b_b79k": "ViT-B-32:laion2b_s34b_b79k",
    "ViT-B-16:laion2b-s34b-b88k": "ViT-B-16:laion2b_s34b_b88k",
    "ViT-B-32-gelu:openai": "ViT-B-32:",
    "laion2b_s34b_b79k": "ViT-B-32:laion2b_s34b_b79k",
    "Embedded": "'embedded'",
    "embedded-clip": "'embedded'",
    "hf_hub:laion/something": "hf-hub:laion/something",
    "HF-HUB:laion/something": "hf-hub:laion/something",
    "huggingface:laion/something": "hf-hub:laion/something",
    "hf-hub:https://huggingface.co/laion/something": "hf-hub:laion/something",
    "someone/fashion-clip": "hf-hub:someone/fashion-clip",
    "hf-hub:": "hf-hub:ORG/REPO",
    "hf-hub:laion": "hf-hub:ORG/REPO",
    "local_dir:somewhere": "local-dir:somewhere",
    "local-dir:": "local-dir:PATH",
    "weights.safetensors": "ARCH:weights.safetensors",
    "bert-base-uncased": "ARCH:TAG",
    "": "embedded",
}


@pytest.mark.parametrize("name", MEANT)
def test_a_wrong_name_gets_the_one_that_would_work(name: str) -> None:
    message = refusal(name)
    assert MEANT[name] in message, message


def test_spaces_around_a_name_do_no_harm() -> None:
    assert resolve("\tViT-B-32:openai\n").options == {"pretrained": "openai", "quick_gelu": True}


def test_each_known_pair_is_what_it_was() -> None:
    for arch, tag in open_clip.list_pretrained():
        source = resolve(f"{arch}:{tag}")
        config = open_clip.get_pretrained_cfg(arch, tag)
        assert source.model == arch and source.options["quick_gelu"] == bool(config.get("quick_gelu", False))


# -- files ------------------------------------------------------------------------------------------------------------


def test_paths_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no folder nope" in refusal("Tiny-8:nope/x.safetensors")
    assert f"looked for from {tmp_path}" in refusal("Tiny-8:x.safetensors")
    weights(tmp_path / "Model.safetensors")
    assert "Did you mean Tiny-8:Model.safetensors?" in refusal("Tiny-8:model.safetensors")
    assert "Did you mean Tiny-8:Model.safetensors?" in refusal("Tiny-8:model.pt")
    assert f"local-dir:{tmp_path}" in refusal(f"Tiny-8:{tmp_path}")
    assert f"local-dir:{tmp_path}" in refusal(str(tmp_path))
    assert f"ARCH:{tmp_path}/Model.safetensors" in refusal(f"local-dir:{tmp_path}/Model.safetensors")
    assert "ARCH:Model.safetensors" in refusal("Model.safetensors")
    assert "Download it" in refusal("Tiny-8:https://example.org/x.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_backbone("Tiny-8:~/Model.safetensors", "cpu").dim == 64


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_pickles_are_not_read_and_the_way_out_works(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"model{suffix}"
    torch.save({"state_dict": open_clip.create_model("Tiny-8", pretrained=None).state_dict()}, file)
    message = refusal(f"Tiny-8:{file}")
    assert "can run code" in message and "Convert it once" in message
    if suffix != ".bin":
        return
    command = message.partition("Convert it once: python")[2].rpartition(" and write ")[0]
    assert os.system(f"{sys.executable}{command}") == 0  # a shell's, as it is pasted there
    assert load_backbone(message.rpartition(" and write ")[2].rstrip("."), "cpu").dim == 64
    assert f"write Tiny-8:{tmp_path}/model.safetensors" in refusal(f"Tiny-8:{file}")


def test_files_that_hold_something_else(tmp_path: Path, tiny_backbone: Backbone) -> None:
    whole = weights(tmp_path / "whole.safetensors").read_bytes()
    one = {"x": torch.zeros(1)}

    def of(content: bytes, name: str = "x.safetensors") -> str:
        (tmp_path / name).write_bytes(content)
        return refusal(f"Tiny-8:{tmp_path / name}")

    def holding(names: list[str]) -> str:
        save_file({name: torch.zeros(1) for name in names}, tmp_path / "y.safetensors")
        return refusal(f"Tiny-8:{tmp_path / 'y.safetensors'}")

    assert "it is empty" in of(b"")
    assert "Git LFS" in of(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    assert "web page" in of(b"<!DOCTYPE html><html>404</html>")
    assert "pickled file" in of(b"PK\x03\x04" + bytes(100))
    assert "something else" in of(os.urandom(50))
    assert "cut off" in of(whole[:-1000])
    assert "cut off" in of(whole[: len(whole) // 2])
    assert "header cannot be read" in of((5).to_bytes(8, "little") + b"[1,2]")
    assert "small letters" in of(whole, "x.SafeTensors")
    assert "one part of several" in of(whole, "model-00001-of-00002.safetensors")
    assert ".safetensors file" in of(whole, "x.onnx")
    assert "transformers library" in holding(["text_model.encoder.layers.0.mlp.fc1.weight", "logit_scale"])
    assert "adapter" in holding(["base.q_proj.lora_A.weight"])
    assert "image tower alone" in holding(["visual.conv1.weight"])
    assert "no image tower" in holding(["blocks.0.attn.qkv.weight"])
    assert "input_resolution" in holding(["visual.conv1.weight", "logit_scale", "input_resolution"])
    Detector.zero_shot(tiny_backbone, ["cat", "dog"]).save(tmp_path / "detector.safetensors")
    assert "--detector" in refusal(f"Tiny-8:{tmp_path / 'detector.safetensors'}")
    save_file(one, tmp_path / "z.safetensors")
    assert "no image tower" in refusal(f"Tiny-8:{tmp_path / 'z.safetensors'}")


def test_another_architecture_is_named(tmp_path: Path) -> None:
    file = weights(tmp_path / "x.safetensors", "Tiny-8-deep")
    message = refusal(f"Tiny-8:{file}")
    assert "its layers is 3 and not 2" in message and f"Tiny-8-deep:{file}" in message
    assert "ViT-B-32" in refusal(f"ViT-B-32:{file}")
    torch_says = weights(tmp_path / "y.safetensors", logit_scale=torch.zeros(2))
    assert "does not fit its architecture" in refusal(f"Tiny-8:{torch_says}")


def test_positions_that_are_interpolated_are_said(tmp_path: Path) -> None:
    file = weights(tmp_path / "quickgelu.safetensors", "Tiny-8-64")
    backbone = load_backbone(f"Tiny-8-quickgelu:{file}", "cpu")
    (sentence,) = backbone.assumed
    assert (
        "trained on pictures of 64 pixels and Tiny-8-quickgelu has 32" in sentence and f"Tiny-8-64:{file}" in sentence
    )


# -- which activation -------------------------------------------------------------------------------------------------


def run_with(name: str) -> tuple[str, tuple[str, ...]]:
    backbone = load_backbone(name, "cpu")
    (activation,) = backbone.settings["image"]["activation"]
    assert backbone.settings["text"]["activation"] == [activation]
    return activation, backbone.assumed


def test_a_file_that_does_not_say_is_a_guess_and_the_guess_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = weights(tmp_path / "x.safetensors")
    with caplog.at_level(logging.WARNING):
        activation, assumed = run_with(f"Tiny-8:{file}")
    assert activation == "GELU" and len(assumed) == 1 and assumed[0] in caplog.text
    assert f"Tiny-8-quickgelu:{file} or Tiny-8-gelu:{file} settles it" in assumed[0]
    assert run_with(f"Tiny-8-quickgelu:{file}") == ("QuickGELU", ())
    assert run_with(f"Tiny-8-gelu:{file}") == ("GELU", ())


@pytest.mark.parametrize(
    ("metadata", "beside", "activation"),
    [
        ({"quick_gelu": "True"}, None, "QuickGELU"),
        ({"hidden_act": "quick_gelu"}, None, "QuickGELU"),
        ({"activation": "gelu"}, {"hidden_act": "quick_gelu"}, "GELU"),
        (None, ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}), "QuickGELU"),
        (None, ("config.json", {"model_type": "clip", "text_config": {"hidden_act": "quick_gelu"}}), "QuickGELU"),
        (None, ("config.json", {"vision_config": {"hidden_act": "gelu"}}), "GELU"),
        (None, ("config.json", ["nothing"]), "GELU"),
    ],
)
def test_what_says_the_activation_is_believed(
    metadata: dict[str, str] | None, beside: Any, activation: str, tmp_path: Path
) -> None:
    file = weights(tmp_path / "x.safetensors", metadata=metadata)
    if isinstance(beside, tuple):
        (tmp_path / beside[0]).write_text(json.dumps(beside[1]))
    found, assumed = run_with(f"Tiny-8:{file}")
    assert found == activation
    if activation == "QuickGELU":
        assert "is run with QuickGELU, as" in assumed[0]
    assert run_with(f"Tiny-8-gelu:{file}")[0] == "GELU"


@pytest.mark.parametrize(
    ("arch", "path", "quick"),
    [
        ("ViT-B-32", "weights/ViT-B-32-quickgelu.safetensors", True),
        ("ViT-B-32", "openai/ViT-B-32.safetensors", True),
        ("ViT-B-32", "vit_b_32-openai.safetensors", True),
        ("ViT-B-32", "vit_b_32-quickgelu-laion400m_e32-46683a32.safetensors", True),
        ("ViT-B-32", "laion2b_s34b_b79k.safetensors", False),
        ("ViT-B-32", "models--timm--vit_base_patch32_clip_224.openai/snapshots/0/open_clip_model.safetensors", True),
        ("ViT-B-16", "models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K/snapshots/0/open_clip_model.safetensors", False),
        ("ViT-L-14-336", "x.safetensors", True),  # OpenAI's are all that there are
        ("RN50", "x.safetensors", True),
        ("ViT-B-16-SigLIP", "x.safetensors", False),
        ("ViT-B-32", "x.safetensors", None),
        ("ViT-B-32", "myopenaimodel.safetensors", None),
    ],
)  # fmt: skip
def test_a_path_may_tell_the_activation(arch: str, path: str, quick: bool | None, tmp_path: Path) -> None:
    found = find_activation(WeightsFile(tmp_path / path, {}, {}), arch)
    assert (found and found[0]) == quick, found


def test_the_two_readings_of_a_file_share_nothing(tmp_path: Path) -> None:
    file = weights(tmp_path / "x.safetensors")
    plain, quick = (load_backbone(f"Tiny-8-{kind}:{file}", "cpu") for kind in ("gelu", "quickgelu"))
    guessed = load_backbone(f"Tiny-8:{file}", "cpu")
    assert plain.weights_hash == quick.weights_hash == guessed.weights_hash
    assert quick.fingerprint not in (plain.fingerprint, guessed.fingerprint)
    Detector.zero_shot(quick, ["cat", "dog"], score_name="lsn").save(tmp_path / "quick.safetensors")
    with pytest.raises(UserError, match="activation was QuickGELU and is GELU") as caught:
        Detector.load(tmp_path / "quick.safetensors", guessed)
    assert "Tiny-8-quickgelu:FILE for QuickGELU" in str(caught.value)
    assert Detector.load(tmp_path / "quick.safetensors").backbone.fingerprint == quick.fingerprint
    Detector.zero_shot(plain, ["cat", "dog"], score_name="lsn").save(tmp_path / "plain.safetensors")
    assert Detector.load(tmp_path / "plain.safetensors", guessed)  # the same function


def test_preprocessing_is_that_of_the_architectures_own_weights() -> None:
    from lsn_core.backbones.weights_file import preprocessing_of

    found = preprocessing_of("ViT-B-16-SigLIP")
    assert found is not None and (found["mean"], found["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")
    assert preprocessing_of("ViT-H-14") is None  # its weights differ
    assert preprocessing_of("Tiny-8") is None


# -- folders ----------------------------------------------------------------------------------------------------------


def folder(path: Path, config: object = None, name: str = "open_clip_model.safetensors") -> Path:
    path.mkdir()
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY} if config is None else config))
    weights(path / name)
    return path


def test_folders_that_cannot_serve(tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(f"local-dir:{tmp_path}/none")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    assert "transformers library" in refusal(f"local-dir:{tmp_path}/hf")
    assert "model_cfg" in refusal(f"local-dir:{folder(tmp_path / 'a', {'vision_cfg': {}})}")
    (tmp_path / "a" / "open_clip_config.json").write_text("{")
    assert "cannot be read as JSON" in refusal(f"local-dir:{tmp_path}/a")
    two = folder(tmp_path / "two", name="one.safetensors")
    assert load_backbone(f"local-dir:{two}", "cpu").dim == 64
    shutil.copy(two / "one.safetensors", two / "two.safetensors")
    assert "2 .safetensors files" in refusal(f"local-dir:{two}")
    pickled = folder(tmp_path / "pickled", name="mine.safetensors")
    torch.save({}, pickled / "open_clip_pytorch_model.bin")  # open_clip prefers it, for its name
    assert "open_clip_model.safetensors" in refusal(f"local-dir:{pickled}")


def test_a_folder_whose_config_may_be_wrong_is_said(tmp_path: Path) -> None:
    path = folder(tmp_path / "vit-quickgelu")
    (sentence,) = load_backbone(f"local-dir:{path}", "cpu").assumed
    assert '"quick_gelu": true or false' in sentence
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**TINY, "quick_gelu": True}}))
    backbone = load_backbone(f"local-dir:{path}", "cpu")
    assert backbone.assumed == () and backbone.settings["image"]["activation"] == ["QuickGELU"]


# -- on the command line ----------------------------------------------------------------------------------------------


def test_doctor_says_what_runs(tmp_path: Path) -> None:
    file = weights(tmp_path / "x.safetensors")
    said = CliRunner().invoke(build(), ["doctor", "--backbone", f"Tiny-8:{file}", "--device", "cpu", "--json"])
    report = json.loads(said.stdout)
    assert report["activation"] == "GELU" and report["image_size"] == "32 x 32" and "settles it" in report["assumed"][0]
    said = CliRunner().invoke(build(), ["doctor", "--backbone", "ViT-B/32", "--device", "cpu"])
    assert said.exit_code == 1 and "ViT-B-32:openai" in said.stdout
    said = CliRunner().invoke(
        build(), ["doctor", "--device", "cpu"], env={"LSN_BACKBONE": "openai/clip-vit-base-patch32"}
    )
    assert said.exit_code == 1 and "is ViT-B-32:openai here" in said.stdout
