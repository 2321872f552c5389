"""BLIP gives the features of the transformers library's own model, by ids and by embeddings, whatever looks into it."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_blip import SIDE, change_config, random_blip, save_tiny_blip
from transformers import BertTokenizerFast, BlipConfig, BlipForImageTextRetrieval, BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip_text import BlipTextModel

from lsn_core import Backbone, Detector, UserError, load_backbone
from lsn_core.backbones import compiled
from lsn_core.backbones.blip_model import BlipImageTower, BlipModel, BlipTextTower, BlipTokenizer, rename_weights
from lsn_core.backbones.blip_text import BlipText
from lsn_core.backbones.image_tower import view_image
from lsn_core.data.images import open_image
from lsn_core.heatmaps.maps import explain, heat_maps
from lsn_core.heatmaps.methods import METHODS, fitting_methods
from lsn_core.heatmaps.targets import Target
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens

TEXTS = ("a photo of a dog", "cat", "there is no airplane in the photo, a ship without any dogs.", "", "a [PAD] b")
CLASSES = ("cat", "airplane", "ship")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blip") / "tiny"


@pytest.fixture(scope="module")
def original(folder: Path) -> BlipForImageTextRetrieval:
    """Transformers' own model; what is saved of it lies in `folder`."""
    return save_tiny_blip(folder)


@pytest.fixture(scope="module")
def backbone(original: BlipForImageTextRetrieval, folder: Path) -> Backbone:
    return load_backbone(f"blip:{folder}", device="cpu")


@pytest.fixture(scope="module")
def photo(examples: Path) -> Image.Image:
    return open_image(examples / "dog.jpg")


def own_features(original: BlipForImageTextRetrieval, pixels: torch.Tensor, words: dict[str, torch.Tensor]):
    """Image features, text features and cosines as transformers has them."""
    with torch.no_grad():
        out = original(pixel_values=pixels, use_itm_head=False, **words)
        images = F.normalize(original.vision_proj(out.last_hidden_state[:, 0]), dim=-1)
        return images, F.normalize(original.text_proj(out.question_embeds[:, 0]), dim=-1), out.itm_score


def own_words(folder: Path, texts: tuple[str, ...] = TEXTS) -> dict[str, torch.Tensor]:
    words = BertTokenizerFast.from_pretrained(str(folder))(list(texts), padding=True, return_tensors="pt")
    return {name: words[name] for name in ("input_ids", "attention_mask")}


