"""The Gradio front of lsn_core: wiring and presentation only, one module per tab."""

from lsn_app.page import build_app, launch_options
from lsn_app.settings import Settings

__all__ = ["Settings", "build_app", "launch_options"]
