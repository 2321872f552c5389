"""Verdicts of an exported detector, without its library: python run.py PHOTO ...   (onnxruntime, numpy, pillow)"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def pixels(image: Image.Image, height: int, width: int, mode: str = "shortest", method: str = "bicubic") -> np.ndarray:
    """An upright picture, squashed or resized by its shorter side and the middle cut out: (height, width, 3), uint8."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    resampling = Image.Resampling[method.upper()]
    if mode == "squash":
        return np.asarray(image.resize((width, height), resampling))
    wide = image.width > image.height
    long = int(min(height, width) * max(image.size) / min(image.size))
    image = image.resize((long, height) if wide else (width, long), resampling)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))


if __name__ == "__main__":
    import onnxruntime

    here = Path(__file__).parent
    told = json.loads((here / "detector.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(here / told["model"]))
    for photo in sys.argv[1:]:
        seen = pixels(Image.open(photo), told["height"], told["width"], told["resize_mode"], told["interpolation"])
        score, index, known = (out[0] for out in session.run(None, {"pixels": seen[None]}))
        name = told["class_names"][index] if known else "none of the classes"
        print(f"{photo}: {name} (score {score:.5f}, threshold {told['threshold']:.5f})")
