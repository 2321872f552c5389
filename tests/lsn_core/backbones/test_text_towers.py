"""Every kind of text tower, prompted, equals the model's own `encode_text` of the same tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from benchmarks.stand_ins import stand_in
from lsn_core import Backbone, Detector, UserError, get_preset, load_backbone, train
from lsn_core.backbones.hugging_face_text import HuggingFaceText
from lsn_core.backbones.text_towers import CausalText, ClassTokenText, WholeText
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens
from lsn_core.scores.registry import usable_scores

FOLDERS = ["ViT-B-16-SigLIP", "coca_ViT-B-32", "roberta-ViT-B-32", "mt5-base-ViT-B-32", "nllb-clip-base-siglip"]
NAMES = ["cat", "great white shark", "dog"]
TEXTS = ["a photo of a cat", "dog", "not a photo of a very small dog on a green lawn", "a! b", ""]
# One architecture of each family: kind, tokens before a text, and the layout of its tokenizer.
FAMILIES = [
    ("ViT-B-32", CausalText, 1),
    ("EVA02-B-16", CausalText, 1),
    ("PE-Core-S-16-384", CausalText, 1),
    ("MobileCLIP-B", CausalText, 1),
    ("ViT-H-14-worldwide-quickgelu", CausalText, 1),
    ("MobileCLIP-S1", WholeText, 1),
    ("MobileCLIP2-S0", WholeText, 1),
    ("ViT-L-14-CLIPA", WholeText, 1),
    ("ViT-B-16-SigLIP", WholeText, 0),
    ("ViT-B-16-SigLIP-i18n-256", WholeText, 0),
    ("ViT-SO400M-16-SigLIP-i18n-256", WholeText, 0),
    ("ViT-B-32-SigLIP2-256", WholeText, 0),
    ("coca_ViT-B-32", ClassTokenText, 1),
    ("roberta-ViT-B-32", HuggingFaceText, 1),
    ("xlm-roberta-base-ViT-B-32", HuggingFaceText, 1),
    ("mt5-base-ViT-B-32", HuggingFaceText, 0),
    ("nllb-clip-base", HuggingFaceText, 1),
    ("nllb-clip-base-siglip", HuggingFaceText, 1),
]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family[0])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, type, int]:
    arch, kind, start = request.param
    return stand_in(arch, tmp_path_factory.mktemp(arch), reduced=True, vocabulary=400), kind, start


def own_features(backbone: Backbone, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return F.normalize(backbone.model.encode_text(tokens), dim=-1)


def test_texts_have_the_features_of_the_models_own_function(family: tuple[Backbone, type, int]) -> None:
    backbone, kind, start = family
    assert type(backbone.text) is kind and backbone.promptable and backbone.framing.start == start
    tokens = backbone.tokenize(TEXTS)
    wanted = own_features(backbone, tokens)
    assert float((wanted[0] - wanted[2]).abs().max()) > 1e-3
    torch.testing.assert_close(backbone.encode_texts(TEXTS), wanted, atol=1e-5, rtol=0)
    for text, row in zip(TEXTS, wanted, strict=True):  # alone, it may be cut shorter
        torch.testing.assert_close(backbone.encode_texts([text])[0], row, atol=1e-5, rtol=0)


def test_a_learned_context_with_the_embeddings_of_words_is_the_sentence(family: tuple[Backbone, type, int]) -> None:
    backbone, _, start = family
    words = backbone.embed_tokens(backbone.tokenize(["a photo of a"]))[0, start : start + 4]
    wanted = own_features(backbone, backbone.tokenize([f"a photo of a {name}." for name in NAMES]))
    names = NameTokens.of(backbone, NAMES, 4)
    for contexts in (words[None, None], words.expand(2, len(NAMES), 4, -1)):
        for memory in (3.0, 1e-9):
            with torch.no_grad():
                found = TextTower(backbone, names, memory_gib=memory).encode(contexts)
            torch.testing.assert_close(found, wanted.expand(len(contexts), -1, -1), atol=1e-5, rtol=0)


def test_gradients_do_not_depend_on_chunks_of_classes(family: tuple[Backbone, type, int]) -> None:
    backbone = family[0]
    names = NameTokens.of(backbone, NAMES, 4)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, len(NAMES), backbone.dim, generator=generator)
    gradients = []
    for memory in (3.0, 1e-9):
        contexts = torch.randn(2, len(NAMES), 4, backbone.width, generator=generator.manual_seed(1)).requires_grad_()
        (TextTower(backbone, names, memory_gib=memory).encode(contexts) * weights).sum().backward()
        gradients.append(contexts.grad)
    assert float(gradients[0].norm()) > 0 and all(bool(row.any()) for row in gradients[0].flatten(0, 2))
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 1e-4


def test_a_name_fits_up_to_the_last_position(family: tuple[Backbone, type, int]) -> None:
    backbone = family[0]
    fitting = backbone.context_length - 4 - int(backbone.find_eot(backbone.tokenize(["."]))[0]) - 1
    fitting -= int(backbone.find_eot(backbone.tokenize(["cat."]))[0] - backbone.find_eot(backbone.tokenize(["cat"]))[0])
    name = " ".join(["cat"] * max(fitting - 1, 1))
    assert (
        TextTower(backbone, NameTokens.of(backbone, [name], 4))
        .encode(torch.zeros(1, 1, 4, backbone.width))
        .isfinite()
        .all()
    )
    with pytest.raises(UserError, match="too long"):
        NameTokens.of(backbone, [" ".join(["cat"] * (backbone.context_length + 1))], 4)


def test_a_text_that_would_be_cut_is_refused(family: tuple[Backbone, type, int]) -> None:
    backbone = family[0]
    with pytest.raises(UserError, match="tokens"):
        backbone.encode_texts(["cat " * backbone.context_length])


def test_in_half_the_bits_it_is_nearly_the_same(family: tuple[Backbone, type, int]) -> None:
    backbone = family[0]
    names = NameTokens.of(backbone, NAMES, 4)
    contexts = torch.randn(2, 1, 4, backbone.width, generator=torch.Generator().manual_seed(2)) * 0.02
    with torch.no_grad():
        whole, half = (TextTower(backbone, names, precision=bits).encode(contexts) for bits in ("fp32", "bf16"))
    assert half.dtype == torch.float32 and float((whole * half).sum(dim=-1).min()) > 0.99


def test_a_tiny_training_learns_and_comes_back_from_its_file(
    family: tuple[Backbone, type, int], tmp_path: Path
) -> None:
    backbone = family[0]
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(3, backbone.dim, generator=generator), dim=-1)
    labels = torch.arange(36) % 3
    features = F.normalize(centres[labels] + 0.3 * torch.randn(36, backbone.dim, generator=generator), dim=-1)
    config = get_preset("paper", shots=10)
    fewer = {"context_length": 4, "updates": 4, "batch_size": 12}
    config = replace(config, positive=replace(config.positive, **fewer), negative=replace(config.negative, **fewer))
    detector = train(features, labels, NAMES, backbone, config)
    assert detector.negative.shape == (3, 3, backbone.dim) and detector.calibration is not None
    plain = NameTokens.of(backbone, NAMES, 4)
    with torch.no_grad():
        again = TextTower(backbone, plain).encode(detector.contexts["negative.contexts"])
    torch.testing.assert_close(again, detector.negative, atol=1e-5, rtol=0)
    detector.save(tmp_path / "d.safetensors")
    loaded = Detector.load(tmp_path / "d.safetensors", backbone)
    assert torch.equal(loaded.score_features(features), detector.score_features(features))
    assert ("sigmoid" in usable_scores(3, loaded.has)) == (backbone.bias is not None)


@pytest.mark.parametrize("arch", FOLDERS)
def test_from_a_folder_it_is_the_same_function(arch: str, tmp_path: Path) -> None:
    """With its tokenizer's files, and built without the random weights that the file overwrites."""
    made = stand_in(arch, tmp_path, reduced=True, vocabulary=400)
    weights = {name: tensor.clone().contiguous() for name, tensor in made.model.state_dict().items()}
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    loaded = load_backbone(f"local-dir:{tmp_path}", device="cpu")
    assert loaded.weights_hash == made.weights_hash and loaded.settings == made.settings and loaded.bias == made.bias
    torch.testing.assert_close(loaded.encode_texts(TEXTS), made.encode_texts(TEXTS), atol=1e-6, rtol=0)
