"""What events of Gradio take and give, by its own types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradio.blocks import Block
from gradio.events import Dependency

Components = list[Block]
"""Inputs or outputs of an event."""
Updates = dict[Block, Any]
"""What an event's function changes: component -> its new value, or what `gr.update` gives."""
UpdatesOrSkip = dict[Any, Any]
"""The same, or what `gr.skip` gives: nothing changes."""
Value = Any
"""Of a component, as its events hand it over."""
Event = Dependency
"""An event that is listened to, to which others are tied by `then` and `success`."""
EventOptions = dict[str, Any]
"""Keyword arguments of a listener."""
UploadedFile = Mapping[str, Any]
"""Gradio's description of an uploaded file: `path`, `orig_name` and more."""
UploadedFiles = Sequence[UploadedFile] | None
"""Of several; None where there are none."""
