"""The Gradio front of lsn_core: wiring and presentation only, one module per tab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsn_app.page import build_app, launch_options
    from lsn_app.settings import Settings

__all__ = ["Settings", "build_app", "launch_options"]


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: `server` says where Gradio may write before Gradio is imported.
    if name == "Settings":
        from lsn_app.settings import Settings

        return Settings
    if name in __all__:
        from lsn_app import page

        return getattr(page, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
