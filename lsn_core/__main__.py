"""`python -m lsn_core` runs the command line."""

import lsn_core.cli_heatmap
import lsn_core.cli_jobs
import lsn_core.cli_probe
import lsn_core.cli_training  # noqa: F401 - they add their commands
from lsn_core.cli import app

app(prog_name="python -m lsn_core")
