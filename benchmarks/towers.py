"""Every text tower of open_clip, prompted, against the model's own `encode_text`: python -m benchmarks.towers.

Weights are random and tokenizers stand-ins (`stand_ins.py`), as nothing is downloaded: what is measured is whether the
function is the same, which does not depend on them. Architectures of up to `--largest` million parameters run whole,
larger ones and Hugging Face encoders with two layers of text and a tiny image tower ("reduced depth").
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from benchmarks.harness.report import RESULTS, environment, markdown_table, write_results
from benchmarks.stand_ins import stand_in
from lsn_core import UserError
from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.catalogue import facts_of, has_transformers
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens

Row = dict[str, Any]
EXACT = 1e-5
WHOLE, REDUCED, SIZE = "whole", "reduced depth", "not run: size"
TEXTS = ["a photo of a cat", "dog", "not a photo of a very small dog on a green lawn", "a! b", ""]
NAMES = ["cat", "great white shark", "dog"]
_REDUCED_VOCABULARY = 1000
_MODELS_A_PROCESS = 6  # then it ends, and its memory with it


def main() -> None:
    """Runs the architectures one by one, and writes results/towers.json and towers.md; some of them are printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=float, default=200.0, help="million parameters of what runs whole")
    parser.add_argument("--only", default="", help="names that hold this text, in any case; prints their table")
    parser.add_argument("--out", type=Path, help="folder of the results; default: the repository's, of all models")
    options = parser.parse_args()
    try:
        _main(options.only, options.largest, options.out)
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("Interrupted: nothing was written.", file=sys.stderr)
        sys.exit(130)


def _main(only: str, largest: float, out: Path | None) -> None:
    names = [name for name in map(":".join, open_clip.list_pretrained()) if only.lower() in name.lower()]
    if not names:
        raise UserError(f"open_clip has no model whose name holds {only!r}. `lsn doctor --models` lists them.")
    if not has_transformers():
        raise UserError("Many text towers are of the transformers library: pip install 'lsn-core[transformers]'")
    began = time.perf_counter()
    rows = list(measured(names, largest * 1e6))
    if only:
        print(page(rows))
    if only and out is None:
        return  # the repository's table is of all models
    out = out or RESULTS
    results = {"command": "python -m benchmarks.towers", **environment(0), "largest": largest * 1e6}
    results |= {"seconds": round(time.perf_counter() - began), "counts": counts(rows), "rows": rows}
    write_results("towers", results, out)
    (out / "towers.md").write_text(page(rows), encoding="utf-8")


def measured(names: Sequence[str], largest: float) -> Iterator[Row]:
    """A row for each ARCH:TAG; tags of one architecture and activation share a run."""
    known: dict[tuple[str, bool], Row] = {}
    pool = _pool()
    for name in tqdm(names, unit="model"):
        arch, _, tag = name.partition(":")
        facts = facts_of(name)
        quick = bool(open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu", False))
        if (arch, quick) not in known:
            whole = facts.parameters is not None and facts.parameters <= largest
            try:
                known[arch, quick] = pool.submit(run, arch, quick, whole).result()
            except BrokenProcessPool:
                known[arch, quick] = {"depth": SIZE, "error": "the process ended, for want of memory"}
            if len(known) % _MODELS_A_PROCESS == 0 or known[arch, quick]["depth"] == SIZE:
                pool.shutdown()
                pool = _pool()
        yield {"name": name, "parameters": facts.parameters, "promptable": facts.promptable, **known[arch, quick]}
    pool.shutdown()


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), _be_quiet)


def _be_quiet() -> None:
    """Of a process that does nothing else: open_clip says of each model that it has no weights."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def run(arch: str, quick: bool, whole: bool) -> Row:
    """One architecture at random weights: how far its prompted text tower is from its own `encode_text`."""
    row: Row = {"depth": WHOLE if whole else REDUCED, "tower": "", "difference": None, "error": ""}
    try:
        with tempfile.TemporaryDirectory() as folder:
            vocabulary = None if whole else _REDUCED_VOCABULARY
            backbone = stand_in(arch, Path(folder), reduced=not whole, vocabulary=vocabulary, quick_gelu=quick)
            row["tower"] = type(backbone.text).__name__
            row["difference"] = float(f"{difference(backbone):.2e}")
            if whole and not bool(backbone.encode_images([Image.new("RGB", (300, 200), "green")]).isfinite().all()):
                row["error"] = "its image features are not finite"
    except Exception as error:  # any kind, of any library: it is what the table tells
        row["error"] = f"{type(error).__name__}: {error}"[:200]
    row["ran"] = row["difference"] is not None
    row["exact"] = row["ran"] and row["difference"] <= EXACT
    return row


@torch.no_grad()
def difference(backbone: Backbone) -> float:
    """The largest difference in any dimension of text features: of whole texts, and of words in a context's place."""
    found, wanted = backbone.encode_texts(TEXTS), _own(backbone, TEXTS)
    start = backbone.framing.start
    words = backbone.embed_tokens(backbone.tokenize(["a photo of a"]))[0, start : start + 4]
    tower = TextTower(backbone, NameTokens.of(backbone, NAMES, 4))
    sentences = _own(backbone, [f"a photo of a {name}." for name in NAMES])
    prompted = torch.stack(
        [
            tower.encode(words[None, None])[0],  # a context for all classes
            tower.encode(words.expand(1, len(NAMES), -1, -1))[0],  # one for each
        ]
    )
    return max(float((found - wanted).abs().max()), float((prompted.cpu() - sentences).abs().max()))


def _own(backbone: Backbone, texts: Sequence[str]) -> torch.Tensor:
    return F.normalize(backbone.model.encode_text(backbone.tokenize(texts)).float(), dim=-1)


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many tags there are, take learned prompts, ran, ran whole, and are exact."""
    return {
        "tags": len(rows),
        "promptable": sum(row["promptable"] for row in rows),
        "ran": sum(row.get("ran", False) for row in rows),
        "ran_whole": sum(row.get("ran", False) and row["depth"] == WHOLE for row in rows),
        "exact": sum(row.get("exact", False) for row in rows),
    }


def page(rows: Sequence[Row]) -> str:
    """The page about a whole run."""
    total = counts(rows)
    lines = [
        [
            f"`{row['name']}`",
            f"{row['parameters'] / 1e6:,.0f}" if row["parameters"] else "-",
            "yes" if row["promptable"] else "no",
            row.get("tower", ""),
            row["depth"],
            "yes" if row.get("exact") else "no" if row.get("ran") else "-",
            "-" if row.get("difference") is None else f"{row['difference']:.0e}",
            row.get("error", ""),
        ]
        for row in rows
    ]
    header = ["model", "million parameters", "promptable", "text tower", "run", "exact", "largest difference", "error"]
    told = (
        f"Made by `python -m benchmarks.towers`, see its docstring. Of {total['tags']} models {total['promptable']} "
        f"take learned prompts; {total['ran']} ran ({total['ran_whole']} whole, the others at reduced depth), and in "
        f"{total['exact']} of them no dimension of a prompted text's feature is further than {EXACT:.0e} from the "
        "model's own `encode_text`. Weights are random and tokenizers stand-ins, as nothing is downloaded."
    )
    return "\n".join(["# Text towers", "", told, "", markdown_table(header, lines), ""])


if __name__ == "__main__":
    main()
