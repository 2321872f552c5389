"""BLIP's names and files: what is wrong is said before anything is downloaded or loaded."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_blip import change_config, processor_in, save_tiny_blip, tiny_config
from transformers import BlipForConditionalGeneration, BlipModel

from lsn_core import UserError, load_backbone
from lsn_core.backbones import blip_loading


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip") / "tiny"
    save_tiny_blip(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A folder of its own that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "blip"))


def refusal(name: str) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(name, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    return message


MEANT = {
    "blip:": "blip:ORG/REPO",
    "blip:somewhere": "blip:FOLDER",
    "blip:/no/such/folder": "There is no folder /no/such/folder",
    "blip:https://huggingface.co/Salesforce/blip-itm-base-coco": "blip:Salesforce/blip-itm-base-coco?",
    "BLIP:Salesforce/blip-itm-base-coco": "blip:Salesforce/blip-itm-base-coco?",
    "blip Salesforce/blip-itm-base-coco": "blip:Salesforce/blip-itm-base-coco?",
    "Salesforce/blip-itm-large-flickr": "blip:Salesforce/blip-itm-large-flickr?",
    "blip-itm-base-coco": "blip:Salesforce/blip-itm-base-coco?",
    "hf-hub:Salesforce/blip-itm-base-coco": "write blip:Salesforce/blip-itm-base-coco",
}


@pytest.mark.parametrize("name", MEANT)
def test_a_wrong_name_gets_the_one_that_would_work(name: str) -> None:
    assert MEANT[name] in refusal(name)


def test_other_forms_of_name_point_to_this_one(folder: Path) -> None:
    for name in (f"local-dir:{folder}", str(folder), f"ViT-B-32:{folder / 'model.safetensors'}"):
        assert f"blip:{folder}" in refusal(name), name
    assert f"Write blip:{folder}." in refusal(f"blip:{folder / 'model.safetensors'}")


def test_without_transformers_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blip_loading, "find_spec", lambda name: None)
    assert "pip install 'lsn-core[transformers]'" in refusal("blip:Salesforce/blip-itm-base-coco")


# -- folders -----------------------------------------------------------------------------------------------------------


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def of_open_clip(folder: Path) -> None:
    (folder / "config.json").rename(folder / "open_clip_config.json")


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def of_clip(folder: Path) -> None:
    change_config(folder, model_type="clip")


def other_activation(folder: Path) -> None:
    change_config(folder, text_config__hidden_act="mish")


def other_sizes(folder: Path) -> None:
    change_config(folder, text_config__hidden_size=64)


def fewer_layers(folder: Path) -> None:
    change_config(folder, vision_config__num_hidden_layers=3)


def sizes_of_words(folder: Path) -> None:
    change_config(folder, vision_config__patch_size="8")


def heads_that_do_not_divide(folder: Path) -> None:
    change_config(folder, text_config__num_attention_heads=5)


def strange_temperature(folder: Path) -> None:
    change_config(folder, logit_scale_init_value="warm")


def no_tokenizer(folder: Path) -> None:
    for name in ("vocab.txt", "tokenizer.json"):
        (folder / name).unlink()


def tokenizer_of_clip(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    path.write_text(json.dumps({**tokenizer, "model": {**tokenizer["model"], "type": "BPE"}}))


def damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')


def more_words(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text() + "extra\n")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def in_parts(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")


def under_another_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "blip.safetensors")


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def one_tensor_less(folder: Path) -> None:
    change_weights(folder, lambda state: state.pop("vision_model.encoder.layers.1.layer_norm2.bias"))


def one_of_another_size(folder: Path) -> None:
    change_weights(folder, lambda state: state.update({"vision_model.post_layernorm.bias": torch.zeros(3)}))


def change_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def another_side(folder: Path) -> None:
    processor_in(folder, side=64)


def cropped(folder: Path) -> None:
    settings = {"size": {"height": 48, "width": 48}, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def nearest(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 48, "resample": 0}))


WRONG: dict[Callable[[Path], None], str] = {
    no_config: "has no config.json",
    of_open_clip: "write local-dir:",
    no_json: "cannot be read as JSON",
    of_clip: "of type 'clip'",
    other_activation: "names the activation 'mish'",
    other_sizes: "word_embeddings.weight is 72 x 32 there and 72 x 64 by config.json",
    fewer_layers: "vision_model.encoder.layers are 4 there and 3 by config.json",
    sizes_of_words: "patch_size that is no whole number",
    heads_that_do_not_divide: "describes no BLIP that can be built",
    strange_temperature: "logit_scale_init_value of 'warm'",
    no_tokenizer: "Take vocab.txt",
    tokenizer_of_clip: "no tokenizer of BERT",
    damaged_tokenizer: "The tokenizer in",
    more_words: "73 tokens, and the text tower knows 72",
    no_weights: "has no model.safetensors",
    a_pickle: "Pickles are not read",
    in_parts: "max_shard_size",
    under_another_name: "Is it blip.safetensors?",
    cut_off: "it is cut off",
    one_tensor_less: "lacks visual.transformer.resblocks.1.ln_2.bias",
    one_of_another_size: "visual.ln_post.bias is (3,) there and (48,) by config.json",
    another_side: "resizes pictures to 64 x 64, and the tower reads 48 x 48",
    cropped: "cuts out the middle",
    nearest: "resampling '0'",
}


@pytest.mark.parametrize("damage", WRONG, ids=lambda damage: damage.__name__)
def test_what_is_wrong_with_a_folder_is_said(damage: Callable[[Path], None], folder: Path) -> None:
    damage(folder)
    message = refusal(f"blip:{folder}")
    assert WRONG[damage] in message and str(folder) in message, message


@pytest.mark.parametrize("other", [BlipForConditionalGeneration, BlipModel])
def test_a_blip_without_contrastive_heads_is_refused(other: Any, tmp_path: Path) -> None:
    processor_in(tmp_path)
    other(tiny_config()).save_pretrained(tmp_path)
    message = refusal(f"blip:{tmp_path}")
    assert other.__name__ in message and "BlipForImageTextRetrieval" in message


def test_without_settings_of_pictures_blips_own_are_taken_and_it_is_said(folder: Path) -> None:
    known = load_backbone(f"blip:{folder}", device="cpu")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    found = load_backbone(f"blip:{folder}", device="cpu")
    assert not known.assumed and "48 x 48" in found.assumed[0]
    assert found.model.visual.preprocess_cfg == known.model.visual.preprocess_cfg


def test_settings_of_pictures_as_earlier_releases_wrote_them_are_read(folder: Path) -> None:
    """With what Salesforce's own have beside them: padding, which BLIP's processor does not know."""
    known = load_backbone(f"blip:{folder}", device="cpu")
    settings = {"do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True, "size_divisor": 32}
    settings |= {"image_processor_type": "BlipImageProcessor", "processor_class": "BlipProcessor", "resample": 3}
    settings |= {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    settings |= {"rescale_factor": 1 / 255, "size": {"height": 48, "width": 48}}
    (folder / "processor_config.json").unlink(missing_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    found = load_backbone(f"blip:{folder}", device="cpu")
    assert found.fingerprint == known.fingerprint and not found.assumed


# -- the Hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The Hub's client, with one repository whose files lie in a folder; keeps what it was asked for."""
    asked: dict[str, Any] = {"files": [], "revisions": []}

    def snapshot(repository: str, revision: str | None, cache_dir: str | None, allow_patterns: list[str]) -> str:
        asked["revisions"].append(revision)
        asked["files"] += allow_patterns
        return str(folder)

    def download(repository: str, file: str, revision: str, cache_dir: str | None) -> str:
        asked["files"].append(file)
        if not (folder / file).exists():
            raise EntryNotFoundError("404")
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "get_repo_discussions", lambda *_, **__: iter(()))
    return asked


