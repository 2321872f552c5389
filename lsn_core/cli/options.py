"""The command line: what all commands share, `score` and `doctor`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.detector.detector import Detector

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Out-of-distribution detection with CLIP's positive and negative prompts (LSN).",
)

BackboneOption = Annotated[
    str | None,
    typer.Option(
        envvar="LSN_BACKBONE",
        help="embedded, ARCH:TAG (such as ViT-B-16:openai), hf-hub:ORG/REPO or local-dir:PATH. "
        "Default: the detector's own, or embedded.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]
DATA_HELP = "A folder of class folders, a zip of one, or a Parquet file with image and label columns."


def plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """A user's mistake ends the command with one sentence and exit code 2, not with a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(2) from error

    return run


@app.callback()
def main(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False) -> None:
    """Options of all commands."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    if not verbose:
        logging.getLogger().addFilter(_quiet)
        # open_clip and the hub client announce every step on the root logger.
        logging.getLogger("httpx").setLevel(logging.ERROR)


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or record.name.startswith("lsn_core")


def open_judge(detector: Path | None, classes: str | None, backbone: str | None, device: str) -> Detector:
    """The detector of a file, or a zero-shot one of class names 'a,b,c'; a UserError unless one of them is given."""
    from lsn_core.backbones.loading import EMBEDDED, load_backbone
    from lsn_core.detector.detector import Detector

    if (detector is None) == (classes is None):
        raise UserError("Give either --detector FILE or --classes a,b,c (one of the two).")
    if detector is not None:
        return Detector.load(detector, load_backbone(backbone, device) if backbone else None)
    return Detector.zero_shot(load_backbone(backbone or EMBEDDED, device), split_names(classes or ""))


def split_names(text: str) -> list[str]:
    """Class names of 'a, b, c' or of one name a line; empty ones are left out."""
    return [name.strip() for name in text.replace("\n", ",").split(",") if name.strip()]
