"""The library's face: these names, found where they say, and loaded only when they are asked for."""

from __future__ import annotations

import subprocess
import sys

from support import REPO

import lsn_core

FACE = [
    "Backbone",
    "Detector",
    "Prediction",
    "TrainConfig",
    "UserError",
    "evaluate",
    "examples",
    "explain",
    "extract_features",
    "get_preset",
    "load_backbone",
    "load_data",
    "train",
]


def test_the_face_is_these_names_and_each_is_there() -> None:
    assert lsn_core.__all__ == FACE and set(FACE) <= set(dir(lsn_core))
    for name in FACE:
        assert getattr(lsn_core, name).__name__ == name and getattr(lsn_core, name).__doc__


def test_neither_the_library_nor_the_list_of_commands_loads_torch() -> None:
    script = "import sys, lsn_core, lsn_core.cli.app as cli; cli.build(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_all_commands_are_listed() -> None:
    from lsn_core.cli.app import COMMANDS, JOB_COMMANDS

    assert [command.__name__ for command in COMMANDS] == [
        "score",
        "watch",
        "probe",
        "heatmap",
        "train",
        "evaluate",
        "features",
        "export",
        "push",
        "pull",
        "worker",
        "compile",
        "doctor",
    ]
    assert len(JOB_COMMANDS) == 6
