"""The command `lsn` of an installed package: the library's commands, and `lsn app`."""

from __future__ import annotations

from importlib.util import find_spec

from lsn_core.cli.app import COMMANDS, build
from lsn_core.errors import UserError


def app() -> None:
    """Serve the page on http://127.0.0.1:7860, with a worker for training jobs beside it."""
    missing = [name for name in ("gradio", "plotly") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"The page needs packages that are not installed: {', '.join(missing)}. "
            "Install the wheel's or the repository's extra 'app', as in: pip install 'FILE.whl[app]'."
        )
    from lsn_app.server import main

    main()


def run() -> None:
    """Runs the command line."""
    build((*COMMANDS, app))(prog_name="lsn")
