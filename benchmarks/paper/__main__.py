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
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.harness.options import show_progress
from benchmarks.harness.protocols import IMAGENET
from benchmarks.harness.report import RESULTS
from benchmarks.paper.alone import alone_in
from benchmarks.paper.cells import Cell
from benchmarks.paper.folders import Folders
from benchmarks.paper.memory import forget_peak
from benchmarks.paper.options import chosen, few_images, parser
from benchmarks.paper.page import page
from benchmarks.paper.plan import Line, Sizes, plan, plan_table
from benchmarks.paper.progress import Clock, in_words
from benchmarks.paper.rates import Rates, covers, load_rates, measure_rates, save_rates
from benchmarks.paper.record import FAILED, read_all, read_status
from benchmarks.paper.run import FULL, Runner, fail
from benchmarks.paper.wanted import Wanted
from lsn_core import UserError, load_backbone
from lsn_core.atomic import write_bytes
from lsn_core.backbones.loading import resolve_device

PAGE, RATES, KEPT_RATES = "paper.md", "rates.json", "paper_made_up.json"
INTERRUPTED = 130
log = logging.getLogger(__name__)


def main() -> None:
    """Measures the cells that are asked for, or says what they would cost."""
    options = parser(__doc__).parse_args()
    show_progress()
    with ended_by_a_sentence(options.out):
        failed = run(options)
    if failed:
        told = f"{failed} cell{'s' * (failed > 1)} could not be"
        sys.exit(f"{told} counted." if options.plan else f"{told} measured; {options.out / PAGE} says why.")


@contextmanager
def ended_by_a_sentence(out: Path) -> Iterator[None]:
    """What goes wrong, or is interrupted, inside ends the process with a sentence and no traceback.

    Args:
        out: what is written to, for faults of the disk that name no file.
    """
    try:
        yield
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("Interrupted: the same command goes on from here.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # of `--plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(of_disk(error, out))


def run(options: argparse.Namespace) -> int:
    """Does what the command line says; returns how many cells could not be measured."""
    cells, wanted = chosen(options)
    resolve_device(options.device)  # said now rather than of each backbone
    if options.imagenet is None and options.ood is None and options.plan:
        _print_plan(plan(cells, wanted, _given_rates(options), Sizes.real()), "the published sizes of the sets")
        return 0
    if options.rates is not None:
        raise UserError("--rates counts up the published sets: give it with --plan, and without --imagenet and --ood.")
    if options.imagenet is None or options.ood is None:
        raise UserError("Give --imagenet DIR and --ood DIR; or --plan --rates FILE, which needs no images.")
    folders = Folders(options.imagenet, options.ood, options.val)
    for classes in dict.fromkeys(cell.classes for cell in cells):
        folders.split(classes)  # what is missing is said before anything is encoded
    if options.plan:
        return _run(options, wanted, folders, cells)
    with alone_in(wanted.out):
        _tell(folders, wanted, cells)
        return _run(options, wanted, folders, cells)


def of_disk(error: OSError, out: Path) -> str:
    """A sentence on a file that cannot be read or written."""
    where = error.filename or out
    if error.errno in FULL:
        return f"{where}: no space is left. Free some, and the same command goes on from here."
    return f"{where}: {error.strerror or error}. Check the path and who may read and write it."


def _tell(folders: Folders, wanted: Wanted, cells: Sequence[Cell]) -> None:
    """What of the images is not as the paper has it, where that is no reason to stop."""
    shots: dict[int, dict[str, Sequence[int]]] = {}
    for cell in cells:
        if cell.how.learns and (drawn := wanted.config(cell).shots):
            train = folders.split(cell.classes).train
            counts = np.bincount(train.labels, minlength=len(train.class_names)).tolist()
            shots.setdefault(drawn, {})[cell.classes] = counts
    for drawn, counts in shots.items():
        if told := few_images(counts, drawn):
            log.warning("%s", told)
    for told in folders.too_many():
        log.warning("%s", told)


def _run(options: argparse.Namespace, wanted: Wanted, folders: Folders, cells: Sequence[Cell]) -> int:
    rates_file = wanted.out / RATES
    rates = {} if options.again else _kept_rates(rates_file)
    left: dict[str, list[Cell]] = {}
    failed = 0
    for name in dict.fromkeys(cell.backbone for cell in cells):
        members = [cell for cell in cells if cell.backbone == name]
        backbone = None
        forget_peak()  # of the backbone before
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
    sizes = Sizes.of(folders.split(max((cell.classes for cell in cells), key=IMAGENET.index)))
    lines = plan(waiting, wanted, rates, sizes)
    if waiting:
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
            backbone = None
            forget_peak()
            backbone = load_backbone(wanted.names[name], wanted.device)
            Runner(wanted, folders, name, backbone, clock).run(members, lambda: write_page(wanted.out))
    write_page(wanted.out)
    failed += sum(read_status(wanted.out, cell) == FAILED for cell in cells if cell.backbone in left)
    print(f"{len(cells) - failed} of {len(cells)} cells are measured: {wanted.out / PAGE}", flush=True)
    return failed


def write_page(out: Path) -> None:
    """Writes OUT/paper.md from the cells that are there."""
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / PAGE, page(read_all(out)).encode())


def _print_plan(lines: Sequence[Line], sizes: str) -> None:
    total = sum(line.seconds for line in lines)
    print(plan_table(lines))
    print(f"\nAbout {in_words(total)} in all, counted up from tried steps and {sizes}.\n", flush=True)


def _given_rates(options: argparse.Namespace) -> dict[str, Rates]:
    file: Path = options.rates or RESULTS / KEPT_RATES
    if not file.is_file():
        raise UserError(f"There is no {file}. Give --rates, the {RATES} of a run; or images to try steps on.")
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


if __name__ == "__main__":
    main()
