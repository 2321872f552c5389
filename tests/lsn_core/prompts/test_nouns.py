"""The list of nouns, what of it is held against which classes, and where its features are kept."""

from __future__ import annotations

import copy
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lsn_core import Backbone
from lsn_core.class_names import fold_name
from lsn_core.prompts import nouns as module
from lsn_core.prompts.nouns import Noun, noun_features, nouns, unlike


def left_out(*class_names: str) -> set[str]:
    return {noun.name for noun in nouns()} - {nouns()[i].name for i in unlike(class_names)}


# -- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_loads() -> None:
    names = [noun.name for noun in nouns()]
    assert len(names) == len(set(names)) >= 4000 and names == sorted(names)
    assert all(name and name == fold_name(name) for name in names)
    assert all(kind == fold_name(kind) for noun in nouns() for kind in noun.kinds)
    assert {"dog", "poodle", "car", "church"} <= set(names)
    poodle = next(noun for noun in nouns() if noun.name == "poodle")
    assert poodle.kinds >= {"dog", "animal"} and "cat" not in poodle.kinds


@pytest.mark.parametrize(
    ("name", "like", "against"),
    [
        ("dog", {"dog", "poodle", "canid", "domestic animal"}, {"cat", "car"}),  # its kinds, and what it is a kind of
        ("poodle", {"poodle", "toy poodle", "dog"}, {"spaniel", "cat"}),
        (
            "Car",
            {"car", "auto", "automobile", "ambulance", "automotive vehicle"},
            {"bicycle", "dog"},
        ),  # other names of it
        ("automobile", {"car", "auto"}, {"bicycle"}),
        ("old_english  POODLE", {"poodle"}, {"cat"}),  # the last word of its name
        ("xyzzy", set(), {"dog", "cat", "car"}),
    ],
)
def test_what_says_something_against_a_class(name: str, like: set[str], against: set[str]) -> None:
    out = left_out(name)
    assert like <= out and not against & out
    assert like | against <= {noun.name for noun in nouns()}


def test_what_is_like_one_of_several_classes_is_left_out() -> None:
    assert left_out("dog", "car") == left_out("dog") | left_out("car")
    assert unlike(["car", "dog"]) == unlike(["dog", "car"]) == sorted(unlike(["dog", "car"]))


# -- features ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Three nouns, an empty cache folder of torch, and no features that ship. The file that the features come to."""
    listed = tuple(Noun(name, frozenset()) for name in ("apple", "dog", "very old steam engine"))
    monkeypatch.setattr(module, "nouns", lambda: listed)
    monkeypatch.setattr(module, "_list_hash", lambda: "of three nouns")
    monkeypatch.setattr(module, "SHIPPED", tmp_path / "none.safetensors")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "lsn_core"


@pytest.fixture
def backbone(tiny_backbone: Backbone) -> Backbone:
    """The tiny backbone anew: nothing is kept in memory for it."""
    return Backbone(tiny_backbone.model, tiny_backbone.name, tiny_backbone.tokenizer, tiny_backbone.device)


