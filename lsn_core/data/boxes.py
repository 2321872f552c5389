"""Annotations of object detection beside images: whose they are, by the names of the files."""

from __future__ import annotations

from collections.abc import Sequence

from lsn_core.data.formats import suffix


def kind_of_boxes(names: Sequence[str]) -> str | None:
    """What the annotations among these files are, for a sentence; None where there are none."""
    if any(map(_is_coco, names)):
        return "its annotations are those of COCO"
    if any(suffix(name) == ".xml" for name in names):
        return "its annotations are XML files as Pascal VOC has them"
    if any(suffix(name) == ".txt" and "labels" in name.lower().split("/") for name in names):
        return "its labels are text files as YOLO has them"
    return None


def _is_coco(name: str) -> bool:
    *folders, base = name.lower().split("/")
    begins = base.startswith(("instances_", "_annotations", "captions_"))
    return suffix(name) == ".json" and ("annotations" in folders or begins)
