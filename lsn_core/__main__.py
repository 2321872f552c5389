"""`python -m lsn_core` runs the command line."""

import lsn_core.cli.heatmap
import lsn_core.cli.jobs
import lsn_core.cli.probe
import lsn_core.cli.train  # noqa: F401 - they add their commands
from lsn_core.cli.options import app

app(prog_name="python -m lsn_core")
