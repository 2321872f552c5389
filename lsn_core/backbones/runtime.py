"""What runs a backbone's image tower: PyTorch, or a tower compiled for the CPU where that saves time."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import torch
from torch import nn

from lsn_core.backbones.compiled import CompiledTower, chosen_runtime, compile_tower, is_installed, kept_at
from lsn_core.backbones.identity import Weights, digest, image_settings
from lsn_core.errors import UserError

log = logging.getLogger(__name__)

_COMPILING_PAYS = 256  # pictures, where the tower has to be converted first
_OPENING_PAYS = 32  # pictures, where it was converted before


class ImageRuntime:
    """Chooses what runs the image tower, and holds the compiled one.

    Compiled it is on a CPU with OpenVINO installed, unless LSN_RUNTIME=eager. Converting takes seconds, once for each
    backbone and machine; the converted tower is kept in torch's cache folder (below `TORCH_HOME`). Features of a
    compiled tower differ from PyTorch's by less than 1e-4 in each value.

    Args:
        model: an open_clip model on a device.
        name: what to call it in messages.
        device: where it is.
        weights: its weights.

    Attributes:
        compiled: the compiled tower, or None while PyTorch runs it.
        bf16: whether it computes in bf16.
    """

    def __init__(self, model: nn.Module, name: str, device: torch.device, weights: Weights) -> None:
        self.compiled: CompiledTower | None = None
        self.bf16 = False
        self._model, self._name, self._weights = model, name, weights
        self._lock = threading.Lock()
        self._on_gpu = device.type == "cuda"
        self._wanted = chosen_runtime() if device.type == "cpu" else "eager"

    @property
    def name(self) -> str:
        """What runs the image tower at present: "openvino" or "eager" (PyTorch)."""
        return "eager" if self.compiled is None else "openvino"

    @property
    def can_compile(self) -> bool:
        """Whether a compiled image tower may be had: on a CPU, with OpenVINO, and unless LSN_RUNTIME=eager."""
        return self._wanted != "eager" and is_installed()

    @property
    def is_converted(self) -> bool:
        """Whether the image tower was converted for this CPU before, so that `compile` takes less than a second."""
        return self.can_compile and self._folder.is_dir()

    def expect(self, images: int) -> None:
        """Says that about so many images are to be encoded; compiles the image tower where that saves time."""
        if self.compiled is not None or not self.can_compile:
            return
        always = self._wanted == "openvino"
        if always or (images >= _OPENING_PAYS and (images >= _COMPILING_PAYS or self.is_converted)):
            self.compile()

    def compile(self) -> bool:
        """Has the compiled image tower run from now on; False where there is none to be had, and PyTorch runs it."""
        with self._lock:
            if self.compiled is None and self.can_compile:
                folder = self._folder
                if not folder.is_dir():
                    log.info("Compiling the image tower of %s for this CPU, once.", self._name)
                self.compiled = compile_tower(self._model, folder, self.bf16)
                if self.compiled is None:
                    self._wanted = "eager"  # not to be tried again
        return self.compiled is not None

    def use_bf16(self) -> None:
        """Runs the image tower in bf16 from now on: faster where the CPU has it, with other features (cosine 0.99).

        Thresholds that were calibrated in fp32 do not hold any more, and features are cached apart.

        Raises:
            UserError: there is no compiled tower to be had, see `can_compile`.
        """
        self.bf16, self.compiled = True, None
        if not self._on_gpu and not self.compile():
            self.bf16 = False
            raise UserError(
                "bf16 needs a CUDA GPU, or a compiled image tower: on a CPU, with OpenVINO (pip install openvino), and "
                "without LSN_RUNTIME=eager."
            )

    @property
    def _folder(self) -> Path:
        return kept_at(self._weights.hash, digest(image_settings(self._model)))
