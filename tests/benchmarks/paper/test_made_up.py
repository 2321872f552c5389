"""The made-up tree is the same each time, and holds the paper's classes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness.protocols import imagenet_names
from benchmarks.paper import made_up
from benchmarks.paper.folders import class_list
from benchmarks.paper.made_up import vocabulary, wnids, write_tree, write_weights
from lsn_core import UserError, load_backbone

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tree(tmp_path / name, wnids(3), 2, 1, 4)
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert len(one) == 3 * (2 + 1) + 4 * 4
    assert len(set(one.values())) == len(one)


def test_the_papers_classes_come_first(tmp_path: Path) -> None:
    assert set(wnids(10)) == set(class_list("ImageNet-10"))
    assert set(class_list("ImageNet-100")) <= set(wnids(130))
    assert sorted(wnids(1000)) == sorted(class_list("ImageNet-1k"))
    with pytest.raises(UserError, match="from 1 to 1000"):
        wnids(1001)


def test_random_weights_are_loaded_by_the_name_that_is_given_back(tmp_path: Path) -> None:
    backbone = load_backbone(write_weights("RN50", tmp_path), "cpu")
    assert backbone.dim == 1024 and not backbone.assumed  # the name says which activation
    with pytest.raises(UserError, match="no architecture 'RN5'"):
        write_weights("RN5", tmp_path)


def test_a_blip_is_made_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up, "BLIP_CONFIG", {part: SMALL for part in ("text_config", "vision_config")})
    monkeypatch.setattr(made_up, "BLIP_SIDE", 32)
    backbone = load_backbone(write_weights("blip", tmp_path), "cpu")
    assert backbone.promptable and backbone.width == 32
    lengths = (backbone.tokenize(list(imagenet_names().values())) != 0).sum(dim=1)
    assert int(lengths.min()) >= 3 and float(lengths.float().mean()) < 6  # words are not spelled letter by letter


def test_the_vocabulary_has_each_word_once() -> None:
    words = vocabulary()
    assert len(words) == len(set(words)) < made_up.BERT_WORDS
    assert words.index("[PAD]") == 0 and {"photo", "shark", "##a"} <= set(words)