def again(backbone: Backbone) -> Backbone:
    return Backbone(backbone.model, backbone.name, backbone.tokenizer, backbone.device)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are encoded, in their order."""
    texts: list[str] = []
    encode = module.encode_alike

    def noting(backbone: Backbone, asked: Sequence[str]) -> torch.Tensor:
        texts.extend(asked)
        return encode(backbone, asked)

    monkeypatch.setattr(module, "encode_alike", noting)
    return texts


TEXTS = ["a photo of an apple", "a photo of a dog", "a photo of a very old steam engine"]


def test_features_are_those_of_the_texts_and_encoded_once(few: Path, backbone: Backbone, encoded: list[str]) -> None:
    features = noun_features(backbone)
    assert sorted(encoded) == sorted(TEXTS)
    assert torch.allclose(features, backbone.encode_texts(TEXTS), atol=1e-3)  # kept in half precision
    assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-6)
    (file,) = few.iterdir()
    assert backbone.weights_hash[:16] in file.name
    encoded.clear()
    assert noun_features(backbone) is features  # in memory
    assert torch.equal(noun_features(again(backbone)), features) and encoded == []  # from the file


def test_other_weights_have_their_own(few: Path, backbone: Backbone, encoded: list[str]) -> None:
    noun_features(backbone)
    model = copy.deepcopy(backbone.model)
    with torch.no_grad():
        model.text_projection += 0.1 * torch.eye(64, device=backbone.device)
    other = Backbone(model, backbone.name, backbone.tokenizer, backbone.device)
    encoded.clear()
    assert torch.allclose(noun_features(other), other.encode_texts(TEXTS), atol=1e-3)
    assert len(encoded) == 3 and len(list(few.iterdir())) == 2


def test_another_list_is_encoded_anew(
    few: Path, backbone: Backbone, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noun_features(backbone)
    monkeypatch.setattr(module, "_list_hash", lambda: "of other nouns")
    encoded.clear()
    noun_features(again(backbone))
    assert len(encoded) == 3


@pytest.mark.parametrize("damage", ["cut", "no safetensors", "not finite", "too short", "another name"])
def test_a_damaged_file_is_made_anew(
    damage: str, few: Path, backbone: Backbone, encoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    features = noun_features(backbone)
    (file,) = few.iterdir()
    about = {"weights_hash": backbone.weights_hash, "list": "of three nouns"}
    tensors = load_file(file)["nouns"].clone()  # the file is mapped into memory, and written over
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "no safetensors":
        file.write_text("nothing of the kind")
    elif damage == "not finite":
        save_file({"nouns": tensors * float("nan")}, file, about)
    elif damage == "too short":
        save_file({"nouns": tensors[:2]}, file, about)
    else:
        save_file({"verbs": tensors}, file, about)
    encoded.clear()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(noun_features(again(backbone)), features)
    assert len(encoded) == 3 and "damaged" in caplog.text
    assert torch.equal(load_file(file)["nouns"], tensors)


def test_a_folder_that_cannot_be_written_does_no_harm(few: Path, backbone: Backbone, encoded: list[str]) -> None:
    few.parent.mkdir()
    if os.geteuid() == 0:
        few.write_text("a file in the folder's place")  # root may write everywhere
    else:
        few.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    features = noun_features(backbone)
    assert torch.allclose(features, backbone.encode_texts(TEXTS), atol=1e-3)
    encoded.clear()
    assert noun_features(backbone) is features and encoded == []
    few.parent.chmod(stat.S_IRWXU)


def test_features_that_ship_are_taken_for_their_weights_only(
    few: Path, backbone: Backbone, encoded: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped.safetensors"
    monkeypatch.setattr(module, "SHIPPED", shipped)
    made = torch.nn.functional.normalize(torch.ones(3, 64), dim=-1)
    save_file({"nouns": made.half()}, shipped, {"weights_hash": backbone.weights_hash, "list": "of three nouns"})
    assert torch.allclose(noun_features(backbone), made, atol=1e-3) and encoded == [] and not few.exists()
    save_file({"nouns": made.half()}, shipped, {"weights_hash": "others", "list": "of three nouns"})
    noun_features(again(backbone))
    assert len(encoded) == 3


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        ["a photo of a dog"],
        ["a photo of a dog", "a photo of a dog"],
        ["a photo of a", "a photo of a dog"],
        ["dog", "cat and mouse"],
        ["", "a photo of a very old steam engine"],
        [],
    ],
    ids=str,
)
def test_texts_that_begin_alike_are_encoded_as_each_alone(embedded: Backbone, texts: list[str]) -> None:
    found = module.encode_alike(embedded, texts)
    assert found.shape == (len(texts), embedded.dim)
    torch.testing.assert_close(found, embedded.encode_texts(texts), rtol=1e-4, atol=1e-5)
