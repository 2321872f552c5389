"""The Gradio front of lsn_core: wiring and presentation only, one module per tab."""

from lsn_app.page import Settings, build_app, launch_options

__all__ = ["Settings", "build_app", "launch_options"]
