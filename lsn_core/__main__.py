"""`python -m lsn_core` runs the command line."""

from lsn_core.cli import app

app(prog_name="python -m lsn_core")
