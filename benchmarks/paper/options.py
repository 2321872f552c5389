"""The command line of `benchmarks.paper`: its options, what they mean, and what cannot be asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.options import whole_numbers
from benchmarks.harness.protocols import IMAGENET
from benchmarks.paper.cells import BACKBONES, METHODS, Cell, choose_cells
from benchmarks.paper.folders import plain
from benchmarks.paper.wanted import Wanted
from lsn_core import UserError, get_preset
from lsn_core.training.presets import PRESETS

OUT = Path("build/paper")


def parser(description: str | None) -> argparse.ArgumentParser:
    """All options."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.paper", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--imagenet", type=Path, help="folder with train and val")
    found.add_argument("--val", type=Path, help="ImageNet's test images, where they lie elsewhere")
    found.add_argument("--ood", type=Path, help="folder with iNaturalist, SUN, Places and Textures (or dtd)")
    found.add_argument("--out", type=Path, default=OUT, help="cells, features, detectors, the page")
    found.add_argument("--classes", default="", help=f"comma-separated, of {', '.join(IMAGENET)}; default: all")
    found.add_argument(
        "--backbones",
        default="",
        help=f"comma-separated, of {', '.join(BACKBONES)}, or any name, or TABLES=NAME; default: all of these",
    )
    found.add_argument("--methods", default="", help="comma-separated rows, such as 'MCM,CoCoOp + LSN'; default: all")
    found.add_argument("--presets", default="", help=f"comma-separated, of {', '.join(PRESETS)}; default: all")
    found.add_argument("--seeds", type=_seeds, default=(0, 1, 2), help="comma-separated, for example 0,1,2")
    found.add_argument("--all", action="store_true", help="cross backbones, classes and methods, beyond the paper's")
    found.add_argument("--shots", type=_count, help="labelled images of each class; default: 128, of ImageNet-1k 64")
    found.add_argument(
        "--cocoop-images", type=_count, help="most test images of either side that CoCoOp is measured on"
    )
    found.add_argument("--device", default="auto")
    found.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the text tower in training")
    found.add_argument("--memory-gib", type=_amount, default=3.0, help="for the activations of a training step")
    found.add_argument("--plan", action="store_true", help="list the cells, their time and memory, and stop")
    found.add_argument("--rates", type=Path, help="with --plan: the rates.json of a run, to plan without images")
    found.add_argument("--shorten", type=_count, help="updates of each kind of prompt: a try, not the paper's numbers")
    found.add_argument("--again", action="store_true", help="try all steps again that were tried before")
    return found


def chosen(options: argparse.Namespace) -> tuple[list[Cell], Wanted]:
    """The cells that are asked for, and how they are measured.

    Raises:
        UserError: there is no such backbone, set of classes, method or preset, or nothing of it is run here.
    """
    names = backbone_names(options.backbones)
    presets = listed(options.presets) or list(PRESETS)
    for preset in presets:
        get_preset(preset)
    cells = choose_cells(
        list(names),
        [classes_named(text) for text in listed(options.classes)],
        [method_named(text) for text in listed(options.methods)],
        presets,
        options.seeds,
        options.all,
    )
    if not (run := [cell for cell in cells if not cell.how.needs]):
        needs = {cell.method: cell.how.needs for cell in cells}
        raise UserError(f"Not run here: {'; '.join(f'{name} needs {why}' for name, why in needs.items())}.")
    wanted = Wanted(
        options.out,
        BACKBONES | names,
        options.device,
        options.shots,
        options.shorten,
        options.cocoop_images,
        options.precision,
        options.memory_gib,
    )
    return run, wanted


def backbone_names(text: str) -> dict[str, str]:
    """What the tables call each backbone -> its name here.

    Args:
        text: comma-separated: the paper's names (ViT-B/16), names that `load_backbone` takes (ViT-B-16:openai), or
            TABLES=NAME (ViT-B/16=ViT-B-16:FILE.safetensors).

    Raises:
        UserError: a name is empty.
    """
    found = {}
    for item in listed(text):
        title, equals, name = item.partition("=")
        if not equals:
            ours = {plain(known): known for known in BACKBONES}
            title = ours.get(plain(item.split(":")[0]), item)
            name = BACKBONES.get(title, item) if ":" not in item else item
        if not title.strip() or not name.strip():
            raise UserError(f"--backbones: {item!r} names no backbone. Write TABLES=NAME: ViT-B/16=ViT-B-16:openai.")
        found[title.strip()] = name.strip()
    return found


def classes_named(text: str) -> str:
    """The paper's name of a set of classes: imagenet100 is ImageNet-100. Raises UserError for an unknown one."""
    known = {plain(name): name for name in IMAGENET} | {"imagenet1000": IMAGENET[-1]}
    if plain(text) not in known:
        raise UserError(f"There are no classes {text!r}. Known ones: {', '.join(IMAGENET)}.")
    return known[plain(text)]


def method_named(text: str) -> str:
    """A row of the tables, however it is spelled: coop+lsn is CoOp + LSN. Raises UserError for an unknown one."""
    if text in METHODS:
        return text
    known = {plain(name): name for name in reversed(METHODS)}  # of VOS and VOS+ the first
    if plain(text) not in known:
        raise UserError(f"There is no method {text!r}. Known ones: {', '.join(METHODS)}.")
    return known[plain(text)]


def listed(text: str) -> list[str]:
    """Parts between commas."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def few_images(counts: dict[str, Sequence[int]], shots: int) -> str:
    """A sentence on classes that have fewer training images than are drawn; empty where all have enough.

    Args:
        counts: setting -> images of each of its classes.
        shots: drawn of each class.
    """
    parts = []
    for name, numbers in counts.items():
        if few := [number for number in numbers if number < shots]:
            parts.append(f"{len(few)} of {len(numbers)} classes of {name} (the fewest: {min(few)})")
    if not parts:
        return ""
    return f"Fewer training images than the {shots} that are drawn: {', '.join(parts)}. All that are there are used."


def _count(text: str) -> int:
    number = _number(int, text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(number)


def _amount(text: str) -> float:
    number = _number(float, text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(dict.fromkeys(whole_numbers(text)))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} are not whole numbers of 0 or more, such as 0,1,2")
    return seeds


def _number(kind: type[int] | type[float], text: str) -> float:
    try:
        return kind(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
