"""A quick start changes nothing: the same weights, and torch's compiler where it is asked for."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from support import REPO

from lsn_core.backbones.initialisation import NoRandomWeights
from lsn_core.backbones.loading import load_backbone
from lsn_core.shipped import EMBEDDED_DIR


def test_every_weight_is_that_of_the_file() -> None:
    state = load_backbone("embedded", "cpu").model.state_dict()
    file = load_file(EMBEDDED_DIR / "open_clip_model.safetensors")
    assert set(file) == set(state)
    assert [name for name, value in file.items() if not torch.equal(value.to(state[name].dtype), state[name])] == []


def test_what_no_file_has_is_built_as_ever() -> None:
    """Masks and other buffers that are computed, not loaded, are the same with and without random weights."""
    with NoRandomWeights():
        quick = open_clip.create_model("ViT-B-32")
    usual = open_clip.create_model("ViT-B-32")
    buffers = dict(usual.named_buffers())
    assert buffers and all(torch.equal(value, buffers[name]) for name, value in quick.named_buffers())
    assert float(usual.visual.conv1.weight.detach().std()) > 0


@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (0.5, 0.6)], ids=str)
def test_drawing_until_all_is_within_bounds_comes_to_an_end(bounds: tuple[float, float]) -> None:
    filled = torch.full((1000,), 7.0)  # what is in memory that nobody has filled yet may be anything
    with NoRandomWeights():
        assert torch.nn.init.trunc_normal_(filled, 0.0, 1.0, *bounds) is filled


def test_numbers_are_random_again_afterwards() -> None:
    with NoRandomWeights():
        assert torch.nn.init.normal_(torch.zeros(3)).tolist() == [0, 0, 0]
    assert torch.nn.init.normal_(torch.zeros(3)).count_nonzero() == 3


def test_a_model_that_ships_asks_for_no_name_on_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load_backbone("embedded", "cpu")


SCRIPT = """
import json, sys, torch
import lsn_core.backbones
told = {"before": "torch._dynamo" in sys.modules, "left": "torch._dynamo.utils" in sys.modules}
from torchvision.ops import roi_align
boxes = torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]])
told["aligned"] = roi_align(torch.ones(1, 1, 4, 4), boxes, 2).tolist()
module = sys.modules["torchvision.ops.roi_align"]
told["supported"] = module.is_compile_supported("cpu")
import torch._dynamo.utils as real
told["same"] = told["supported"] == real.is_compile_supported("cpu")
from timm.models import naflexvit
ropes = [value for value in vars(naflexvit).values() if isinstance(value, type) and hasattr(value, "__next__")]
told["ropes"] = len(ropes)
told["disabled"] = all(rope.__next__.__name__ == "__next__" for rope in ropes)
told["again"] = torch.compiler.disable.__module__
double = torch.compile(lambda x: x * 2, backend="eager")
told["compiled"] = double(torch.ones(1)).item()
print(json.dumps(told))
"""


def test_the_compiler_comes_when_it_is_asked() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("ropes") > 0
    assert told == {
        "before": False,
        "left": False,
        "aligned": [[[[1.0, 1.0], [1.0, 1.0]]]],
        "supported": told["supported"],
        "same": True,
        "disabled": True,
        "again": "torch.compiler",
        "compiled": 2.0,
    }


def test_the_place_of_the_compiler_gives_way_to_whoever_wants_more_of_it() -> None:
    script = (
        "import sys, torch\nfrom lsn_core.backbones import quick_import\n"
        "for name in [n for n in sys.modules if n.split('.')[0] in ('torchvision', 'timm')]: del sys.modules[name]\n"
        "with quick_import._stand_in():\n    from torch._dynamo.utils import counters\n"
        "import torch._dynamo.utils as real\nprint(real.counters is counters)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_a_torchvision_for_another_torch_is_said() -> None:
    script = (
        "import sys\n"
        "class Mismatch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torchvision':\n"
        "            raise RuntimeError('operator torchvision::nms does not exist')\n"
        "sys.meta_path.insert(0, Mismatch())\n"
        "from lsn_app.console import run\nrun()"
    )
    command = [sys.executable, "-c", script, "score", "--classes", "a,b", "assets/examples/dog.jpg"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "does not fit torch" in done.stderr and "pip install" in done.stderr
