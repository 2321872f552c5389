r"""The paper's large-scale tables at full size, by one command.

    python -m benchmarks.paper --imagenet DIR --ood DIR --out DIR            # everything the paper has a number for
    python -m benchmarks.paper ... --plan                                    # what that would cost, and no more
    python -m benchmarks.paper ... --classes ImageNet-100 --methods "MCM,CoOp,CoOp + LSN" --presets paper --seeds 0
    python -m benchmarks.paper --plan --rates FILE                           # the cost on another machine, no images

ImageNet lies in `train` and `val`, each of wnid folders (a flat `val` needs Kaggle's LOC_val_solution.csv or the
devkit); the OOD sets are those of MOS: iNaturalist, SUN, Places and dtd or Textures. Images are encoded once for each
backbone. Each cell is a JSON file in OUT/cells; a run that is started again skips what is there, goes on with a
training or a scoring that was interrupted, and measures anew what is damaged or was made with other settings.
OUT/paper.md has the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.options import show_progress, whole_numbers
from benchmarks.harness.protocols import IMAGENET
from benchmarks.harness.report import RESULTS
from benchmarks.paper.cells import BACKBONES, Cell, choose_cells
from benchmarks.paper.folders import Folders, plain
from benchmarks.paper.page import page
from benchmarks.paper.plan import Line, Sizes, plan, plan_table
from benchmarks.paper.progress import Clock, in_words
from benchmarks.paper.rates import Rates, covers, load_rates, measure_rates, save_rates
from benchmarks.paper.record import FAILED, read_all, read_status
from benchmarks.paper.run import Runner, fail
from benchmarks.paper.wanted import Wanted
from lsn_core import UserError, load_backbone
from lsn_core.atomic import write_bytes
from lsn_core.training.presets import PRESETS

PAGE, RATES = "paper.md", "rates.json"
SIZE = {"ImageNet-10": 1, "ImageNet-20": 2, "ImageNet-100": 3, "ImageNet-1k": 4}


def main() -> None:
    """Measures the cells that are asked for, or says what they would cost."""
    options = _parser().parse_args()
    show_progress()
    try:
        failed = run(options)
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Interrupted: the same command goes on from here.")
    if failed:
        sys.exit(f"{failed} cells could not be measured; {options.out / PAGE} says why.")


def run(options: argparse.Namespace) -> int:
    """Does what the command line says; returns how many cells could not be measured."""
    names = backbone_names(options.backbones)
    cells = choose_cells(
        list(names) if options.backbones else [],
        [classes_named(text) for text in _listed(options.classes)],
        _listed(options.methods),
        _listed(options.presets),
        options.seeds,
        options.all,
    )
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
    for cell in cells:
        wanted.config(cell)  # an unknown preset is said now
    cells = [cell for cell in cells if not cell.how.needs]
    if options.imagenet is None and options.ood is None and options.plan:
        _print_plan(plan(cells, wanted, _given_rates(options), Sizes.real()), "the published sizes of the sets")
        return 0
    if options.imagenet is None or options.ood is None:
        raise UserError("Give --imagenet DIR and --ood DIR; or --plan --rates FILE, which needs no images.")
    folders = Folders(options.imagenet, options.ood, options.val)
    for classes in dict.fromkeys(cell.classes for cell in cells):
        folders.split(classes)  # what is missing is said before anything is encoded
    return _run(options, wanted, folders, cells)


def _run(options: argparse.Namespace, wanted: Wanted, folders: Folders, cells: Sequence[Cell]) -> int:
    rates_file = wanted.out / RATES
    rates = {} if options.again else _kept_rates(rates_file)
    left: dict[str, list[Cell]] = {}
    failed = 0
    for name in dict.fromkeys(cell.backbone for cell in cells):
        members = [cell for cell in cells if cell.backbone == name]
        try:
            backbone = load_backbone(wanted.names[name], wanted.device)
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed += len(members)
            if not options.plan:
                fail(wanted.out, members, f"a backbone {wanted.names[name]}: {error}")
            continue
        left[name] = members if options.plan else Runner(wanted, folders, name, backbone, Clock({}, 0)).left(members)
        known = rates.get(name)
        if known is not None and known.device != str(backbone.device):
            known = None
        if untried := [cell for cell in left[name] if known is None or not covers(known, cell, wanted)]:
            found = measure_rates(backbone, wanted, untried, next(iter(folders.ood.values())))
            rates[name] = found if known is None else _joined(known, found)
            save_rates(rates_file, rates)
    waiting = [cell for members in left.values() for cell in members]
    sizes = Sizes.of(folders.split(max((cell.classes for cell in cells), key=SIZE.__getitem__)))
    lines = plan(waiting, wanted, rates, sizes)
    _print_plan(lines, "the images that are there")
    if options.plan:
        return failed
    done = len(cells) - failed - len(waiting)
    clock = Clock(
        {line.cells[0].training: (line.encoding, line.training + line.scoring) for line in lines},
        len(cells) - failed,
        done,
    )
    for name, members in left.items():
        if members:
            backbone = load_backbone(wanted.names[name], wanted.device)
            Runner(wanted, folders, name, backbone, clock).run(members)
            write_page(wanted.out)
    write_page(wanted.out)
    return failed + sum(read_status(wanted.out, cell) == FAILED for cell in cells if cell.backbone in left)


def write_page(out: Path) -> None:
    """Writes OUT/paper.md from the cells that are there."""
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / PAGE, page(read_all(out)).encode())


def backbone_names(text: str) -> dict[str, str]:
    """What the tables call each backbone -> its name here.

    Args:
        text: comma-separated: the paper's names (ViT-B/16), names that `load_backbone` takes (ViT-B-16:openai), or
            TABLES=NAME (ViT-B/16=ViT-B-16:FILE.safetensors).
    """
    found = {}
    for item in _listed(text):
        title, equals, name = item.partition("=")
        if not equals:
            ours = {plain(known): known for known in BACKBONES}
            title = ours.get(plain(item.split(":")[0]), item)
            name = BACKBONES.get(title, item) if ":" not in item else item
        found[title.strip()] = name.strip()
    return found


def classes_named(text: str) -> str:
    """The paper's name of a set of classes: imagenet100 is ImageNet-100. Raises UserError for an unknown one."""
    known = {plain(name): name for name in IMAGENET} | {"imagenet1000": IMAGENET[-1]}
    if plain(text) not in known:
        raise UserError(f"There are no classes {text!r}. Known ones: {', '.join(IMAGENET)}.")
    return known[plain(text)]


