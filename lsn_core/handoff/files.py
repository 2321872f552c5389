"""Writes the files of a labelling tool when all verdicts are there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from lsn_core.atomic import check_writable, not_written, write_bytes
from lsn_core.data.printable import printable
from lsn_core.errors import UserError
from lsn_core.handoff import coco, fiftyone, label_studio
from lsn_core.handoff.verdict import Origin, Verdict
from lsn_core.verdicts import Writer


class Format(str, Enum):
    """Tools that verdicts can be handed to."""

    LABEL_STUDIO = "label-studio"
    FIFTYONE = "fiftyone"
    COCO = "coco"


def common_folder(names: Sequence[str], given: Sequence[str | os.PathLike[str]] = ()) -> Path:
    """The folder, absolute, that all these photos are in.

    Args:
        names: of the photos; each must be a file of that name.
        given: photos that were named one by one: those may be missing, and get a verdict that says so.

    Raises:
        UserError: one is inside an archive or a table, where no labelling tool can open it, or none is there.
    """
    own = {printable(os.fspath(path)) for path in given}
    files = [name for name in names if os.path.isfile(name)]
    for name in set(names).difference(files, own):
        raise UserError(
            f"{name} is no file of its own, and labelling tools open photos as files. "
            "Unpack archives and tables into a folder first, and give that."
        )
    if not files:
        raise UserError("None of the photos is there. Check the paths.")
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(name)) for name in files]))


def check_target(form: Format, path: Path | None, prefix: str | None) -> None:
    """Whether this tool's files can be written there, told before any photo is scored.

    Raises:
        UserError: no path, one of another kind, a folder that is missing or not empty, or a prefix that does not serve.
    """
    if path is None:
        wanted = "a new folder" if form is Format.FIFTYONE else "a .json file"
        raise UserError(f"--format {form.value} needs --out: {wanted}.")
    if form is Format.FIFTYONE:
        if path.suffix or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise UserError(f"{path}: a dataset for FiftyOne is a folder. Name one with --out that is new or empty.")
        if prefix is not None:
            raise UserError("--image-prefix does not serve FiftyOne, which opens photos by their paths. Leave it out.")
    elif path.suffix.lower() != ".json":
        raise UserError(f"{path}: --format {form.value} writes JSON. Give --out a name that ends in .json.")
    check_writable(path if form is not Format.FIFTYONE else path / "samples.json" if path.is_dir() else path)


@contextmanager
def open_handoff(form: Format, path: Path, origin: Origin) -> Iterator[Writer]:
    """Takes lines of `score --json`, and writes the tool's files at the end; none where something fails before.

    Lines with an error are left out. Verdicts wait in memory, about a kilobyte a photo.

    Args:
        path: a .json file, or FiftyOne's folder. Label Studio's labelling interface is written beside it, as .xml.

    Raises:
        UserError: they cannot be written.
    """
    verdicts: list[Verdict] = []

    def write(line: Mapping[str, Any]) -> None:
        if line["error"] is None:
            verdicts.append(Verdict.of(Path(os.path.abspath(line["file"])), line))

    yield write
    for target, text in _FILES[form](path, verdicts, origin).items():
        try:
            target.parent.mkdir(exist_ok=True)
            write_bytes(target, text.encode())
        except OSError as error:
            raise not_written(target, error) from error


def _label_studio(path: Path, verdicts: Sequence[Verdict], origin: Origin) -> dict[Path, str]:
    config = label_studio.labelling_config(origin.class_names)
    return {path.with_suffix(".xml"): config, path: _json(label_studio.tasks(verdicts, origin))}


def _fiftyone(path: Path, verdicts: Sequence[Verdict], origin: Origin) -> dict[Path, str]:
    contents = {"metadata.json": fiftyone.metadata(origin), "samples.json": fiftyone.samples(verdicts)}
    return {path / name: _json(content) for name, content in contents.items()}


def _coco(path: Path, verdicts: Sequence[Verdict], origin: Origin) -> dict[Path, str]:
    return {path: _json(coco.document(verdicts, origin))}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


_FILES: dict[Format, Callable[[Path, Sequence[Verdict], Origin], dict[Path, str]]] = {
    Format.LABEL_STUDIO: _label_studio,
    Format.FIFTYONE: _fiftyone,
    Format.COCO: _coco,
}
