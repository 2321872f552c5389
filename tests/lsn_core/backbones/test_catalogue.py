"""Facts of open_clip's models without their weights are those of the models themselves."""

from __future__ import annotations

import json
import time
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from support import random_backbone
from typer.testing import CliRunner

from lsn_core import UserError
from lsn_core.backbones import catalogue, loading
from lsn_core.backbones.catalogue import describe, facts_of, list_models
from lsn_core.backbones.loading import load_backbone
from lsn_core.cli.app import build


def test_every_pair_has_a_row_and_none_is_left_out() -> None:
    rows = list(list_models())
    assert [row.name for row in rows] == [f"{arch}:{tag}" for arch, tag in open_clip.list_pretrained()]
    assert len(rows) >= 190 and all(row.image_size >= 224 and row.context_length >= 16 for row in rows)
    unknown = {row.name.partition(":")[0] for row in rows if row.parameters is None}
    assert all("hf_model_name" in open_clip.get_model_config(arch)["text_cfg"] for arch in unknown)


def test_the_table_is_that_of_the_installed_open_clip() -> None:
    """Each architecture laid out again without memory; `python -m scripts.models` writes the table anew."""
    table = json.loads(Path(catalogue.__file__).with_name(catalogue.TABLE).read_text(encoding="utf-8"))
    assert set(table) == {arch for arch, _ in open_clip.list_pretrained()}
    for arch in sorted(table)[::6]:
        assert catalogue.Architecture(**table[arch]) == describe(arch), arch
    for arch, row in table.items():
        assert row["config"] == catalogue._digest(open_clip.get_model_config(arch)), arch


@pytest.mark.parametrize(("arch", "tag"), [("ViT-B-32", "openai"), ("RN50", "cc12m"), ("MobileCLIP2-S0", "dfndr2b")])
def test_facts_are_those_of_the_model(arch: str, tag: str) -> None:
    backbone, facts = random_backbone(arch), facts_of(f"{arch}:{tag}")
    assert facts.parameters == sum(parameter.numel() for parameter in backbone.model.parameters())
    assert facts.promptable == backbone.promptable and facts.context_length == backbone.context_length
    size = backbone.model.visual.preprocess_cfg["size"]
    assert facts.image_size == (size if isinstance(size, int) else size[0])
    assert facts.download_bytes == facts.parameters * (2 if tag == "openai" else 4) and facts.download_estimated
    assert facts.needs is None and facts.installed


def test_an_architecture_that_the_table_does_not_know_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = facts_of("ViT-B-32:openai")
    catalogue._known.cache_clear()
    monkeypatch.setattr(catalogue, "_table", dict)
    assert facts_of("ViT-B-32:openai") == wanted
    catalogue._known.cache_clear()


def test_unknown_names_are_refused() -> None:
    for name in ("ViT-B-32:nothing", "nothing", "ViT-B-32"):
        with pytest.raises(UserError, match="doctor --models"):
            facts_of(name)
    with pytest.raises(UserError, match="no architecture"):
        describe("nothing")


def test_doctor_lists_them_as_json_and_as_text() -> None:
    began = time.process_time()
    done = CliRunner().invoke(build(), ["doctor", "--models", "--json"])
    assert done.exit_code == 0 and time.process_time() - began < 20
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    siglip = next(row for row in rows if row["name"] == "ViT-B-16-SigLIP:webli")
    assert siglip["promptable"] is True and siglip["needs"] == "transformers" and siglip["context_length"] == 64
    assert siglip["licence"] == "Apache-2.0" and "google-research" in siglip["licence_source"]
    said = CliRunner().invoke(build(), ["doctor", "--models"]).stdout
    assert len(said.splitlines()) == len(rows) and "ViT-B-16-SigLIP:webli" in said and "203 M parameters" in said
    dfn = next(line for line in said.splitlines() if line.startswith("ViT-B-16:dfn2b"))
    assert "licence apple-amlr" in dfn and "for research only" in dfn


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP:webli", "roberta-ViT-B-32:laion2b_s12b_b32k", "folder"])
def test_what_reads_a_models_texts_is_asked_for_before_its_download(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("something is fetched")

    if name == "folder":
        config = {"model_cfg": open_clip.get_model_config("ViT-B-16-SigLIP"), "preprocess_cfg": {}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
        weights = {"visual.conv1.weight": torch.zeros(1), "logit_scale": torch.zeros(())}
        save_file(weights, tmp_path / "open_clip_model.safetensors")
        name = f"local-dir:{tmp_path}"
    monkeypatch.setattr(loading, "has_transformers", lambda: False)
    monkeypatch.setattr(open_clip, "create_model", fetched)
    monkeypatch.setattr(open_clip, "get_tokenizer", fetched)
    with pytest.raises(UserError, match=r"transformers library, which is not installed. .*lsn-core\[transformers\]"):
        load_backbone(name, device="cpu")
