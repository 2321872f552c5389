r"""A made-up ImageNet and made-up weights, to try the whole of `benchmarks.paper` where there are no real ones.

    python -m benchmarks.paper.made_up DIR [--classes 1000] [--train 2] [--val 1] [--ood 16] [--weights ViT-B-16,...]

Writes DIR/imagenet/{train,val}/WNID/*.JPEG, DIR/ood/{iNaturalist,SUN,Places,dtd}/images/... and DIR/ARCH.safetensors
with random weights, or DIR/blip, a BLIP of BLIP-base's size. The same arguments give the same files. Numbers measured
on them mean nothing.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.harness.protocols import FILES, imagenet_names
from lsn_core import UserError

SIDE = 48  # pixels of an image
GRID = 6  # patches of colour on a side
BLIP = "blip"
BLIP_SIDE = 384  # pixels of a picture
BLIP_CONFIG = {part: {"num_attention_heads": 12} for part in ("text_config", "vision_config")}
"""What BLIP-base has otherwise than transformers' defaults."""
BERT_WORDS = 30524


def main() -> None:
    """Writes the tree and the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=1000, help="wnid folders; the paper's 10, 20 and 100 come first")
    parser.add_argument("--train", type=int, default=2, help="training images of each class")
    parser.add_argument("--val", type=int, default=1, help="test images of each class")
    parser.add_argument("--ood", type=int, default=16, help="images of each OOD set")
    parser.add_argument(
        "--weights",
        default="",
        help=f"random weights: architectures of open_clip and {BLIP!r}, comma-separated",
    )
    options = parser.parse_args()
    try:
        write_tree(options.folder, wnids(options.classes), options.train, options.val, options.ood)
        for architecture in filter(None, map(str.strip, options.weights.split(","))):
            print(f"{architecture}: {write_weights(architecture, options.folder)}", flush=True)
    except (UserError, OSError) as error:
        sys.exit(str(error))


def wnids(count: int) -> list[str]:
    """So many of ImageNet's 1,000 classes, those of the paper's subsets first. Raises UserError for more."""
    if not 1 <= count <= 1000:
        raise UserError(f"--classes must be from 1 to 1000, not {count}.")
    subsets = json.loads((FILES / "imagenet_subsets.json").read_text())
    paper = [wnid for name in ("ImageNet-10", "ImageNet-20", "ImageNet-100") for wnid in subsets[name]]
    return list(dict.fromkeys([*paper, *imagenet_names()]))[:count]


def write_tree(folder: Path, classes: Sequence[str], train: int, val: int, ood: int) -> None:
    """ImageNet's layout with `train` and `val` images of each class, and the OOD sets' with `ood` images each."""
    for split, count in (("train", train), ("val", val)):
        for wnid in classes:
            write_images(folder / "imagenet" / split / wnid, f"{split}/{wnid}", wnid, count, "JPEG")
    for name in ("iNaturalist", "SUN", "Places"):
        write_images(folder / "ood" / name / "images", name, name, ood, "jpg")
    for texture, count in (("banded", ood - ood // 2), ("woven", ood // 2)):
        write_images(folder / "ood" / "dtd" / "images" / texture, f"dtd/{texture}", texture, count, "jpg")


def write_images(folder: Path, name: str, kind: str, count: int, suffix: str) -> None:
    """Images that share the colours of their kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(pictures(name, kind, count)):
        (folder / f"{folder.name}_{number}.{suffix}").write_bytes(data)


def pictures(name: str, kind: str, count: int) -> Iterator[bytes]:
    """JPEG files: a grid of colours drawn from the kind's name, with noise drawn from the images' own."""
    colours = np.random.default_rng(zlib.crc32(kind.encode())).integers(0, 256, (GRID, GRID, 3))
    random = np.random.default_rng(zlib.crc32(name.encode()))
    for _ in range(count):
        noisy = np.clip(colours + random.normal(0, 30, colours.shape), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
        yield file.getvalue()


def write_weights(architecture: str, folder: Path) -> str:
    """Random weights of one of open_clip's architectures, or of BLIP; returns the name by which they are loaded.

    Raises:
        UserError: there is no such architecture, or the library that BLIP needs is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if architecture == BLIP:
        write_blip(folder / BLIP)
        return f"blip:{folder / BLIP}"
    if architecture not in open_clip.list_models():
        raise UserError(f"open_clip has no architecture {architecture!r}, and it is not {BLIP!r}.")
    path = folder / f"{architecture}.safetensors"
    model = open_clip.create_model(architecture)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    # OpenAI's own have this activation, and a file does not tell.
    quick = f"{architecture}-quickgelu"
    return f"{quick if quick in open_clip.list_models() else architecture}:{path}"


def write_blip(folder: Path) -> None:
    """A BLIP of BLIP-base's size (ViT-B/16 at 384 pixels, BERT-base) with random weights, as transformers saves it."""
    if find_spec("transformers") is None:
        raise UserError("A BLIP is made with the transformers library: pip install 'lsn-core[transformers]'")
    from transformers import BlipConfig, BlipForImageTextRetrieval

    words = vocabulary()
    ids = {"pad_token_id": 0, "sep_token_id": words.index("[SEP]"), "bos_token_id": words.index("[DEC]")}
    config = BlipConfig(
        text_config={"vocab_size": BERT_WORDS, **ids, **BLIP_CONFIG["text_config"]},
        vision_config={"image_size": BLIP_SIDE, **BLIP_CONFIG["vision_config"]},
    )
    BlipForImageTextRetrieval(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    size = {"height": BLIP_SIDE, "width": BLIP_SIDE}
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))


def vocabulary() -> list[str]:
    """Word pieces that write ImageNet's names about as long as BERT's do: their words whole, others by letters."""
    letters = [chr(code) for code in range(33, 127)]
    words = [word for name in imagenet_names().values() for word in re.findall(r"[a-z]+", name.lower())]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", *letters, *words]
    pieces += ["a", "photo", "of", "the", "no", "not", *(f"##{letter}" for letter in letters)]
    return list(dict.fromkeys(pieces))


if __name__ == "__main__":
    main()
