"""Detector files from anywhere are refused within a second, before anything is made of them, and by UserError alone."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lsn_core import Backbone, Detector, UserError
from lsn_core.detector.file import MAX_CLASSES, read_detector_file

NAMES = ["dog", "cat", "elephant"]
D = 64
WIDTHS = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2, "I32": 4, "I64": 8, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "C64": 8}


def unit(*shape: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


METADATA: dict[str, Any] = {
    "schema": 2,
    "backbone": "tiny",
    "class_names": NAMES,
    "score": "lsn",
    "config": {"method": "coop"},
    "metrics": {},
    "fit": {},
}
TENSORS: dict[str, tuple[str, list[int], bytes]] = {
    "positive": ("F32", [3, D], unit(3, D).tobytes()),
    "negative": ("F32", [2, 3, D], unit(2, 3, D).tobytes()),
    "calibration": ("F64", [9], np.linspace(0, 1, 9).tobytes()),
}


def raw(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def write(path: Path, metadata: object, tensors: dict[str, tuple[str, Any, bytes]]) -> Path:
    """A safetensors file of these tensors: kind, shape and bytes; the metadata is JSON, or a text as it is."""
    header: dict[str, Any] = {"__metadata__": {"lsn": metadata if isinstance(metadata, str) else json.dumps(metadata)}}
    at = 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    return raw(path, json.dumps(header).encode(), b"".join(data for _, _, data in tensors.values()))


def zeros(kind: str, *shape: int) -> tuple[str, list[int], bytes]:
    return kind, list(shape), bytes(int(np.prod(shape, dtype=np.int64)) * WIDTHS[kind])


@pytest.fixture
def sound(tiny_backbone: Backbone) -> dict[str, Any]:
    return {**METADATA, "weights_hash": tiny_backbone.weights_hash}


def refused(path: Path, backbone: Backbone, words: str = "") -> None:
    """Asserts that the file is refused, quickly and for the right reason."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError) as caught:
        Detector.load(path, backbone)
    assert words in str(caught.value)
    assert time.process_time() - begun < 1.0
    assert (
        len(str(caught.value)) < 1000 and path.name in str(caught.value) and str(path.parent) not in str(caught.value)
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400 * 1024, "kilobytes"


def test_the_sound_file_that_the_others_are_made_of_loads(
    sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    detector = Detector.load(write(tmp_path / "d.safetensors", sound, TENSORS), tiny_backbone)
    features = F.normalize(torch.randn(4, D), dim=-1)
    assert len(detector.predict_features(features)) == 4 and detector.calibration is not None
    torch.testing.assert_close(detector.positive, torch.from_numpy(unit(3, D)))


@pytest.mark.parametrize("kind", ["F16", "F64"])
def test_floats_of_other_widths_are_read(
    kind: str, sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    def stored(values: np.ndarray) -> bytes:
        return values.astype({"F16": np.float16, "F64": np.float64}[kind]).tobytes()

    tensors = {
        "positive": (kind, [3, D], stored(unit(3, D))),
        "negative": (kind, [2, 3, D], stored(unit(2, 3, D))),
        "calibration": (kind, [9], stored(np.linspace(0, 1, 9))),
    }
    detector = Detector.load(write(tmp_path / "d.safetensors", sound, tensors), tiny_backbone)
    assert detector.positive.dtype == torch.float32 and detector.calibration is not None
    torch.testing.assert_close(detector.positive, torch.from_numpy(unit(3, D)), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    "name", ["positive", "negative", "calibration", "photos.features", "photos.labels", "contexts.x"]
)
@pytest.mark.parametrize("kind", ["U8", "BOOL", "BF16", "F8_E4M3", "C64"])
def test_kinds_that_are_no_plain_numbers_are_refused(
    name: str, kind: str, sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    shape = {"positive": (3, D), "negative": (2, 3, D), "calibration": (9,), "photos.labels": (5,)}.get(name, (5, D))
    path = write(tmp_path / "d.safetensors", sound, TENSORS | {name: zeros(kind, *shape)})
    refused(path, tiny_backbone, name)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("positive", [(), (3,), (3 * D,), (1, 3, D), (3, 0), (0, D), (2, D), (3, 2 * D), (3, 1)]),
        ("negative", [(), (3, D), (2, 3 * D), (1, 2, 3, D), (2, 3, 0), (2, 0, D), (2, 4, D), (2, 3, D + 1)]),
        ("calibration", [(), (0,), (1, 9), (3, 3, 1)]),
        ("contexts.positive.contexts", [(), (1, 1, 1, 1, 1), (0,), (1, 0, 1, 1)]),
    ],
)
def test_shapes_that_are_not_wanted_are_refused(
    name: str, shapes: list[tuple[int, ...]], sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    for shape in shapes:
        kind = "F64" if name == "calibration" else "F32"
        refused(write(tmp_path / "d.safetensors", sound, TENSORS | {name: zeros(kind, *shape)}), tiny_backbone)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, 2.0])
@pytest.mark.parametrize("name", ["positive", "negative", "calibration"])
def test_values_that_no_unit_vector_or_score_has_are_refused(
    name: str, value: float, sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    kind, shape, data = TENSORS[name]
    values = np.frombuffer(data, "<f8" if kind == "F64" else "<f4").copy()
    values[-1] = value
    path = write(tmp_path / "d.safetensors", sound, TENSORS | {name: (kind, shape, values.tobytes())})
    if name == "calibration" and np.isfinite(value):
        assert Detector.load(path, tiny_backbone).calibration is not None  # a score may be any number
    else:
        refused(path, tiny_backbone, f"values of {name}")


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "schema as text": ({"schema": "2"}, "schema"),
    "schema true": ({"schema": True}, "schema True"),
    "schema of 4,000 digits": ({"schema": 10**4000}, "schema 1000"),
    "schema missing": ({"schema": None}, "schema None"),
    "three million names": ({"class_names": ["a"] * 3_000_000}, "header is too long"),
    "half a million names": ({"class_names": ["a"] * 500_000}, "class_names"),
    "one name too many": ({"class_names": [f"c{i}" for i in range(MAX_CLASSES + 1)]}, "class_names"),
    "a long name": ({"class_names": ["dog", "cat", "x" * 100_000]}, "class_names"),
    "numbers for names": ({"class_names": [1, 2, 3]}, "text"),
    "lists for names": ({"class_names": [["dog"], ["cat"], ["hen"]]}, "text"),
    "no names": ({"class_names": []}, ""),
    "a terminal's escape in a name": ({"class_names": ["dog", "cat", "\x1b[2J"]}, "class_names"),
    "a null in a name": ({"class_names": ["dog", "cat", "a\0b"]}, "class_names"),
    "a null in the backbone": ({"backbone": "a\0b"}, "backbone"),
    "a long backbone": ({"backbone": "b" * 5000}, "backbone"),
    "a list for a score": ({"score": ["lsn"]}, "score"),
    "a long score": ({"score": "lsn" * 1000}, "score"),
    "an unknown score": ({"score": "nope"}, "Known scores"),
    "config as a list": ({"config": []}, "config"),
    "templates that are none": ({"config": {"positive_template": 3}}, "positive_template"),
    "templates without a place": ({"config": {"negative_template": "no"}}, "negative_template"),
    "a number of templates": ({"config": {"negative_templates": 3}}, "negative_templates"),
    "templates of lists": ({"config": {"negative_templates": [["{}"]]}}, "negative_templates"),
    "image-conditioned without contexts": ({"config": {"method": "cocoop"}}, "none"),
    "a list for units": ({"fit": {"units": [1]}}, "fitted to"),
    "huge units": ({"fit": {"units": {"lsn": {"": [10**400, 1]}}}}, "fitted to"),
    "a huge temperature": ({"fit": {"test_unit": 10**400}}, "fitted to"),
    "a temperature below 0": ({"fit": {"test_unit": -1}}, "temperature"),
    "photos without features": ({"fit": {"photos": "all"}}, "photos"),
    "a choice of nothing": ({"fit": {"choice": {"folds": 3}}}, "folds"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_metadata_that_is_not_what_it_should_be_is_refused(
    case: str, sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    change, words = CHANGES[case]
    refused(write(tmp_path / "d.safetensors", sound | change, TENSORS), tiny_backbone, words)


TEXTS: dict[str, Callable[[str], str]] = {
    "deep": lambda text: text[:-1] + ', "x": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "deep objects": lambda text: text[:-1] + ', "x": ' + '{"a": ' * 100_000 + "1" + "}" * 100_000 + "}",
    "a key twice": lambda text: text[:-1] + ', "score": "mcm"}',
    "a key twice inside": lambda text: text[:-1] + ', "x": {"a": 1, "a": 2}}',
    "a number of 5,000 digits": lambda text: text[:-1] + ', "x": ' + "9" * 5000 + "}",
    "half a surrogate pair": lambda text: text[:-1] + ', "x": "\\ud800"}',
    "a list": lambda text: f"[{text}]",
    "a number": lambda text: "3",
    "nothing": lambda text: "",
    "no JSON": lambda text: text[:-1],
    "a million keys": lambda text: text[:-1] + "".join(f', "{i}": 0' for i in range(1_000_000)) + "}",
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts_that_are_no_plain_json_are_refused(
    case: str, sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    text = TEXTS[case](json.dumps(sound))
    path = write(tmp_path / "d.safetensors", text, TENSORS)
    refused(path, tiny_backbone)


def test_headers_of_any_kind_are_refused(tiny_backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    entry = json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    many = ", ".join(f'"t{i}": {entry}' for i in range(100_000))
    for header in (
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"lsn": 3}}',
        b'{"__metadata__": {"lsn": "{}"}, "__metadata__": {}}',
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b"\xff\xfe",
        b'{"positive": ' + b"9" * 5000 + b"}",
        f"{{{many}}}".encode(),
    ):
        refused(raw(path, header), tiny_backbone)
    for length in (2**63, 2**64 - 1, 5 * 2**20, 10**6):
        path.write_bytes(length.to_bytes(8, "little") + b"{}" * 1000)
        refused(path, tiny_backbone, "header is longer")
    path.write_bytes(b"")
    refused(path, tiny_backbone)
    with open(path, "wb") as file:  # a file of holes, which takes no room on the disk
        file.truncate(2**31)
    refused(path, tiny_backbone, "larger than")


def test_many_tensors_and_absurd_entries_are_refused(
    sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    path = tmp_path / "d.safetensors"
    refused(
        write(path, sound, TENSORS | {f"contexts.{i}": zeros("F32", 1) for i in range(5000)}), tiny_backbone, "too many"
    )
    for shape in ("3", None, [3, "64"], [3, True], [3.0, 64], [-3, -64], [2**70, 64], [[3], [64]], {"a": 1}):
        positive = ("F32", shape, TENSORS["positive"][2])
        refused(write(path, sound, TENSORS | {"positive": positive}), tiny_backbone, "positive")
    for kind in (["F32"], {"F32": 1}, None, 3, "f32"):
        positive = (kind, [3, D], TENSORS["positive"][2])
        refused(write(path, sound, TENSORS | {"positive": positive}), tiny_backbone, "positive")  # type: ignore[dict-item]
    for offsets in ([0, 2**62], [-4, 0], [768, 0], "x", [0], [None, None]):
        header = {
            "__metadata__": {"lsn": json.dumps(sound)},
            "positive": {"dtype": "F32", "shape": [3, D], "data_offsets": offsets},
            "negative": {"dtype": "F32", "shape": [2, 3, D], "data_offsets": [768, 2304]},
        }
        refused(raw(path, json.dumps(header).encode(), bytes(2304)), tiny_backbone, "damaged")


@pytest.mark.parametrize(
    "tensors",
    [
        {"contexts": (1, 1, 4, 64), "meta_weight_1": (1, 1, 1, 200_000)},
        {"contexts": (1, 1, 4, 64), "meta_weight_1": ()},
        {"contexts": (1, 1, 4, 64), "meta_weight_1": (1, 4, 64), "meta_bias_1": (1, 4)},
        {"contexts": (1, 2, 4, 64)},
        {"contexts": (1, 1, 4, 63)},
        {"contexts": (1, 1, 200, 64)},
        {"contexts": (4, 64)},
        {"meta_bias_1": (1, 4)},
        {"contexts": (1, 1, 4, 64), "something": (3,)},
    ],
)
def test_learned_contexts_that_do_not_fit_are_refused_before_anything_is_made(
    tensors: dict[str, tuple[int, ...]], sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    stored = {f"contexts.positive.{name}": zeros("F32", *shape) for name, shape in tensors.items()}
    sound |= {"config": {"method": "cocoop"}}
    refused(write(tmp_path / "d.safetensors", sound, TENSORS | stored), tiny_backbone)


def test_whatever_byte_is_changed_a_detector_or_a_user_error_comes_out(
    sound: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    path = write(tmp_path / "d.safetensors", sound, TENSORS)
    valid, rng = path.read_bytes(), np.random.default_rng(0)
    header_end = 8 + int.from_bytes(valid[:8], "little")
    outcomes = {True: 0, False: 0}
    for trial in range(400):
        data = bytearray(valid)
        if trial % 5 == 0:
            del data[int(rng.integers(1, len(data))) :]
        for place in rng.integers(0, len(data) if trial % 2 else min(header_end, len(data)), 3):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            Detector.load(path, tiny_backbone)
            outcomes[True] += 1
        except UserError:
            outcomes[False] += 1
    assert outcomes[True] > 20 and outcomes[False] > 200


def test_what_this_version_saves_passes_its_own_checks(tiny_backbone: Backbone, tmp_path: Path) -> None:
    detector = Detector.zero_shot(tiny_backbone, NAMES).calibrate(F.normalize(torch.randn(20, D), dim=-1))
    detector.save(tmp_path / "d.safetensors")
    metadata, tensors = read_detector_file(tmp_path / "d.safetensors")
    assert metadata["class_names"] == NAMES
    assert tensors.keys() == load_file(tmp_path / "d.safetensors").keys()
