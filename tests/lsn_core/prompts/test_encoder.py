"""Every shortcut of the text tower against the plain way: features and gradients equal."""

from __future__ import annotations

import open_clip
import pytest
import torch
from reference import lsn as literal

from lsn_core.backbones.backbone import Backbone
from lsn_core.prompts import encoder as text_tower
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets
from lsn_core.training.loop import has_bf16

NAMES = ["cat", "great white shark", "hen", "red-breasted merganser", "dog"]
LENGTH = 5


def make_custom(**text_cfg: object) -> Backbone:
    """A CustomTextCLIP: its text tower is a module of its own, here with a layer scale and a biased projection."""
    torch.manual_seed(3)
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3, **text_cfg}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    model = open_clip.CustomTextCLIP(embed_dim=24, vision_cfg=vision, text_cfg=text)
    model.visual.preprocess_cfg = {"size": 32, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
    return Backbone(model, "custom (random weights)", open_clip.get_tokenizer("ViT-B-32"))


@pytest.fixture(scope="session")
def custom_backbone() -> Backbone:
    return make_custom(ls_init_value=0.5, proj_bias=True)


@pytest.fixture(params=["tiny", "custom", "embedded"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    if request.param == "embedded":
        from lsn_core.shipped import EMBEDDED_DIR

        if not (EMBEDDED_DIR / "open_clip_config.json").is_file():
            pytest.skip("the embedded checkpoint has not been built")
        return request.getfixturevalue("embedded")
    return request.getfixturevalue(f"{request.param}_backbone")


def contexts_of(backbone: Backbone, sets: int, classes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sets * 10 + classes)
    return PromptSets(sets, classes, LENGTH, backbone.width, generator).contexts.detach().to(backbone.device) * 3


def run(encode, contexts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and the gradient of a scalar that weighs each of them differently."""
    contexts = contexts.clone().requires_grad_()
    features = encode(contexts)
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(9)).to(features)
    (features * weights).sum().backward()
    assert contexts.grad is not None
    return features.detach(), contexts.grad


def literally(backbone: Backbone, with_name: bool = True):
    def encode(contexts: torch.Tensor) -> torch.Tensor:
        one = [c[0] if c.shape[0] == 1 else c for c in contexts]
        return torch.stack([literal.text_features(backbone, context, NAMES, with_name) for context in one])

    return encode


def assert_equal(found: tuple[torch.Tensor, torch.Tensor], wanted: tuple[torch.Tensor, torch.Tensor]) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert float((a - b).norm() / b.norm()) < 1e-4


@pytest.mark.parametrize("classes", [1, len(NAMES)], ids=["shared", "specific"])
@pytest.mark.parametrize("by_length", [True, False], ids=["by length", "one length"])
def test_all_shortcuts_together_equal_the_literal_tower(backbone: Backbone, classes: int, by_length: bool) -> None:
    contexts = contexts_of(backbone, 3, classes)
    tower = TextTower(backbone, NameTokens.of(backbone, NAMES, LENGTH), by_length=by_length)
    assert not tower.plain
    assert_equal(run(tower.encode, contexts), run(literally(backbone), contexts))


def test_truncation_and_set_batching_alone_equal_the_literal_tower(backbone: Backbone) -> None:
    names = NameTokens.of(backbone, NAMES, LENGTH)
    contexts = contexts_of(backbone, 3, len(NAMES))

    def encode(contexts: torch.Tensor) -> torch.Tensor:
        return backbone.encode_prompts(*names.assemble(contexts)).unflatten(0, (3, -1))

    assert_equal(run(encode, contexts), run(literally(backbone), contexts))


def test_shared_prefix_equals_the_context_copied_to_each_class(tiny_backbone: Backbone) -> None:
    tower = TextTower(tiny_backbone, NameTokens.of(tiny_backbone, NAMES, LENGTH))
    contexts = contexts_of(tiny_backbone, 2, 1)

    def copied(contexts: torch.Tensor) -> torch.Tensor:
        return tower.encode(contexts.expand(-1, len(NAMES), -1, -1))

    assert_equal(run(tower.encode, contexts), run(copied, contexts))


@pytest.mark.parametrize("classes", [1, len(NAMES)], ids=["shared", "specific"])
@pytest.mark.parametrize("by_length", [True, False], ids=["by length", "one length"])
def test_chunks_of_classes_equal_one_pass(
    backbone: Backbone, classes: int, by_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = NameTokens.of(backbone, NAMES, LENGTH)
    whole = TextTower(backbone, names, by_length=by_length)
    chunked = TextTower(backbone, names, memory_gib=1e-9, by_length=by_length)
    calls = []
    original = text_tower.checkpoint
    monkeypatch.setattr(text_tower, "checkpoint", lambda *a, **k: calls.append(1) or original(*a, **k))
    contexts = contexts_of(backbone, 2, classes)
    found = run(chunked.encode, contexts)
    assert len(calls) == len(NAMES)  # one class at a time
    assert_equal(found, run(whole.encode, contexts))
    assert len(calls) == len(NAMES)


def test_names_left_out(tiny_backbone: Backbone) -> None:
    tower = TextTower(tiny_backbone, NameTokens.of(tiny_backbone, NAMES, LENGTH, with_name=False))
    contexts = contexts_of(tiny_backbone, 2, len(NAMES))
    assert_equal(run(tower.encode, contexts), run(literally(tiny_backbone, with_name=False), contexts))


def test_blocks_of_another_kind_take_the_plain_way() -> None:
    backbone = make_custom(qk_norm=True)
    tower = TextTower(backbone, NameTokens.of(backbone, NAMES, LENGTH))
    assert tower.plain
    for classes in (1, len(NAMES)):
        contexts = contexts_of(backbone, 2, classes)
        assert_equal(run(tower.encode, contexts), run(literally(backbone), contexts))


def test_nothing_is_recomputed_or_kept_without_gradients(tiny_backbone: Backbone) -> None:
    names = NameTokens.of(tiny_backbone, NAMES, LENGTH)
    with torch.no_grad():
        features = TextTower(tiny_backbone, names, memory_gib=1e-9).encode(contexts_of(tiny_backbone, 2, 1))
    assert not features.requires_grad
    torch.testing.assert_close(features.norm(dim=-1).cpu(), torch.ones(2, len(NAMES)))


@pytest.mark.parametrize("classes", [1, len(NAMES)], ids=["shared", "specific"])
@pytest.mark.parametrize("kind", ["standard", "another kind"])
def test_some_of_the_classes_equal_themselves_among_all(classes: int, kind: str) -> None:
    backbone = make_custom() if kind == "standard" else make_custom(qk_norm=True)
    tower = TextTower(backbone, NameTokens.of(backbone, NAMES, LENGTH))
    assert tower.plain == (kind != "standard")
    contexts, some = contexts_of(backbone, 2, classes), torch.tensor([1, 2, 4])
    own = contexts if classes == 1 else contexts[:, some]
    torch.testing.assert_close(tower.encode(own, some), tower.encode(contexts)[:, some], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this CPU has no bfloat16")
@pytest.mark.parametrize("classes", [1, len(NAMES)], ids=["shared", "specific"])
def test_in_bfloat16_features_and_gradients_are_near(embedded: Backbone, classes: int) -> None:
    names = NameTokens.of(embedded, NAMES, LENGTH)
    contexts = contexts_of(embedded, 3, classes)
    found = run(TextTower(embedded, names, precision="bf16").encode, contexts)
    wanted = run(TextTower(embedded, names).encode, contexts)
    assert found[0].dtype == torch.float32 and not torch.equal(found[0], wanted[0])
    assert float((found[0] * wanted[0]).sum(-1).min()) > 0.999
    assert float((found[1] - wanted[1]).norm() / wanted[1].norm()) < 0.1
