"""What the images of a flat folder show: by their names, by Kaggle's file, or by the devkit's."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from scipy.io import loadmat

from lsn_core.data.formats import is_picture
from lsn_core.data.images import is_clutter
from lsn_core.errors import UserError

SOLUTION = "LOC_val_solution.csv"
GROUND_TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_AROUND = 5  # folders above the images in which the files are looked for: Kaggle's is above ILSVRC/Data/CLS-LOC/val
_IN_NAME = re.compile(r"n\d{8}(?!\d)", re.IGNORECASE)
_LOOKED_AT = 100


def pictures_in(folder: Path) -> Iterator[str]:
    """Names of the pictures that lie in a folder itself."""
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if is_picture(entry.name) and not is_clutter(entry.name))


def wnid_in(name: str) -> str:
    """The wnid that a file's name ends with or begins with, as in the Hugging Face Hub's copy; else empty."""
    found = _IN_NAME.findall(Path(name).stem)
    return found[-1].lower() if found else ""


def names_say(folder: Path) -> bool:
    """Whether the images of a flat folder have wnids in their names, by the first that are met."""
    some = list(islice(pictures_in(folder), _LOOKED_AT))
    return bool(some) and all(map(wnid_in, some))


def flat_labels(flat: Path, root: Path) -> dict[str, str]:
    """wnid of each image of a flat folder, by its name without the ending.

    Args:
        flat: the folder.
        root: where the files that say it may lie, too, beside the folder and the folders around it.

    Raises:
        UserError: neither the names nor a file says it, or the file is damaged.
    """
    if names_say(flat):
        return {Path(name).stem: wnid_in(name) for name in pictures_in(flat)}
    places = [*_below(flat), *flat.parents[:_AROUND], *_below(flat.parent), *_below(root)]
    if solution := _find(places, SOLUTION):
        return _of_kaggle(solution)
    truth, meta = _find(places, GROUND_TRUTH), _find(places, META)
    if truth and meta:
        return _of_devkit(truth, meta)
    raise UserError(
        f"{flat} has images in no class folders, and nothing says what they show: put Kaggle's {SOLUTION} beside it, "
        f"or the devkit's {GROUND_TRUTH} and {META}, or sort the images into wnid folders."
    )


def _of_kaggle(path: Path) -> dict[str, str]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    except (KeyError, IndexError, AttributeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} is not as Kaggle has it: columns ImageId and PredictionString, the latter beginning with a wnid, "
            f"were looked for ({error}). Get it again."
        ) from error


def _of_devkit(truth: Path, meta: Path) -> dict[str, str]:
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnid_of = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
        numbers = truth.read_text(encoding="utf-8").split()
        return {f"ILSVRC2012_val_{i:08d}": wnid_of[int(number)] for i, number in enumerate(numbers, 1)}
    except Exception as error:  # loadmat raises many kinds on files that are none of MATLAB's
        raise UserError(
            f"{truth} and {meta} are not as the devkit has them: a number of a synset on each line, and `synsets` with "
            f"ILSVRC2012_ID and WNID, were looked for ({type(error).__name__}: {error}). Get both again."
        ) from error


def _below(folder: Path, deep: int = 2) -> list[Path]:
    """A folder and those in it, but not those of classes."""
    level, found = [folder], [folder]
    for _ in range(deep):
        level = [path for parent in level for path in subfolders(parent) if not _IN_NAME.fullmatch(path.name)]
        found += level
    return found


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, links to folders among them, without clutter; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if not is_clutter(entry.name) and entry.is_dir())
    except OSError:
        return []


def _find(places: Sequence[Path], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)
