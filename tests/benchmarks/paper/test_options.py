"""What is asked for is understood however it is spelled, and what cannot be is said in a sentence."""

from __future__ import annotations

import pytest

from benchmarks.paper.options import backbone_names, chosen, few_images, method_named, parser
from lsn_core import UserError


def test_names_are_found_however_they_are_spelled() -> None:
    assert method_named("coop+lsn") == "CoOp + LSN"
    assert [method_named(name) for name in ("VOS+", "VOS", "vos", "line")] == ["VOS+", "VOS", "VOS", "LiNe"]
    assert backbone_names("vit-b16, RN50=RN50:file,embedded") == {
        "ViT-B/16": "ViT-B-16:openai",
        "RN50": "RN50:file",
        "embedded": "embedded",
    }


def test_what_is_asked_for_twice_is_measured_once() -> None:
    given = ["--methods", "CoOp,coop,CoOp", "--presets", "fast,fast", "--seeds", "1,1,0", "--classes", "imagenet-100"]
    cells, _ = chosen(parser(None).parse_args([*given, "--backbones", "ViT-B/16"]))
    assert [(cell.method, cell.preset, cell.seed) for cell in cells] == [("CoOp", "fast", 1), ("CoOp", "fast", 0)]


def test_without_presets_all_are_taken() -> None:
    cells, _ = chosen(parser(None).parse_args(["--methods", "DualCoOp", "--seeds", "0", "--presets", ""]))
    assert [cell.preset for cell in cells] == ["paper", "reference", "fast"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--methods", "LSN"], r"no method 'LSN'. Known ones: MCM, MSP.* CoOp \+ LSN"),
        (["--methods", "NPOS,CLIPN"], "Not run here: NPOS needs .*; CLIPN needs"),
        (["--presets", "slow", "--methods", "MCM"], "No preset is called 'slow'"),
        (["--classes", "imagenet50"], "no classes 'imagenet50'"),
        (["--backbones", "ViT-B/16="], "'ViT-B/16=' names no backbone"),
        (["--backbones", "BLIP", "--classes", "ImageNet-10"], "add --all to cross them"),
    ],
)
def test_what_there_is_not_is_said(given: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        chosen(parser(None).parse_args(given))


@pytest.mark.parametrize(
    "given",
    [
        ["--seeds", "0,x"],
        ["--seeds", "-1"],
        ["--seeds", ""],
        ["--shots", "0"],
        ["--shots", "many"],
        ["--shorten", "-2"],
        ["--cocoop-images", "0"],
        ["--memory-gib", "nan"],
        ["--memory-gib", "0"],
    ],
)
def test_numbers_that_make_no_sense_are_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser(None).parse_args(given)
    assert ended.value.code == 2
    assert f"argument {given[0]}: " in capsys.readouterr().err


def test_classes_with_too_few_images_are_counted() -> None:
    assert few_images({"ImageNet-10": [128, 200]}, 128) == ""
    told = few_images({"ImageNet-10": [128, 3, 5], "ImageNet-20": [128]}, 128)
    assert told.startswith(
        "Fewer training images than the 128 that are drawn: 2 of 3 classes of ImageNet-10 (the fewest: 3)."
    )
