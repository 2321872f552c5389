"""Writes a detector as ONNX, OpenVINO or torch.export, with its settings and a program that runs it beside."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from open_clip.transform import PreprocessCfg
from torch.export import Dim, ExportedProgram

from lsn_core import __version__
from lsn_core.backbones.compiled import as_openvino, openvino
from lsn_core.calibration import DEFAULT_TPR, check_tpr
from lsn_core.detector.detector import Detector
from lsn_core.errors import UserError
from lsn_core.export.graph import DetectorGraph

Format = Literal["onnx", "openvino", "torch"]
FORMATS: tuple[Format, ...] = get_args(Format)
SETTINGS = "detector.json"
_HERE = Path(__file__).parent
_PACKAGES = {"onnx": ("onnx", "onnxscript"), "openvino": ("openvino",), "torch": ()}
_MODES = ("shortest", "squash")
_FILES = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}


def export(
    detector: Detector, folder: str | os.PathLike[str], format: Format = "onnx", tpr: float = DEFAULT_TPR
) -> Path:
    """Writes a folder that scores images without this library.

    Args:
        detector: with prompts that are the same for every image.
        folder: is made; what it holds of an earlier export is replaced.
        format: "onnx" (with run.py, which needs onnxruntime, numpy and pillow, and page.html for a browser),
            "openvino" or "torch" (a `torch.export` program).
        tpr: share of known images that the threshold keeps.

    Returns:
        The model's file. Beside it, detector.json tells class names, threshold, score, and how pictures are resized.

    Raises:
        UserError: no such format, a package that it needs is missing, the detector's prompts are made for each image,
            or its pictures are prepared in a way that the programs beside it do not know.
    """
    if format not in FORMATS:
        raise UserError(f"There is no format {format!r}. Choose one of {', '.join(FORMATS)}.")
    missing = [name for name in _PACKAGES[format] if find_spec(name) is None]
    if missing:
        raise UserError(f"Export to {format} needs packages that are not installed: pip install {' '.join(missing)}")
    mode = PreprocessCfg(**detector.backbone.model.visual.preprocess_cfg).resize_mode
    if mode not in _MODES:
        raise UserError(
            f"{detector.backbone.name} resizes pictures by {mode!r}, which exported programs do not do yet."
        )
    graph = DetectorGraph(detector, check_tpr(tpr)).eval()
    visual = detector.backbone.model.visual
    height, width = visual.image_size if isinstance(visual.image_size, tuple) else (visual.image_size,) * 2
    pixels = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(graph, (pixels,), dynamic_shapes=({0: Dim("images", min=1)},), strict=False)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as temporary:
        made = Path(temporary)
        _WRITERS[format](program, made / _FILES[format])
        (made / SETTINGS).write_text(
            json.dumps(_settings(detector, graph, (height, width), tpr, _FILES[format]), indent=1, ensure_ascii=False),
            encoding="utf-8",
        )
        if format == "onnx":
            shutil.copy(_HERE / "runner.py", made / "run.py")
            shutil.copy(_HERE / "page.html", made / "page.html")
        for file in made.iterdir():
            file.replace(target / file.name)
    return target / _FILES[format]


def _settings(
    detector: Detector, graph: DetectorGraph, size: tuple[int, int], tpr: float, model: str
) -> dict[str, Any]:
    preprocess = PreprocessCfg(**detector.backbone.model.visual.preprocess_cfg)
    return {
        "model": model,
        "inputs": {"pixels": "uint8, (images, height, width, 3), upright sRGB, resized and cropped"},
        "outputs": {
            "score": "fp32, (images,), higher = more in-distribution",
            "class_index": "int64, (images,)",
            "known": "bool, (images,): score >= threshold",
        },
        "class_names": list(detector.class_names),
        "score_name": detector.score_name,
        "threshold": graph.threshold,
        "tpr": tpr,
        "calibrated": detector.calibration is not None,
        "height": size[0],
        "width": size[1],
        "resize_mode": preprocess.resize_mode,
        "interpolation": preprocess.interpolation,
        "backbone": detector.backbone.name,
        "weights_hash": detector.backbone.weights_hash,
        "made_by": f"lsn-core {__version__}",
    }


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    made = torch.onnx.export(
        program, input_names=["pixels"], output_names=["score", "class_index", "known"], dynamo=True, verbose=False
    )
    if made is None:
        raise UserError("This detector could not be written as ONNX.")
    made.optimize()
    made.save(str(path), include_initializers=True)


def _write_openvino(program: ExportedProgram, path: Path) -> None:
    model = as_openvino(program)
    for output, name in zip(model.outputs, ("score", "class_index", "known"), strict=True):
        output.set_names({name})
    openvino().save_model(model, path, compress_to_fp16=False)


def _write_torch(program: ExportedProgram, path: Path) -> None:
    torch.export.save(program, path)


_WRITERS: dict[str, Callable[[ExportedProgram, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch": _write_torch,
}