def test_a_repository_is_fetched_without_its_pickles(hub: dict[str, Any], folder: Path) -> None:
    found = load_backbone("blip:Salesforce/blip-itm-base-coco@refs/pr/5", device="cpu")
    assert found.name == "blip:Salesforce/blip-itm-base-coco@refs/pr/5"
    assert found.weights_hash == load_backbone(f"blip:{folder}", device="cpu").weights_hash
    assert hub["revisions"] == ["refs/pr/5"] and "model.safetensors" in hub["files"]
    assert not [name for name in hub["files"] if name.endswith((".bin", ".h5", ".py")) or "*" in name]


def test_a_repository_of_pickles_alone_gets_two_ways_out(
    hub: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.safetensors").unlink()
    message = refusal("blip:Salesforce/blip-itm-base-coco")
    assert "pickles are not read" in message and "save_pretrained" in message and "refs/pr" not in message
    changes = [SimpleNamespace(num=3, status="closed"), SimpleNamespace(num=5, status="open")]
    monkeypatch.setattr(huggingface_hub, "get_repo_discussions", lambda *_, **__: iter(changes))
    assert "blip:Salesforce/blip-itm-base-coco@refs/pr/5" in refusal("blip:Salesforce/blip-itm-base-coco")


def test_a_model_of_another_kind_is_refused_before_its_weights_are_fetched(hub: dict[str, Any], folder: Path) -> None:
    of_clip(folder)
    assert "of type 'clip'" in refusal("blip:someone/some-clip")
    assert "model.safetensors" not in hub["files"]


def test_without_network_the_sentence_is_that_of_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal("blip:Salesforce/blip-itm-base-coco")
    assert "download on first use" in message and "blip:FOLDER" in message and "'embedded'" in message
