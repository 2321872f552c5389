"""Verdicts in COCO's form (https://cocodataset.org/#format-data).

COCO has boxes and no labels of whole images, so the box is the whole image. The categories are the classes and one
more, "unknown". What COCO has no word for (verdict, nearest class, p-value) is below `attributes`; readers keep it or
pass it over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lsn_core.handoff.verdict import KNOWN, UNKNOWN, Origin, Verdict


def document(verdicts: Sequence[Verdict], origin: Origin) -> dict[str, Any]:
    """One image and one annotation a photo, numbered from 1; sizes are those of the upright picture, in pixels.

    Raises:
        ImageError: a photo can no longer be read.
    """
    unknown = UNKNOWN if UNKNOWN not in origin.class_names else "none of the classes"
    numbers = {name: index for index, name in enumerate((*origin.class_names, unknown), 1)}
    images, annotations = [], []
    for index, verdict in enumerate(verdicts, 1):
        from lsn_core.data.images import open_image  # with NumPy and Pillow, which the help needs not

        width, height = open_image(verdict.path, on_warning=lambda _: None).size
        name = (origin.prefix or "") + origin.inside(verdict)
        images.append({"id": index, "file_name": name, "width": width, "height": height})
        annotations.append(
            {
                "id": index,
                "image_id": index,
                "category_id": numbers[verdict.predicted_class if verdict.known else unknown],
                "bbox": [0, 0, width, height],
                "area": width * height,
                "segmentation": [],
                "iscrowd": 0,
                "score": verdict.score,
                "attributes": {
                    "verdict": verdict.label,
                    "nearest_class": verdict.predicted_class,
                    "threshold": verdict.threshold,
                    "p_value": verdict.p_value,
                },
            }
        )
    categories = [
        {"id": number, "name": name, "supercategory": UNKNOWN if name == unknown else KNOWN}
        for name, number in numbers.items()
    ]
    info = {"description": f"Verdicts of {origin.model}"}
    return {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
