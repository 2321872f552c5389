"""Image sets as people have them: layouts and names, built by a seed, with what is right for each."""

from __future__ import annotations

import io
import json
import random
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

THINGS = ["cat", "dog", "zebra", "church", "parachute", "tench", "cassette", "elephant", "flamingo", "lizard", "truck"]
PARQUET_SETS = 12
AWKWARD = ["café", "猫", "chain_saw", "Señor gato", "naïve art", "tench, Tinca tinca", "日本 犬", "rock & roll"]


@dataclass(frozen=True)
class Layout:
    """One set, what is asked of it, and what is right.

    Attributes:
        name: what it is called in a test's report.
        files: path -> bytes, below the set's root.
        classes: class -> images; None where it cannot be used as a labelled set.
        says: a regular expression that the warnings, or the error, match.
        split, label_column: what is asked for.
        raw_names: names for a zip as bytes, without the flag for UTF-8, by path; for those that are not in `files`.
    """

    name: str
    files: Mapping[str, bytes]
    classes: Mapping[str, int] | None
    says: str = ""
    split: str | None = None
    label_column: str | None = None
    raw_names: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """The same as options of the command line."""
        asked = {"--split": self.split, "--label-column": self.label_column}
        return [part for option, value in asked.items() if value is not None for part in (option, value)]

    def folder(self, root: Path) -> Path:
        """Writes it as a folder."""
        for path, data in self.files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root

    def zip(self, path: Path) -> Path:
        """Writes it as a zip."""
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in self.files.items():
                archive.writestr(name, data)
            for number, raw in enumerate(self.raw_names.values()):
                archive.writestr(f"{number:0{len(raw)}}", self.files[next(iter(self.files))] + bytes([number]))
        data = path.read_bytes()
        for number, raw in enumerate(self.raw_names.values()):
            data = data.replace(f"{number:0{len(raw)}}".encode(), raw)
        path.write_bytes(data)
        return path


def picture(rng: random.Random, kind: str = "PNG") -> bytes:
    """A small picture of one of its own."""
    pixels = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def layouts(seed: int) -> list[Layout]:
    """All layouts, whose names of classes, numbers of images and kinds of files a seed decides."""
    return [*_splits(seed), *_wrappers_and_classes(seed), *_tables(seed), *_no_labels(seed), *_names(seed)]


