"""open_clip starts without the transformers library, and gets it where a model asks for it."""

from __future__ import annotations

import subprocess
import sys

from support import REPO

START = "import sys, lsn_core.backbones; assert 'transformers' not in sys.modules; import open_clip, torch\n"
ENCODER = """
from transformers import RobertaConfig
from open_clip.hf_model import HFTextEncoder
config = RobertaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
tower = HFTextEncoder("roberta-base", output_dim=8, config=config, pooler_type="mean_pooler", proj_type="linear")
print(tuple(tower(torch.ones(2, 5, dtype=torch.long)).shape))
"""
CAPTIONS = """
from open_clip import coca_model
try:
    coca_model.CoCa.generate(None, None)
except Exception:
    pass
print(coca_model._has_transformers, coca_model.GENERATION_TYPES["top_k"])
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True)


def test_a_text_tower_of_that_library_gets_it() -> None:
    done = run(START + ENCODER)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "(2, 8)"


def test_captions_are_made_as_ever() -> None:
    assert run(START + CAPTIONS).stdout == run("import open_clip" + CAPTIONS).stdout != ""


def test_without_it_open_clip_says_what_is_missing() -> None:
    without = ENCODER.replace("from transformers import RobertaConfig", "").replace("= RobertaConfig", "= dict")
    done = run(START + "sys.modules['transformers'] = None\n" + without)
    assert done.returncode == 1 and "pip install transformers" in done.stderr
