"""`python -m lsn_core` runs the command line."""

from lsn_core.cli.app import build

build()(prog_name="python -m lsn_core")
