"""Detector files: sound ones, and such as an attacker or a bad disk would give."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tests.corpus.case import Case, Right

NAMES = ["dog", "cat", "elephant"]
WIDTHS = {"F16": 2, "F32": 4, "F64": 8, "BF16": 2, "I8": 1, "U8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8}
WIDTHS |= {"U64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8}
Tensors = dict[str, tuple[Any, Any, bytes]]  # kind, shape, values


@dataclass(frozen=True)
class Maker:
    """Makes files for one backbone.

    Attributes:
        name, weights_hash, dim: of the backbone.
    """

    name: str
    weights_hash: str
    dim: int

    @property
    def metadata(self) -> dict[str, Any]:
        """Of a sound file."""
        return {
            "schema": 2,
            "backbone": self.name,
            "weights_hash": self.weights_hash,
            "class_names": NAMES,
            "score": "lsn",
            "config": {"method": "coop"},
            "metrics": {},
            "fit": {},
        }

    @property
    def tensors(self) -> Tensors:
        """Of a sound file."""
        return {
            "positive": ("F32", [3, self.dim], unit(0, 3, self.dim).tobytes()),
            "negative": ("F32", [2, 3, self.dim], unit(1, 2, 3, self.dim).tobytes()),
            "calibration": ("F64", [29], np.linspace(-1, 1, 29).tobytes()),
        }

    def file(self, metadata: Any = None, tensors: Tensors | None = None) -> bytes:
        """A safetensors file; the metadata is JSON, or a text as it is."""
        metadata = self.metadata if metadata is None else metadata
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        header: dict[str, Any] = {"__metadata__": {"lsn": text}}
        at, parts = 0, self.tensors if tensors is None else tensors
        for name, (kind, shape, data) in parts.items():
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
        return raw(json.dumps(header).encode(), b"".join(data for _, _, data in parts.values()))

    def changed(self, **changes: Any) -> bytes:
        """A file with other metadata."""
        return self.file(self.metadata | changes)

    def with_tensors(self, **tensors: Any) -> bytes:
        """A file with other or more tensors; dots in names are written as two underscores."""
        return self.file(tensors=self.tensors | {name.replace("__", "."): value for name, value in tensors.items()})


def unit(seed: int, *shape: int) -> np.ndarray:
    """Random unit vectors."""
    values = np.random.default_rng(seed).normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def raw(header: bytes, data: bytes = b"") -> bytes:
    """A safetensors file of any header."""
    return len(header).to_bytes(8, "little") + header + data


def zeros(kind: str, *shape: int) -> tuple[str, list[int], bytes]:
    """A tensor of zeros."""
    return kind, list(shape), bytes(int(np.prod(shape, dtype=np.int64)) * WIDTHS[kind])


def detector_cases(maker: Maker) -> list[Case]:
    """All of them."""
    parts = (_sound, _kinds, _shapes, _values, _metadata, _names, _json, _headers, _backbones, _sets, _contexts)
    return [case for part in (*parts, _damaged) for case in part(maker)]


def _case(family: str, name: str, make: Callable[[], bytes], right: Any) -> Case:
    file = f"{family}_{name}"[:80].replace("/", "-").replace(" ", "_").replace(".", "_") + ".safetensors"
    return Case("detector", f"detector files, {family}", name, make, right, file)


def _sound(maker: Maker) -> Iterator[Case]:
    def stored(kind: type) -> dict[str, Any]:
        letters = {np.float16: "F16", np.float32: "F32", np.float64: "F64"}[kind]
        floats = {key: np.frombuffer(maker.tensors[key][2], np.float32) for key in ("positive", "negative")}
        return {key: (letters, maker.tensors[key][1], value.astype(kind).tobytes()) for key, value in floats.items()}

    for kind in (np.float16, np.float32, np.float64):
        yield _case("sound", f"{kind.__name__}", partial(maker.with_tensors, **stored(kind)), NAMES)
    nothing = zeros("F32", 0, 3, maker.dim)
    yield _case("sound", "more entries", partial(maker.changed, x=1, y={"z": [None]}), NAMES)
    yield _case("sound", "an unknown tensor", partial(maker.with_tensors, extra=zeros("F32", 5)), NAMES)
    without = {key: value for key, value in maker.tensors.items() if key != "calibration"}
    yield _case("sound", "without calibration", partial(maker.file, tensors=without), NAMES)
    mcm = partial(maker.file, maker.metadata | {"score": "mcm"}, maker.tensors | {"negative": nothing})
    yield _case("sound", "without negatives", mcm, NAMES)
    for names in (["<b>", "=1+1", "\u202etac"], ["大熊猫", "👩‍🚀", "قطة"], ["{}", "%s", "x" * 900]):
        yield _case("sound", f"names such as {names[0]!r}", partial(maker.changed, class_names=names), names)


def _kinds(maker: Maker) -> Iterator[Case]:
    shapes = {"positive": (3, maker.dim), "negative": (2, 3, maker.dim), "calibration": (29,)}
    shapes |= {"photos__features": (5, maker.dim), "photos__labels": (5,), "contexts__x": (5, maker.dim)}
    floats = {"F16", "F32", "F64"}
    for name, shape in shapes.items():
        for kind in WIDTHS:
            if kind not in ({"I32", "I64"} if name == "photos__labels" else floats):
                made = partial(maker.with_tensors, **{name: zeros(kind, *shape)})
                yield _case("kinds of values", f"{name} {kind}", made, Right.SENTENCE)
    for wrong in (["F32"], {"F32": 1}, None, 3, "f32", "", "F32 "):
        tensor = (wrong, *maker.tensors["positive"][1:])
        yield _case("kinds of values", f"{wrong!r}", partial(maker.with_tensors, positive=tensor), Right.SENTENCE)


def _shapes(maker: Maker) -> Iterator[Case]:
    d = maker.dim
    wrong: dict[str, list[tuple[int, ...]]] = {
        "positive": [(), (3,), (3 * d,), (1, 3, d), (3, 0), (0, d), (2, d), (3, 2 * d), (3, 1), (3, d, 1)],
        "negative": [(), (3, d), (2, 3 * d), (1, 2, 3, d), (2, 3, 0), (2, 0, d), (2, 4, d), (2, 3, d + 1)],
        "calibration": [(), (0,), (1, 9), (3, 3, 1)],
        "contexts.positive.contexts": [(), (1, 1, 1, 1, 1), (0,), (1, 0, 1, 1)],
    }
    for name, shapes in wrong.items():
        for shape in shapes:
            tensors = maker.tensors | {name: zeros("F64" if name == "calibration" else "F32", *shape)}
            yield _case("shapes", f"{name} {shape}", partial(maker.file, tensors=tensors), Right.SENTENCE)
    for odd in ("3", None, [3, "64"], [3, True], [3.0, 64], [-3, -d], [2**70, d], [[3], [d]], {"a": 1}, [2**31] * 3):
        tensor = ("F32", odd, maker.tensors["positive"][2])
        yield _case("shapes", f"positive {odd}", partial(maker.with_tensors, positive=tensor), Right.SENTENCE)


def _values(maker: Maker) -> Iterator[Case]:
    for name in ("positive", "negative", "calibration"):
        kind, shape, data = maker.tensors[name]
        for value in (np.nan, np.inf, -np.inf, 1e30, 2.0):
            values = np.frombuffer(data, "<f8" if kind == "F64" else "<f4").copy()
            values[len(values) // 2] = value
            made = partial(maker.with_tensors, **{name: (kind, shape, values.tobytes())})
            right = NAMES if name == "calibration" and np.isfinite(value) else Right.SENTENCE
            yield _case("values", f"{name} {value}", made, right)


def _metadata(maker: Maker) -> Iterator[Case]:
    wrong: dict[str, Any] = {
        "schema": ["2", True, None, 0, -1, 99, 2.0, 10**400, [], {}, float("nan")],
        "weights_hash": [None, 3, "", "0" * 64, "x" * 10**6],
        "score": [None, ["lsn"], "nope", "lsn" * 1000, "", "__class__"],
        "config": [None, [], {"method": 3}, {"positive": []}, {"method": "cocoop"}, {"negative_template": "no"}],
        "metrics": [None, [], "x"],
        "fit": [
            None,
            [],
            {"units": [1]},
            {"units": {"lsn": {"": [10**400, 1]}}},
            {"test_unit": 10**400},
            {"test_unit": -1},
            {"test_unit": "x"},
            {"photos": "all"},
            {"photos": 3},
            {"choice": {"folds": 3}},
            {"profile": {"": ["a", "b"]}},
            {"profile": [1]},
        ],
    }
    for key, values in wrong.items():
        for value in values:
            name = f"{key} {json.dumps(value)[:40]}"
            yield _case("metadata", name, partial(maker.changed, **{key: value}), Right.SENTENCE)
    for key in maker.metadata:
        kept = {name: value for name, value in maker.metadata.items() if name != key}
        yield _case("metadata", f"without {key}", partial(maker.file, kept), Right.SENTENCE)


def _names(maker: Maker) -> Iterator[Case]:
    wrong: dict[str, Any] = {
        "three million": lambda: ["a"] * 3_000_000,
        "half a million": lambda: ["a"] * 500_000,
        "100,001": lambda: [f"c{i}" for i in range(100_001)],
        "a long one": lambda: ["dog", "cat", "x" * 100_000],
        "numbers": lambda: [1, 2, 3],
        "lists": lambda: [["dog"], ["cat"], ["hen"]],
        "none": lambda: [],
        "two": lambda: ["dog", "cat"],
        "one twice": lambda: ["dog", "cat", "DOG"],
        "an empty one": lambda: ["dog", "cat", " "],
        "an escape": lambda: ["dog", "cat", "\x1b[2J"],
        "a NUL": lambda: ["dog", "cat", "a\0b"],
        "half a surrogate pair": lambda: ["dog", "cat", "\ud800"],
        "null": lambda: ["dog", "cat", None],
        "an object": lambda: {"0": "dog"},
    }
    for name, make in wrong.items():
        yield _case("class names", name, partial(lambda m: maker.changed(class_names=m()), make), Right.SENTENCE)


def _json(maker: Maker) -> Iterator[Case]:
    body = json.dumps(maker.metadata)[:-1]
    texts: dict[str, Callable[[], str]] = {
        "deep lists": lambda: f'{body}, "x": {"[" * 200_000}{"]" * 200_000}}}',
        "deep objects": lambda: body + ', "x": ' + '{"a": ' * 100_000 + "1" + "}" * 100_001,
        "a key twice": lambda: f'{body}, "score": "mcm"}}',
        "a key twice inside": lambda: f'{body}, "x": {{"a": 1, "a": 2}}}}',
        "a number of 5,000 digits": lambda: f'{body}, "x": {"9" * 5000}}}',
        "a million keys": lambda: body + "".join(f', "{i}": 0' for i in range(1_000_000)) + "}",
        "half a surrogate pair": lambda: f'{body}, "x": "\\ud800"}}',
        "a list": lambda: f"[{body}}}]",
        "a number": lambda: "3",
        "nothing": lambda: "",
        "cut": lambda: body,
        "a comment": lambda: f"{body}}} // x",
        "Python": lambda: repr(maker.metadata),
        "code": lambda: "__import__('os').system('id')",
    }
    for name, make in texts.items():
        yield _case("JSON", name, partial(lambda m: maker.file(m()), make), Right.SENTENCE)


def _headers(maker: Maker) -> Iterator[Case]:
    entry = json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    headers: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "null": lambda: b"null",
        "a list": lambda: b"[]",
        "an empty object": lambda: b"{}",
        "a number": lambda: b'{"__metadata__": 3}',
        "no text": lambda: b'{"__metadata__": {"lsn": 3}}',
        "twice": lambda: b'{"__metadata__": {"lsn": "{}"}, "__metadata__": {}}',
        "deep": lambda: b"[" * 100_000,
        "no UTF-8": lambda: b"\xff\xfe",
        "long numbers": lambda: b'{"positive": ' + b"9" * 5000 + b"}",
        "many tensors": lambda: f"{{{', '.join(f'{chr(34)}t{i}{chr(34)}: {entry}' for i in range(60_000))}}}".encode(),
        "a pickle": lambda: b"\x80\x04\x95cposix\nsystem\n(S'id'\ntR.",
    }
    for name, make in headers.items():
        yield _case("headers", name, partial(lambda m: raw(m()), make), Right.SENTENCE)
    for length in (0, 10**6, 5 * 2**20, 2**31, 2**63, 2**64 - 1):
        made = partial(lambda size: size.to_bytes(8, "little") + b"{}" * 1000, length)
        yield _case("headers", f"a length of {length}", made, Right.SENTENCE)
    for offsets in ([0, 2**62], [-4, 0], [768, 0], "x", [0], [None, None]):
        header = {
            "__metadata__": {"lsn": json.dumps(maker.metadata)},
            "positive": {"dtype": "F32", "shape": [3, maker.dim], "data_offsets": offsets},
        }
        yield _case(
            "headers", f"offsets {offsets}", partial(raw, json.dumps(header).encode(), bytes(99)), Right.SENTENCE
        )
    for name, data in {"nothing": b"", "a zip": b"PK\3\4" + bytes(100), "zeros": bytes(4096)}.items():
        yield _case("headers", name + " for a file", lambda data=data: data, Right.SENTENCE)


def _backbones(maker: Maker) -> Iterator[Case]:
    for name in ("a\0b", "b" * 5000, "nope", "ViT-B-32:nope", "local-dir:/nowhere", "../../etc/passwd", "", "\ud800"):
        made = partial(maker.changed, backbone=name, weights_hash="1" * 64)
        yield _case("backbones", repr(name)[:40], made, Right.SENTENCE)


def _sets(maker: Maker) -> Iterator[Case]:
    for missing in ("positive", "negative"):
        kept = {name: tensor for name, tensor in maker.tensors.items() if name != missing}
        yield _case("tensors", f"without {missing}", partial(maker.file, tensors=kept), Right.SENTENCE)
    yield _case("tensors", "none", partial(maker.file, tensors={}), Right.SENTENCE)
    many = {f"contexts.{i}": zeros("F32", 1) for i in range(5000)}
    yield _case("tensors", "5,000", partial(maker.file, tensors=maker.tensors | many), Right.SENTENCE)


def _contexts(maker: Maker) -> Iterator[Case]:
    shapes: list[dict[str, tuple[int, ...]]] = [
        {"contexts": (1, 1, 4, 64), "meta_weight_1": (1, 1, 1, 200_000)},
        {"contexts": (1, 1, 4, 64), "meta_weight_1": ()},
        {"contexts": (1, 2, 4, 64)},
        {"contexts": (1, 1, 200, 64)},
        {"contexts": (4, 64)},
        {"meta_bias_1": (1, 4)},
    ]
    metadata = maker.metadata | {"config": {"method": "cocoop"}}
    for one in shapes:
        tensors = maker.tensors | {f"contexts.positive.{name}": zeros("F32", *shape) for name, shape in one.items()}
        name = ", ".join(f"{name} {shape}" for name, shape in one.items())
        yield _case("contexts", name, partial(maker.file, metadata, tensors), Right.SENTENCE)


def _damaged(maker: Maker) -> Iterator[Case]:
    valid = maker.file()
    for hundredths in (1, 5, 10, 25, 50, 75, 90, 99):
        cut = len(valid) * hundredths // 100
        yield _case("truncated", f"at {hundredths} %", lambda cut=cut: valid[:cut], Right.SENTENCE)
    end = 8 + int.from_bytes(valid[:8], "little")
    for seed in range(40):
        rng = np.random.default_rng(seed)
        data = bytearray(valid)
        for place in rng.integers(0, end if seed % 2 else len(data), 3):
            data[place] ^= 1 << int(rng.integers(0, 8))
        yield _case("bit flips", f"{seed}", lambda data=bytes(data): data, Right.EITHER)
