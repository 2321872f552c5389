"""What events of Gradio take and give, by its own types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradio.blocks import Block
from gradio.events import Dependency

Components = list[Block]
"""Outputs of an event."""
Inputs = set[Block]
"""Inputs of an event; its function takes them as `Values`."""
Values = dict[Block, Any]
"""What an event hands over: component -> its value."""
Updates = dict[Block, Any]
"""What an event's function changes: component -> its new value, or what `gr.update` gives."""
UpdatesOrSkip = dict[Any, Any]
"""The same, or what `gr.skip` gives: nothing changes."""
Event = Dependency
"""An event that is listened to, to which others are tied by `then` and `success`."""
EventOptions = dict[str, Any]
"""Keyword arguments of a listener."""
UploadedFile = Mapping[str, Any]
"""Gradio's description of an uploaded file: `path`, `orig_name` and more."""
UploadedFiles = Sequence[UploadedFile] | None
"""Of several; None where there are none."""