# -- features ----------------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_transformers_library(
    original: BlipForImageTextRetrieval, backbone: Backbone, folder: Path
) -> None:
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    images, texts, cosines = own_features(original, pixels, own_words(folder))
    assert (texts[0] - texts[1]).abs().max() > 1e-2 and (images[0] - images[1]).abs().max() > 1e-2
    found_images, found_texts = backbone.encode_pixels(pixels), backbone.encode_texts(TEXTS)
    torch.testing.assert_close(found_images, images, atol=1e-5, rtol=0)
    torch.testing.assert_close(found_texts, texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(found_images @ found_texts.T, cosines, atol=1e-5, rtol=0)
    alone = torch.cat([backbone.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(alone, texts, atol=1e-5, rtol=0)
    tokens = backbone.tokenize(TEXTS)  # at its full length
    torch.testing.assert_close(F.normalize(backbone.model.encode_text(tokens), dim=-1), texts, atol=1e-5, rtol=0)


def test_pictures_are_squeezed_as_blip_was_trained_and_not_cropped(backbone: Backbone, photo: Image.Image) -> None:
    wide = photo.crop((0, 0, photo.width, photo.height // 3))
    settings = backbone.model.visual.preprocess_cfg
    square = np.asarray(wide.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    wanted = (square - np.array(settings["mean"])) / np.array(settings["std"])
    found = backbone.preprocess(wide).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert view_image(backbone, wide).box == (0.0, 0.0, wide.width, wide.height)


def test_the_temperature_is_that_of_the_config(folder: Path, backbone: Backbone, tmp_path: Path) -> None:
    assert backbone.temperature == pytest.approx(0.07, abs=1e-5)
    save_tiny_blip(tmp_path, logit_scale_init_value=4.0)
    assert load_backbone(f"blip:{tmp_path}", device="cpu").temperature == pytest.approx(np.exp(-4.0))


def test_weights_saved_in_fp16_run_in_fp32(original: BlipForImageTextRetrieval, folder: Path, tmp_path: Path) -> None:
    half = copy.deepcopy(original).half()
    save_tiny_blip(tmp_path)
    half.save_pretrained(tmp_path)
    found = load_backbone(f"blip:{tmp_path}", device="cpu")
    assert found.settings["image"]["precision"] == found.settings["text"]["precision"] == ["float32"]
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    images, texts, _ = own_features(half.float(), pixels, own_words(folder))
    torch.testing.assert_close(found.encode_pixels(pixels), images, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.encode_texts(TEXTS), texts, atol=1e-5, rtol=0)


def test_quickgelu_and_other_norms_of_a_config_are_run(tmp_path: Path) -> None:
    """Settings that are in no weight; both towers have their own."""
    text = {"hidden_act": "quick_gelu", "layer_norm_eps": 0.1}
    vision = {"hidden_act": "quick_gelu", "layer_norm_eps": 0.3}
    original = save_tiny_blip(tmp_path, text=text, vision=vision)
    found = load_backbone(f"blip:{tmp_path}", device="cpu")
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    images, texts, _ = own_features(original, pixels, own_words(tmp_path))
    torch.testing.assert_close(found.encode_pixels(pixels), images, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.encode_texts(TEXTS), texts, atol=1e-5, rtol=0)


def test_at_the_size_of_blip_base_features_are_those_of_the_transformers_library() -> None:
    """ViT-B/16 at 384 and BERT-base, as Salesforce/blip-itm-base-coco has them, with random weights."""
    text = BlipTextConfig(num_attention_heads=12, vocab_size=30524)
    config = BlipConfig(text_config=text.to_dict(), vision_config=BlipVisionConfig(num_attention_heads=12).to_dict())
    original = random_blip(config)
    text.is_decoder = False
    with torch.device("meta"):
        visual = BlipImageTower(config.vision_config, config.image_text_hidden_size, {"size": 384})
        tower = BlipTextTower(BlipTextModel(text, add_pooling_layer=False), config.image_text_hidden_size, 0)
    model = BlipModel(visual, tower, 0.07).eval()
    assert sum(tensor.numel() for tensor in model.parameters()) > 190e6
    missing, unexpected = model.load_state_dict(rename_weights(original.state_dict()), strict=False, assign=True)
    assert missing == ["logit_scale"] and not unexpected
    ids = torch.tensor([[101, 1037, 6302, 1997, 1037, 3899, 102], [101, 4937, 102, 0, 0, 0, 0]])
    pixels = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(1))
    images, texts, _ = own_features(original, pixels, {"input_ids": ids, "attention_mask": (ids != 0).long()})
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(pixels, normalize=True), images, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.encode_text(ids, normalize=True), texts, atol=1e-5, rtol=0)


# -- prompts -----------------------------------------------------------------------------------------------------------


def test_prompts_by_embeddings_are_those_by_ids(backbone: Backbone) -> None:
    assert backbone.promptable and isinstance(backbone.text, BlipText) and backbone.width == 32
    words = backbone.embed_tokens(backbone.tokenize(["a photo of a"]))[0, 1:5]
    names = NameTokens.of(backbone, CLASSES, 4)
    wanted = backbone.encode_texts([f"a photo of a {name}." for name in CLASSES])
    for contexts in (words[None, None], words.expand(2, len(CLASSES), 4, -1)):
        for memory in (3.0, 1e-9):
            found = TextTower(backbone, names, memory_gib=memory).encode(contexts)
            torch.testing.assert_close(found, wanted.expand(len(contexts), -1, -1), atol=1e-5, rtol=0)


def test_embeddings_that_are_given_are_left_as_they_were(backbone: Backbone) -> None:
    """Transformers adds positions in place."""
    embedded = backbone.embed_tokens(backbone.tokenize(["a cat"]))
    before = embedded.clone()
    backbone.encode_prompts(embedded, torch.tensor([3]))
    assert torch.equal(embedded, before)


def test_gradients_of_contexts_are_those_of_differences(backbone: Backbone) -> None:
    names = NameTokens.of(backbone, CLASSES, 2)
    tower = TextTower(backbone, names)
    generator = torch.Generator().manual_seed(2)
    contexts = (torch.randn(1, 1, 2, 32, generator=generator) * 0.1).requires_grad_()
    weights, step = torch.randn(3, 20, generator=generator), torch.randn(1, 1, 2, 32, generator=generator) * 1e-2
    (gradient,) = torch.autograd.grad((tower.encode(contexts)[0] * weights).sum(), contexts)
    with torch.no_grad():
        ahead, behind = ((tower.encode(contexts + sign * step)[0] * weights).sum() for sign in (1, -1))
    assert float((gradient * step).sum()) == pytest.approx(float(ahead - behind) / 2, rel=2e-2)


def test_a_text_that_does_not_fit_is_refused_with_its_length(backbone: Backbone) -> None:
    assert backbone.context_length == 40
    backbone.encode_texts(["cat " * 38])
    with pytest.raises(UserError, match=r"has 41 tokens, but .* reads at most 40"):
        backbone.encode_texts(["cat " * 39])


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_detector_is_loaded_on_the_same_model_alone(
    backbone: Backbone, folder: Path, tmp_path: Path, photo: Image.Image
) -> None:
    file = tmp_path / "detector.safetensors"
    detector = Detector.zero_shot(backbone, CLASSES)
    detector.save(file)
    assert Detector.load(file).predict([photo])[0].score == pytest.approx(detector.predict([photo])[0].score)
    other = tmp_path / "other"
    save_tiny_blip(other, seed=1)
    with pytest.raises(UserError, match="weights"):
        Detector.load(file, load_backbone(f"blip:{other}", device="cpu"))
    save_tiny_blip(other)
    change_config(other, text_config__hidden_act="quick_gelu")
    with pytest.raises(UserError, match="run differently"):
        Detector.load(file, load_backbone(f"blip:{other}", device="cpu"))


def test_what_is_of_no_effect_is_not_part_of_its_identity(backbone: Backbone, folder: Path, tmp_path: Path) -> None:
    """The matching head and the cross-attention are not run, and other settings of a config are other models'."""
    save_tiny_blip(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state = {name: value for name, value in state.items() if not re.search("itm_head|crossattention", name)}
    state["text_encoder.embeddings.position_ids"] = torch.arange(40)[None]  # as earlier releases saved it
    state["image_queue"] = torch.zeros(3)  # of the original's training
    save_file(state, tmp_path / "model.safetensors")
    change_config(tmp_path, text_config__label_smoothing=0.1, projection_dim=7)
    found = load_backbone(f"blip:{tmp_path}", device="cpu")
    assert found.weights_hash == backbone.weights_hash and found.fingerprint == backbone.fingerprint


def test_another_vocabulary_is_another_function(backbone: Backbone, folder: Path, tmp_path: Path) -> None:
    save_tiny_blip(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    lines = (tmp_path / "vocab.txt").read_text().split()
    lines[14], lines[15] = lines[15], lines[14]  # dogs for cats
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
    found = load_backbone(f"blip:{tmp_path}", device="cpu")
    assert found.weights_hash == backbone.weights_hash and found.fingerprint != backbone.fingerprint
    assert found.settings["text"]["tokenizer"] != backbone.settings["text"]["tokenizer"]


def test_the_tokenizer_pads_and_cuts_as_open_clips_do(backbone: Backbone) -> None:
    assert isinstance(backbone.tokenizer, BlipTokenizer)
    rows = backbone.tokenizer(["cat", "cat cat cat cat cat"], context_length=5)
    assert rows.tolist() == [[2, 15, 3, 0, 0], [2, 15, 15, 15, 3]]
    assert backbone.tokenizer("cat", context_length=4).tolist() == [[2, 15, 3, 0]]


# -- what looks into the image tower -----------------------------------------------------------------------------------


def test_all_methods_of_heat_maps_work(backbone: Backbone, photo: Image.Image) -> None:
    view = view_image(backbone, photo)
    torch.testing.assert_close(view.feature, backbone.encode_images([photo])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(view.head(view.activations[None])[0], view.feature, atol=1e-5, rtol=0)
    assert fitting_methods(view) == list(METHODS)
    detector = Detector.zero_shot(backbone, CLASSES)
    for method in METHODS:
        maps = explain(detector, view, method=method)
        assert maps.values.shape == (2, 6, 6) and np.isfinite(maps.values).all() and maps.limit > 0


def test_grad_cam_is_that_of_the_transformers_librarys_own_model(
    original: BlipForImageTextRetrieval, backbone: Backbone, photo: Image.Image
) -> None:
    """The activations are the patches as the last block's attention reads them, caught there by hooks."""
    direction = F.normalize(torch.randn(20, generator=torch.Generator().manual_seed(3)), dim=-1)
    kept: list[torch.Tensor] = []
    norm = original.vision_model.encoder.layers[-1].layer_norm1
    hook = norm.register_forward_hook(lambda _, __, out: kept.append(out.requires_grad_()) or kept[-1])
    pixels = backbone.preprocess(photo)[None].requires_grad_()
    feature = F.normalize(original.vision_proj(original.vision_model(pixels).last_hidden_state[:, 0]), dim=-1)
    hook.remove()
    (gradient,) = torch.autograd.grad((feature[0] * direction).sum(), kept[0])
    weights = gradient[0, 1:].mean(dim=0)  # (W,)
    wanted = (kept[0][0, 1:] @ weights).detach().reshape(6, 6).numpy()
    maps = heat_maps(view_image(backbone, photo), [Target("x", direction, 0.0)], "grad-cam")
    np.testing.assert_allclose(maps.values[0], wanted, atol=1e-5 * np.abs(wanted).max() + 1e-6)


def test_features_before_the_projection_are_the_class_token_of_transformers(
    original: BlipForImageTextRetrieval, backbone: Backbone, photo: Image.Image
) -> None:
    pooled = backbone.encode_images_before_projection([photo])
    with torch.no_grad():
        own = original.vision_model(backbone.preprocess(photo)[None])
    torch.testing.assert_close(pooled, own.last_hidden_state[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.project_images(pooled), backbone.encode_images([photo]), atol=1e-5, rtol=0)
    assert backbone.encode_image_maps([photo]).shape == (1, 48, 6, 6)


def test_the_compiled_image_tower_gives_the_same_features(
    folder: Path, backbone: Backbone, photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv(compiled.VARIABLE, "auto")
    found = load_backbone(f"blip:{folder}", device="cpu")
    assert found.runtime.compile() and found.runtime.name == "openvino"
    torch.testing.assert_close(found.encode_images([photo]), backbone.encode_images([photo]), atol=1e-5, rtol=0)


def test_a_folder_may_be_written_anew_while_its_model_runs(tmp_path: Path) -> None:
    save_tiny_blip(tmp_path)
    found = load_backbone(f"blip:{tmp_path}", device="cpu")
    before = found.encode_texts(TEXTS)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert torch.equal(found.encode_texts(TEXTS), before)
