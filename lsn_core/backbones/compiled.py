"""Image towers compiled for the CPU by OpenVINO: several times as fast as PyTorch, which stays the reference.

A compiled tower is used only where it was seen, when it was opened, to give PyTorch's features of a probe picture to
1e-4. Whatever goes wrong on the way to one is logged, and PyTorch does the work.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from lsn_core.errors import UserError

log = logging.getLogger(__name__)

VARIABLE = "LSN_RUNTIME"
RUNTIMES = ("auto", "eager", "openvino")
LARGEST_DIFFERENCE = 1e-4
"""Of a value of a feature, between a compiled tower in fp32 and PyTorch."""
LEAST_COSINE = 0.97
"""Of a feature of noise in bf16 and PyTorch's; photos' are nearer."""

_AT_ONCE = 8  # pictures in one pass of one stream; more fall out of the caches of the CPU
_MODEL = "tower.xml"
_FIRST = threading.Lock()


def chosen_runtime() -> str:
    """What LSN_RUNTIME asks for: auto (compiled where it pays), eager or openvino. Raises UserError for another."""
    runtime = os.environ.get(VARIABLE, "").strip().lower() or "auto"
    if runtime not in RUNTIMES:
        raise UserError(f"{VARIABLE}={runtime[:40]!r} is no runtime. Set it to one of {', '.join(RUNTIMES)}.")
    if runtime == "openvino" and not is_installed():
        raise UserError(f"{VARIABLE}=openvino needs a package that is not installed: pip install openvino")
    return runtime


def is_installed() -> bool:
    """Whether OpenVINO is there; nothing of it is loaded."""
    return find_spec("openvino") is not None


class Tower(nn.Module):
    """An image tower from cropped pictures to features, as one module of tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual = model.visual
        settings = PreprocessCfg(**model.visual.preprocess_cfg)
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N, H, W, 3), uint8 -> features (N, D), fp32, unit length."""
        pixels = crops.permute(0, 3, 1, 2).float() / 255.0
        return F.normalize(self.visual((pixels - self.mean) / self.std).float(), dim=-1)


class CompiledTower:
    """A tower that OpenVINO has compiled; may be called by several threads at once.

    Args:
        path: of the model's .xml, see `compile_tower`.
        threads: most threads at work at once, at least 1.
        bf16: whether it computes in bf16, where the CPU has that.
    """

    def __init__(self, path: Path, threads: int, bf16: bool = False) -> None:
        self._model = (
            openvino()
            .Core()
            .compile_model(
                path,
                "CPU",
                {
                    "PERFORMANCE_HINT": "THROUGHPUT",
                    "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
                    "INFERENCE_NUM_THREADS": threads,
                },
            )
        )
        self._streams = int(self._model.get_property("NUM_STREAMS"))
        self._pool = ThreadPoolExecutor(self._streams, thread_name_prefix="openvino")
        self._own = threading.local()  # each thread's request

    def __call__(self, crops: Tensor) -> Tensor:
        """Crops (N, H, W, 3), uint8, N >= 1 -> features (N, D), fp32, unit length."""
        size = min(_AT_ONCE, -(-len(crops) // self._streams))
        return torch.cat(list(self._pool.map(self._infer, crops.split(size))))

    def _infer(self, crops: Tensor) -> Tensor:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._model.create_infer_request()
        return torch.from_numpy(request.infer([crops.numpy()], share_inputs=True)[0].copy())


def kept_at(weights_hash: str, function: str) -> Path:
    """Folder of a backbone's compiled tower, in torch's cache folder, whether there is one or not.

    Args:
        weights_hash: of the backbone.
        function: what decides its image features beside the weights, as a digest.
    """
    made_by = f"{version('openvino')}|{torch.__version__}|{function}"
    name = f"tower-{weights_hash[:16]}-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}"
    return Path(torch.hub.get_dir()).parent / "lsn_core" / name


def compile_tower(model: Any, folder: Path, bf16: bool = False) -> CompiledTower | None:
    """A model's image tower, compiled; converted first where the folder does not have it yet, which takes seconds.

    Args:
        model: an open_clip model on the CPU, in fp32 and eval mode.
        folder: where the converted tower is kept; where that fails, it is used from a temporary one.
        bf16: whether it computes in bf16; its features are then compared by their cosine alone.

    Returns:
        None where this tower cannot be compiled, or would give other features than PyTorch's.
    """
    tower = Tower(model).eval()
    kept = (folder / _MODEL).is_file()
    try:
        with tempfile.TemporaryDirectory(prefix="lsn-tower-") as temporary:
            path = folder / _MODEL if kept else _keep(_convert(tower, Path(temporary)), folder)
            compiled = CompiledTower(path, torch.get_num_threads(), bf16)
        crops = _probe(model)
        with torch.no_grad():
            found, wanted = compiled(crops), tower(crops)
        difference = float((found - wanted).abs().max())
        fine = float((found * wanted).sum(-1).min()) >= LEAST_COSINE if bf16 else difference <= LARGEST_DIFFERENCE
        if not fine:  # nor for NaN
            raise ValueError(f"a value of its features differs by {difference:.1e}")
    except Exception as error:  # of torch.export and OpenVINO, on models of all kinds
        log.debug("compiling failed", exc_info=True)
        shutil.rmtree(folder, ignore_errors=True)
        if kept and not (folder / _MODEL).is_file():  # it may have been damaged, and is gone now
            return compile_tower(model, folder, bf16)
        if kept:  # where nothing can be removed
            with tempfile.TemporaryDirectory(prefix="lsn-tower-") as elsewhere:
                return compile_tower(model, Path(elsewhere) / folder.name, bf16)
        reason = " ".join(str(error).split())[:300]
        log.warning("The image tower could not be compiled, and PyTorch runs it: %s", reason)
        return None
    return compiled


def _probe(model: Any) -> Tensor:
    """Two pictures of noise, (2, H, W, 3), uint8."""
    size = model.visual.image_size
    height, width = size if isinstance(size, Sequence) else (size, size)
    noise = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8, generator=noise)


def _convert(tower: Tower, folder: Path) -> Path:
    crops = _probe(tower)
    with torch.no_grad():
        program = torch.export.export(
            tower, (crops,), dynamic_shapes=({0: torch.export.Dim("images", min=1)},), strict=False
        )
    openvino().save_model(as_openvino(program), folder / _MODEL, compress_to_fp16=False)
    return folder


def openvino() -> Any:
    """The package openvino, imported without what it tells a counter on the network of each import and conversion."""
    with _FIRST:
        # security: nobody was asked. Where its telemetry package cannot be imported, it goes on without.
        if "openvino" not in sys.modules:
            sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        package = importlib.import_module("openvino")
        # Of two threads that do this for the first time, as with their first pictures, each may wait for what the other
        # holds, one of them for Python's own lock: the whole process would stand still.
        package.Type.f32.to_dtype()
    return package


def as_openvino(program: torch.export.ExportedProgram) -> Any:
    """A torch.export program as an `openvino.Model`."""
    root = logging.getLogger()
    root.addFilter(_is_no_decomposition)
    try:
        return openvino().convert_model(program)
    finally:
        root.removeFilter(_is_no_decomposition)


def _is_no_decomposition(record: logging.LogRecord) -> bool:
    """False for OpenVINO's warnings, with tracebacks, about operations that a newer torch has not."""
    return "not found in decomp table" not in str(record.msg)


def _keep(made: Path, folder: Path) -> Path:
    """Moves a converted tower to its folder, all of it at once; the path to load it from."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            shutil.copytree(made, beside, dirs_exist_ok=True)
            beside.rename(folder)
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            if not (folder / _MODEL).is_file():  # another process was first
                raise
    except OSError as error:
        log.info("The compiled tower is not kept: %s.", error)
        return made / _MODEL
    return folder / _MODEL