def _print_plan(lines: Sequence[Line], sizes: str) -> None:
    total = sum(line.seconds for line in lines)
    print(plan_table(lines))
    print(f"\nAbout {in_words(total)} in all, counted up from tried steps and {sizes}.\n", flush=True)


def _given_rates(options: argparse.Namespace) -> dict[str, Rates]:
    file: Path = options.rates or RESULTS / "gpu.json"
    if not file.is_file():
        raise UserError(f"There are no rates in {file}. Give --rates, the {RATES} of a run; or images to try steps on.")
    try:
        return load_rates(file)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file} holds no rates as a run writes them to OUT/{RATES} ({error}).") from error


def _kept_rates(file: Path) -> dict[str, Rates]:
    try:
        return load_rates(file)
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _joined(known: Rates, found: Rates) -> Rates:
    """The latest measurements, and earlier ones of steps that were not tried now."""
    values = asdict(found)
    for part in ("steps", "activations", "score", "conditional"):
        values[part] = getattr(known, part) | values[part]
    values["fit"] = found.fit or known.fit
    return Rates(**values)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--imagenet", type=Path, help="folder with train and val")
    parser.add_argument("--val", type=Path, help="ImageNet's test images, where they lie elsewhere")
    parser.add_argument("--ood", type=Path, help="folder with iNaturalist, SUN, Places and Textures (or dtd)")
    parser.add_argument("--out", type=Path, default=Path("build/paper"), help="cells, features, detectors, the page")
    parser.add_argument("--classes", default="", help=f"comma-separated, of {', '.join(IMAGENET)}; default: all")
    parser.add_argument(
        "--backbones",
        default="",
        help=f"comma-separated, of {', '.join(BACKBONES)}, or any name, or TABLES=NAME; default: all of these",
    )
    parser.add_argument("--methods", default="", help="comma-separated rows, such as 'MCM,CoCoOp + LSN'; default: all")
    parser.add_argument("--presets", default=",".join(PRESETS), help="comma-separated; default: %(default)s")
    parser.add_argument("--seeds", type=whole_numbers, default=(0, 1, 2), help="comma-separated, for example 0,1,2")
    parser.add_argument("--all", action="store_true", help="cross backbones, classes and methods, beyond the paper's")
    parser.add_argument("--shots", type=int, help="labelled images of each class; default: 128, of ImageNet-1k 64")
    parser.add_argument("--cocoop-images", type=int, help="most test images of either side that CoCoOp is measured on")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the text tower in training")
    parser.add_argument("--memory-gib", type=float, default=3.0, help="for the activations of a training step")
    parser.add_argument("--plan", action="store_true", help="list the cells, their time and memory, and stop")
    parser.add_argument("--rates", type=Path, help="with --plan: the rates.json of a run, to plan without images")
    parser.add_argument("--shorten", type=int, help="updates of each kind of prompt: a try, not the paper's numbers")
    parser.add_argument("--again", action="store_true", help="try all steps again that were tried before")
    return parser


if __name__ == "__main__":
    main()
