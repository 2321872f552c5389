"""Calls of the library and commands with values that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lsn_core import Detector, TrainConfig, explain, extract_features, get_preset, load_backbone, load_data
from lsn_core.backbones.image_tower import view_image
from lsn_core.calibration import Calibration
from lsn_core.data.images import ImageLimits, open_image
from lsn_core.negation import choose
from tests.corpus.case import Case, Right

PHOTO = "assets/examples/zebra.jpg"


def call_cases(folder: Path) -> list[Case]:
    """Calls of the library, each a function of a backbone, and commands.

    Args:
        folder: an empty one, where files may be made.
    """
    made = _calls(folder)
    calls = [
        Case("call", "requests, calls", name, lambda call=call: call, Right.SENTENCE) for name, call in made.items()
    ]
    return [*calls, *_commands()]


def _calls(folder: Path) -> dict[str, Callable[[Any], Any]]:
    (folder / "empty").mkdir()
    (folder / "text.zip").write_bytes(b"no archive")
    (folder / "text.parquet").write_bytes(b"PAR1 no Parquet file PAR1")
    (folder / "text.txt").write_text("text")
    made: dict[str, Callable[[Any], Any]] = {}
    for value in (-1.0, 0.0, 1.0, 2.0, float("nan"), float("inf")):
        made[f"a threshold at {value}"] = partial(_threshold, value)
        made[f"a calibration's threshold at {value}"] = lambda _, value=value: Calibration([1.0, 2.0]).threshold(value)
    for scores in ([], [float("nan")], [1.0, float("inf")]):
        made[f"calibration scores {scores}"] = lambda _, scores=scores: Calibration(scores)
    for names in ([], [""], ["a", "A"], ["a", 3], [None], ["a", "x " * 500], ["a\0", "b"], ["\ud800", "b"]):
        made[f"classes {str(names)[:30]}"] = partial(lambda names, b: Detector.zero_shot(b, names), names)
    for template in ("no place", "{} and {}", "", "{0}"):
        made[f"the template {template!r}"] = partial(_template, template)
    for score in ("nope", "clipn", "prototypes", "__init__"):
        made[f"the score {score}"] = partial(_score, score)
    for shape in ((3,), (2, 3), (2, 3, 4), ()):
        made[f"features {shape}"] = lambda b, shape=shape: _detector(b).score_features(torch.zeros(shape))
    made["calibration with nothing"] = lambda b: _detector(b).calibrate(torch.zeros(0, b.dim))
    made["calibration with NaN"] = lambda b: _detector(b).calibrate(torch.full((20, b.dim), float("nan")))
    for name in ("nope", "", "ViT-B-32:nope", "local-dir:/nowhere", f"local-dir:{folder}", "a\0b", "x" * 1000):
        made[f"the backbone {name[:20]!r}"] = lambda _, name=name: load_backbone(name)
    made["the device abacus"] = lambda _: load_backbone("embedded", "abacus")
    for path in ("nowhere", "empty", "text.zip", "text.parquet", "text.txt"):
        made[f"data of {path}"] = lambda _, path=path: load_data(folder / path)
    made["a batch of 0"] = lambda b: extract_features(b, [], batch_size=0)  # type: ignore[arg-type]
    for key in ("max_bytes", "max_pixels", "max_memory"):
        for limit in (0, -1, 1.5, True, None):
            made[f"{key} of {limit}"] = lambda _, key=key, limit=limit: ImageLimits(**{key: limit})
    arrays = (np.zeros((4, 5, 3)), np.zeros((4, 5, 2), np.uint8), np.zeros(3, np.uint8), np.zeros((0, 5), np.uint8))
    for array in arrays:
        made[f"an array {array.shape} {array.dtype}"] = lambda _, array=array: open_image(array)
    for source in (None, 5, [], {}, object):
        made[f"a picture {str(source)[:20]}"] = lambda _, source=source: open_image(source)  # type: ignore[arg-type]
    for path in (folder / "nowhere.png", folder, folder / "text.txt"):
        made[f"a picture in {path.name}"] = lambda _, path=path: open_image(path)
    made["a preset slow"] = lambda _: get_preset("slow")
    for key, value in (("seed", "x"), ("shots", -1), ("shots", 0), ("method", "nope")):
        made[f"a config with {key} {value}"] = lambda _, key=key, value=value: TrainConfig(**{key: value})
    for about in ({"class_name": "hen"}, {"method": "nope"}, {"target": "nope"}):
        made[f"a heat map with {about}"] = lambda b, about=about: explain(
            _detector(b), view_image(b, open_image(PHOTO)), **about
        )
    for texts in ([], ["one"], ["", "x"]):
        made[f"a choice of {texts}"] = lambda b, texts=texts: choose(torch.zeros(b.dim), texts, b)
    for path in ("nowhere/d.safetensors", "d.pt", "d"):
        made[f"saving to {path}"] = lambda b, path=path: _detector(b).save(folder / path)
    for path in ("nowhere.safetensors", "empty", "text.txt"):
        made[f"a detector of {path}"] = lambda b, path=path: Detector.load(folder / path, b)
    return made


def _detector(backbone: Any) -> Detector:
    return Detector.zero_shot(backbone, ["dog", "cat"])


def _threshold(tpr: float, backbone: Any) -> Any:
    return _detector(backbone).predict_features(torch.ones(1, backbone.dim), tpr)


def _template(template: str, backbone: Any) -> Any:
    return Detector.zero_shot(backbone, ["dog", "cat"], template)


def _score(score: str, backbone: Any) -> Any:
    return _detector(backbone).with_score(score)


def _commands() -> Iterator[Case]:
    photo = "assets/examples/zebra.jpg"
    lines: dict[str, list[str]] = {
        "no arguments": ["score"],
        "no classes": ["score", photo],
        "classes and a detector": ["score", photo, "--classes", "a,b", "--detector", "x"],
        "no such file": ["score", "/nowhere.png", "--classes", "a,b", "--json"],
        "a folder without pictures": ["score", "tests/corpus", "--classes", "a,b"],
        "tpr of 2": ["score", photo, "--classes", "a,b", "--tpr", "2"],
        "tpr of NaN": ["score", photo, "--classes", "a,b", "--tpr", "nan"],
        "tpr of a word": ["score", photo, "--classes", "a,b", "--tpr", "x"],
        "an unknown score": ["score", photo, "--classes", "a,b", "--score", "nope"],
        "an unknown backbone": ["score", photo, "--classes", "a,b", "--backbone", "nope"],
        "a backbone of nowhere": ["score", photo, "--classes", "a,b", "--backbone", "local-dir:/nowhere"],
        "an unknown device": ["score", photo, "--classes", "a,b", "--device", "abacus"],
        "an empty folder to calibrate with": ["score", photo, "--classes", "a,b", "--calibrate", "tests/corpus"],
        "text to calibrate with": ["score", photo, "--classes", "a,b", "--calibrate", "README.md"],
        "a folder for a detector": ["score", photo, "--detector", "assets"],
        "text for a detector": ["score", photo, "--detector", "README.md"],
        "an unknown command": ["scores"],
        "an unknown option": ["score", photo, "--nope"],
        "probe of nothing": ["probe"],
        "probe of one text": ["probe", photo, "--texts", "a"],
        "probe of a template": ["probe", photo, "--classes", "a,b", "--template", "no place"],
        "probe of both": ["probe", photo, "--data", "assets"],
        "a heat map of nothing": ["heatmap", "/nowhere.png", "--classes", "a,b"],
        "a heat map of no method": ["heatmap", photo, "--classes", "a,b", "--method", "nope"],
        "training on nothing": ["train", "/nowhere", "--out", "x.safetensors"],
        "training on text": ["train", "README.md", "--out", "x.safetensors"],
        "training to nowhere": ["train", "assets", "--out", "/nowhere/x.safetensors"],
        "evaluating nothing": ["evaluate", "/nowhere", "--ood", "/nowhere", "--classes", "a,b"],
        "a job of nothing": ["jobs", "show", "nope", "--data-dir", "/nowhere"],
    }
    for name, line in lines.items():
        yield Case("command", "requests, commands", name, lambda line=line: line, Right.SENTENCE)
