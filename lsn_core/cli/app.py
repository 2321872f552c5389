"""The command line: its commands in one list, and what all of them do alike."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer

from lsn_core import __version__
from lsn_core.cli import compile, doctor, evaluate, export, features, heatmap, hub, jobs, probe, score, train, watch
from lsn_core.cli.cluster import CommandWithAddress
from lsn_core.cli.output import echo
from lsn_core.errors import UserError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

COMMANDS: tuple[Callable[..., None], ...] = (
    score.score,
    watch.watch,
    probe.probe,
    heatmap.heatmap,
    train.train,
    evaluate.evaluate,
    features.features,
    export.export,
    hub.push,
    hub.pull,
    jobs.worker,
    compile.compile,
    doctor.doctor,
)
"""`python -m lsn_core NAME`, by the names of the functions."""

JOB_COMMANDS: tuple[Callable[..., None], ...] = (
    jobs.submit,
    jobs.list_jobs,
    jobs.show,
    jobs.stop,
    jobs.resume,
    jobs.delete,
)
"""`python -m lsn_core jobs NAME`."""


def plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """A user's mistake, or what the system refuses, ends a command with one sentence and exit code 2, no traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            echo(f"Error: {error}", err=True)
            raise typer.Exit(2) from error
        except BrokenPipeError:  # whoever reads standard output has gone: Typer ends the command
            raise
        except OSError as error:
            logger.info("where it was refused:", exc_info=True)
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            echo(f"Error: {where}{error.strerror or error}. Check paths, permissions and room on the disk.", err=True)
            raise typer.Exit(2) from error

    return run


def build(commands: Sequence[Callable[..., None]] = COMMANDS) -> typer.Typer:
    """The command line of these commands, and of those of jobs."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Out-of-distribution detection with CLIP's positive and negative prompts (LSN).",
    )
    app.callback()(main)
    for command in commands:
        app.command(cls=CommandWithAddress)(plain_errors(command))
    job_app = typer.Typer(no_args_is_help=True, help="Training jobs: start, see, stop, resume and delete them.")
    for command in JOB_COMMANDS:
        job_app.command(command.__name__.removesuffix("_jobs"))(plain_errors(command))
    app.add_typer(job_app, name="jobs")
    return app


def show_version(asked: bool) -> None:
    """Prints the version and ends."""
    if asked:
        typer.echo(__version__)
        raise typer.Exit


def main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all commands."""
    handlers = [_StandardError()]
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s", handlers=handlers
    )
    if not verbose:
        logging.getLogger().addFilter(_quiet)
        # open_clip and the hub client announce every step on the root logger.
        logging.getLogger("httpx").setLevel(logging.ERROR)


class _StandardError(logging.Handler):
    """Writes to what is standard error at the time, whatever is in a name of a file."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record).encode("utf-8", "backslashreplace").decode(), err=True)


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or record.name.startswith("lsn_core")
