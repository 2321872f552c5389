"""What a command does not use, it does not import: each runs in a process of its own, which says what it loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import REPO

# Top-level packages; torch's compiler comes with sympy, a second of every start.
SCORING_NEEDS_NO = (
    *("pyarrow", "matplotlib", "pytorch_grad_cam", "cv2", "pandas", "scipy", "sklearn", "sympy", "torch._dynamo"),
    *("redis", "huey", "gradio", "plotly", "onnx", "onnxruntime", "openvino", "transformers", "ray"),
)
HELP_NEEDS_NO = ("torch", "torchvision", "open_clip", "timm", "numpy", "PIL", "safetensors", *SCORING_NEEDS_NO)
RUN = """
import atexit, sys
atexit.register(lambda: print("\\nLOADED", *sorted(sys.modules)))
"""
COMMAND = RUN + "from lsn_app.console import run; run()"
PROGRAMS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "import": ([RUN + "import lsn_core"], (*HELP_NEEDS_NO, "typer", "tqdm")),
    "help": ([COMMAND, "--help"], HELP_NEEDS_NO),
    "help of a command": ([COMMAND, "train", "--help"], HELP_NEEDS_NO),
    "score": ([COMMAND, "score", "--classes", "dog,cat", "assets/examples/dog.jpg"], SCORING_NEEDS_NO),
    "score, with a detector, a folder": (
        [COMMAND, "score", "--detector", "checkpoints/detectors/imagenette.safetensors", "assets/examples"],
        SCORING_NEEDS_NO,
    ),
}


@pytest.mark.parametrize(("program", "needless"), PROGRAMS.values(), ids=PROGRAMS)
def test_nothing_is_imported_that_is_not_used(program: list[str], needless: tuple[str, ...]) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LSN_")}
    done = subprocess.run(
        [sys.executable, "-c", *program], cwd=REPO, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "lsn_core" in loaded
    assert [name for name in needless if name in loaded] == []