class _Maker:
    def __init__(self, seed: int, family: str) -> None:
        self.rng = random.Random(f"{seed} {family}")
        self.names = self.rng.sample(THINGS, self.rng.randint(2, 4))

    def classes(self, root: str = "", names: list[str] | None = None, inside: str = "") -> dict[str, bytes]:
        """Class folders with one to three images each."""
        made = {}
        for name in names or self.names:
            for number in range(self.rng.randint(1, 3)):
                ending, kind = self.rng.choice([("png", "PNG"), ("JPG", "JPEG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
                made[f"{root}{name}/{inside}{number}.{ending}"] = picture(self.rng, kind)
        return made

    def flat(self, root: str = "", count: int = 3) -> dict[str, bytes]:
        return {f"{root}{number}.jpg": picture(self.rng, "JPEG") for number in range(count)}


def counts(files: Mapping[str, bytes], depth: int = 0) -> dict[str, int]:
    """Class -> images, by the folder at a depth, as the names are shown."""
    return dict(Counter(path.split("/")[depth].replace("_", " ") for path in files))


def _splits(seed: int) -> list[Layout]:
    make = _Maker(seed, "splits")
    found = []
    pairs = [
        ("train", "test"),
        ("training_set", "test_set"),
        ("Training", "Testing"),
        ("train", "dev"),
        ("train2017", "val2017"),
        ("seg_train", "seg_test"),
        ("digits-train", "digits-valid"),
        ("my_train_images", "my_test_images"),
        ("TrainSet", "TestSet"),
        ("training_data", "holdout"),
    ]
    for first, second in pairs:
        one, other = make.classes(f"{first}/"), make.classes(f"{second}/")
        both = one | other
        found.append(Layout(f"{first}+{second}, guessed", both, counts(one, 1), f"the split {first} is taken"))
        found.append(Layout(f"{first}+{second}, named", both, counts(other, 1), f"left out: {first}", split=second))
    one, other = make.classes("train/"), make.classes("test/")
    found.append(Layout("by kind", {**one, **other}, counts(other, 1), "the split test", split="testing"))
    found.append(Layout("no such split", {**one, **other}, None, "no split 'extra'; there are", split="extra"))
    found.append(Layout("train + flat test1", one | make.flat("test1/"), counts(one, 1), "without labels: test1"))
    doubled, rest = make.classes("seg_train/seg_train/"), make.classes("seg_test/seg_test/")
    more = make.flat("seg_pred/seg_pred/")
    found.append(Layout("doubled folders", doubled | rest | more, counts(doubled, 2), "left out: seg_pred"))
    wrapped = {f"data/v2/{path}": data for path, data in (one | other).items()}
    found.append(Layout("wrapped splits", wrapped, counts(one, 1), "the split train is taken"))
    by_class = make.classes(inside="train/") | make.classes(inside="test/")
    kept = {path: data for path, data in by_class.items() if "/train/" in path}
    found.append(Layout("splits in each class", by_class, counts(kept), "split train of each class"))
    folds = make.classes("fold_1/") | make.classes("fold_2/")
    found.append(Layout("folds", folds, None, "splits fold_1, fold_2.*--split"))
    domains = make.classes("amazon/images/") | make.classes("webcam/images/")
    webcam = {path: data for path, data in domains.items() if path.startswith("webcam")}
    found.append(Layout("same folders in all", domains, None, "splits amazon, webcam"))
    found.append(Layout("one domain", domains, counts(webcam, 2), "left out: amazon", split="webcam"))
    fewer = make.classes("source/", THINGS[:4]) | make.classes("target/", THINGS[:3])
    found.append(Layout("nearly the same folders", fewer, None, "splits source, target"))
    found.append(Layout("flat splits", make.flat("train/") | make.flat("test/"), None, "no class folders"))
    mixed = [f"{name}_{split}" for name in make.names for split in ("train", "test")]
    found.append(Layout("class and split in one", make.classes(names=mixed), None, "classes and splits"))
    vehicles = make.classes(names=["train", "bus", "truck"])
    found.append(Layout("train, the vehicle", vehicles, counts(vehicles)))
    stations = make.classes(names=["train_station", "test_tube"])
    found.append(Layout("words in names of classes", stations, counts(stations)))
    unclear = make.classes("train/", ["steam", "electric"]) | make.classes(names=["bus"])
    found.append(Layout("a split or a class", unclear, None, "train looks like a split.*--split"))
    found.append(Layout("not split at all", make.classes(), None, "no splits", split="train"))
    return found


def _wrappers_and_classes(seed: int) -> list[Layout]:
    make = _Maker(seed, "classes")
    plain, clutter = make.classes(), {".DS_Store": b"x", "__MACOSX/a/._0.png": b"x", f"{make.names[0]}/Thumbs.db": b"x"}
    found = [Layout("class folders", plain, counts(plain)), Layout("clutter", plain | clutter, counts(plain))]
    for wrapper in ("photos/", "a/b/", "download/set/images/"):
        inside = make.classes(wrapper)
        found.append(Layout(f"in {wrapper}", inside, counts(inside, wrapper.count("/"))))
    deep = make.classes(inside="images/")
    found.append(Layout("images in each class", deep, counts(deep)))
    other = {"readme.txt": b"x", f"{make.names[0]}/notes.md": b"x"}
    found.append(Layout("other files", plain | other, counts(plain), "2 other files left out"))
    raw = {f"{make.names[0]}/IMG_1.DNG": b"x"}
    found.append(Layout("raw beside", plain | raw, counts(plain), "camera's raw file"))
    found.append(Layout("raw only", plain | {"horse/IMG_1.CR2": b"x"}, None, "class folders horse.*raw file"))
    heic = {"horse/IMG_1.HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"}
    found.append(Layout("HEIC only", plain | heic, {**counts(plain), "horse": 1}))
    found.append(Layout("empty class", plain | {"horse/notes.txt": b"x"}, None, "no images in the class folders horse"))
    found.append(Layout("loose photo", plain | make.flat(count=1), None, "1 images are in no class folder"))
    found.append(
        Layout("archives inside", {"train.zip": b"PK", "test.zip": b"PK"}, None, "archives.*test.zip, train.zip")
    )
    found.append(Layout("documents", {"a.pdf": b"%PDF", "b.pdf": b"%PDF"}, None, "PDF document"))
    found.append(Layout("nothing", {"notes.txt": b"x"}, None, "no image files"))
    same = make.classes(names=["chain_saw", "Chain saw"])
    found.append(Layout("one class twice", same, None, "have the same name"))
    return found


def _tables(seed: int) -> list[Layout]:
    make = _Maker(seed, "tables")
    images = make.flat("images/", 4)
    labels = [make.names[number % 2] for number in range(4)]
    right = dict(Counter(labels))

    def table(header: str, *parts: list[str], mark: str = ",") -> bytes:
        lines = [header.replace(",", mark), *(mark.join(row) for row in zip(*parts, strict=True))]
        return "\n".join(lines).encode()

    names = [f"{number}.jpg" for number in range(4)]
    paths, ids = list(images), [name[:-4] for name in names]
    flat = {path.removeprefix("images/"): data for path, data in images.items()}
    found = [
        Layout("labels.csv", images | {"labels.csv": table("file_name,label", names, labels)}, right, "labels.csv"),
        Layout("metadata.csv", flat | {"metadata.csv": table("file_name,label", names, labels)}, right, "metadata.csv"),
        Layout("paths", images | {"train.csv": table("path,class", paths, labels)}, right, "labels are those"),
        Layout("case", images | {"a.csv": table("file,label", [n.upper() for n in names], labels)}, right, "a.csv"),
        Layout("ids", images | {"labels.csv": table("id,breed", ids, labels)}, right, "labels are those"),
        Layout("semicolons", images | {"a.csv": table("file,label", names, labels, mark=";")}, right, "a.csv"),
        Layout("tabs", images | {"a.tsv": table("file,label", names, labels, mark="\t")}, right, "a.tsv"),
        Layout("no header", images | {"a.csv": table("0.jpg,x", names, labels)}, None, "calls 0.jpg"),
        Layout(
            "in a wrapper",
            {f"set/{k}": v for k, v in images.items()} | {"set/labels.csv": table("id,y", ids, labels)},
            right,
        ),
    ]
    lines = [json.dumps({"file_name": name, "label": label}) for name, label in zip(names, labels, strict=True)]
    found.append(Layout("metadata.jsonl", flat | {"metadata.jsonl": "\n".join(lines).encode()}, right, "jsonl"))
    short = table("file,label", [*names[:3], "gone.jpg"], labels)
    found.append(
        Layout(
            "table with gaps",
            images | {"labels.csv": short},
            dict(Counter(labels[:3])),
            "1 of the images have no label",
        )
    )
    two = table("file,size,colour", names, ["big"] * 4, labels)
    found.append(Layout("unclear column", images | {"a.csv": two}, None, "a.csv gives no labels.*--label-column"))
    found.append(Layout("column named", images | {"a.csv": two}, right, "a.csv", label_column="colour"))
    with_splits = table("file,label,split", names, labels, ["train", "train", "train", "test"])
    found.append(Layout("column of splits", images | {"a.csv": with_splits}, dict(Counter(labels[:3])), "split train"))
    found.append(Layout("one of them", images | {"a.csv": with_splits}, {labels[3]: 1}, "split test", split="test"))
    each = {f"{split}/{n}": d for split in ("train", "test") for n, d in make.flat(count=2).items()}
    each |= {f"{split}/metadata.csv": table("file_name,label", names[:2], labels[:2]) for split in ("train", "test")}
    found.append(Layout("a table in each split", each, dict(Counter(labels[:2])), "the split train is taken"))
    return found


def _no_labels(seed: int) -> list[Layout]:
    make = _Maker(seed, "none")
    coco = make.flat("train2017/") | make.flat("val2017/") | {"annotations/instances_train2017.json": b"{}"}
    yolo = make.flat("train/images/") | make.flat("valid/images/") | {"train/labels/0.txt": b"0 1 1 1 1"}
    voc = make.flat("JPEGImages/") | {"Annotations/0.xml": b"<annotation/>"}
    return [
        Layout("flat", make.flat(), None, "no class folder.*photos of none of the classes"),
        Layout("images/ alone", make.flat("images/"), None, "no class folder"),
        Layout("images and masks", make.flat("images/") | make.flat("masks/"), None, "no class folder"),
        Layout("a spreadsheet", make.flat() | {"labels.xlsx": b"PK"}, None, "labels.xlsx is not read.*CSV"),
        Layout("COCO", coco, None, "object detection.*COCO"),
        Layout("YOLO", yolo, None, "object detection.*YOLO"),
        Layout("Pascal VOC", voc, None, "object detection.*Pascal VOC"),
    ]


def _names(seed: int) -> list[Layout]:
    make = _Maker(seed, "names")
    awkward = make.classes(names=make.rng.sample(AWKWARD, 4))
    found = [Layout("awkward names", awkward, counts(awkward))]
    composed, split = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    one, other = make.classes(names=[composed]), make.classes(names=[split])
    both = one | {path.replace("/", "/mac-"): data for path, data in other.items()}
    beside = make.classes(names=["dog"])
    right = {composed: len(one) + len(other), **counts(beside)}
    found.append(Layout("NFC and NFD", both | beside, right))
    found.append(Layout("NFD alone", other | beside, {composed: len(other), **counts(beside)}))
    raw = {"猫猫/1.png": "猫猫/1.png".encode(), "café/1.png": "café/1.png".encode()}
    found.append(Layout("zip of macOS", beside, {**counts(beside), "猫猫": 1, "café": 1}, raw_names=raw))
    dos = {"ä/1.png": "Bär/1.png".encode("cp437")}
    found.append(Layout("zip of DOS", beside, {**counts(beside), "Bär": 1}, raw_names=dos))
    return found


def parquet_sets(seed: int, folder: Path) -> dict[str, tuple[Path, Mapping[str, int] | None, str]]:
    """Parquet files as published: name -> file, classes with their images (None for no set), and what is said."""
    rng = random.Random(f"{seed} parquet")
    images = [picture(rng) for _ in range(6)]
    nested = [{"bytes": data, "path": None} for data in images]
    names = rng.sample(THINGS, 3)
    ids = [0, 1, 2, 0, 1, 2]
    right = dict.fromkeys(sorted(names), 2)
    words = [names[i] for i in ids]

    def declared(column: str) -> dict[bytes, bytes]:
        return {b"huggingface": json.dumps({"info": {"features": {column: {"names": names}}}}).encode()}

    tables: dict[str, tuple[pa.Table, Mapping[str, int] | None, str]] = {
        "as published": (
            pa.table({"image": nested, "label": ids}).replace_schema_metadata(declared("label")),
            right,
            "",
        ),
        "fine_label": (
            pa.table({"img": nested, "fine_label": ids, "coarse_label": [0] * 6}).replace_schema_metadata(
                declared("fine_label")
            ),
            right,
            "column fine_label, not of coarse_label",
        ),
        "cls": (pa.table({"jpg": images, "cls": words}), right, ""),
        "labels": (pa.table({"pixel_values": images, "labels": words}), right, ""),
        "class": (pa.table({"image": images, "class": words}), right, ""),
        "floats": (
            pa.table({"image": images, "label": [float(i) for i in ids]}),
            {f"class {i}": 2 for i in range(3)},
            "",
        ),
        "halves": (pa.table({"image": images, "label": [0.5] * 6}), None, "whole numbers or text"),
        "booleans": (pa.table({"image": images, "label": [True, False] * 3}), {"label false": 3, "label true": 3}, ""),
        "one column of bytes": (pa.table({"content": images, "label": words}), right, "column content"),
        "no labels": (pa.table({"image": images, "score": [1.0] * 6}), None, "which column holds the labels"),
        "paths only": (pa.table({"image": ["a.png"] * 6, "label": words}), None, "bytes of image files"),
        "some classes": (
            pa.table({"image": nested[:2], "label": ids[:2]}).replace_schema_metadata(declared("label")),
            dict.fromkeys(sorted(names[:2]), 1),
            "",
        ),
    }
    made = {}
    for name, (table, classes, says) in tables.items():
        path = folder / f"{name.replace(' ', '-')}.parquet"
        pq.write_table(table, path)
        made[name] = (path, classes, says)
    return made
