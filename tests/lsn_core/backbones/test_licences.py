"""Licences of weights: each statement has a source, is about some model, and contradicts no other."""

from __future__ import annotations

import open_clip
import pytest

from lsn_core.backbones.catalogue import facts_of, list_models
from lsn_core.backbones.licences import licence_of, statements

REPOSITORIES = {
    "/".join(open_clip.get_pretrained_cfg(arch, tag)["hf_hub"].split("/")[:2])
    for arch, tag in open_clip.list_pretrained()
}


@pytest.mark.parametrize("one", statements(), ids=lambda one: one.repositories[0])
def test_each_has_an_address_and_each_of_its_patterns_a_model(one) -> None:
    assert one.source.startswith(("https://github.com/", "https://huggingface.co/"))
    for pattern in one.repositories:
        assert any(type(one)([pattern], "", "").covers(repository) for repository in REPOSITORIES), pattern


def test_no_model_is_in_two_of_them() -> None:
    found = {name: [one for one in statements() if one.covers(name)] for name in REPOSITORIES}
    assert {name: those for name, those in found.items() if len(those) > 1} == {}


@pytest.mark.parametrize(
    ("name", "licence", "only_for"),
    [
        ("ViT-B-16:openai", "MIT", None),
        ("RN50-quickgelu:cc12m", "MIT", None),
        ("ViT-B-32:laion2b_s34b_b79k", "MIT", None),
        ("ViT-B-16:dfn2b", "apple-amlr", "research"),
        ("MobileCLIP-B:datacompdr_lt", "apple-amlr", "research"),
        ("MobileCLIP2-S0:dfndr2b", "apple-amlr", "research"),
        ("ViT-H-14-quickgelu:metaclip_fullcc", "CC-BY-NC-4.0", "non-commercial use"),
        ("nllb-clip-base:v1", "CC-BY-NC-4.0", "non-commercial use"),
        ("ViT-B-16-SigLIP:webli", "Apache-2.0", None),
        ("ViT-B-16-SigLIP2:webli", "Apache-2.0", None),
        ("PE-Core-B-16:meta", "Apache-2.0", None),
        ("ViT-L-14-CLIPA:datacomp1b", "Apache-2.0", None),
        ("EVA02-B-16:merged2b_s8b_b131k", "MIT", None),
        ("ViTamin-L-336:datacomp1b", "MIT", None),
    ],
)
def test_what_the_sources_say(name: str, licence: str, only_for: str | None) -> None:
    facts = facts_of(name)
    assert (facts.licence, facts.only_for) == (licence, only_for)


def test_a_source_that_is_each_models_own_page_names_that_model() -> None:
    assert facts_of("ViT-B-16:dfn2b").licence_source == "https://huggingface.co/apple/DFN2B-CLIP-ViT-B-16"
    sources = [facts.licence_source for facts in list_models()]
    assert all(source is None or not set("{}*") & set(source) for source in sources)


def test_a_stricter_licence_says_so_by_the_same_words_everywhere() -> None:
    assert {(one.licence, one.only_for) for one in statements() if one.only_for} == {
        ("apple-amlr", "research"),
        ("CC-BY-NC-4.0", "non-commercial use"),
    }
    assert all(one.only_for for one in statements() if one.licence in ("apple-amlr", "CC-BY-NC-4.0"))


def test_what_open_clip_states_itself_comes_first() -> None:
    own = licence_of({"hf_hub": "timm/PE-Core-B-16/", "license": "other"})
    assert own is not None and own.licence == "other" and "mlfoundations/open_clip" in own.source
    same = licence_of({"hf_hub": "timm/PE-Core-B-16/", "license": "apache-2.0"})
    assert same is not None and same.licence == "Apache-2.0" and "perception_models" in same.source


def test_of_others_none_is_known() -> None:
    assert licence_of({"hf_hub": "somebody/DFN2B-CLIP-ViT-B-16/"}) is None
    assert licence_of({"url": "https://example.org/weights.pt"}) is None
    assert licence_of({}) is None
