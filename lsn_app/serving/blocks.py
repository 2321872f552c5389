"""Gradio's Blocks as a public server needs them: checked inputs, little kept of a caller, and work that is counted."""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import Any

import gradio as gr
from gradio.exceptions import Error
from gradio.state_holder import StateHolder

from lsn_app.endpoints import complete, uploads_only
from lsn_app.serving.mcp_tools import guard_tools
from lsn_app.serving.metrics import Metrics
from lsn_app.serving.sessions import Sessions
from lsn_core import UserError

log = logging.getLogger("lsn_app.requests")

_LONGEST = 300  # letters of a message that holds what was sent
_UNFIT = (
    "What was sent does not fit what this page asks for. Reload the page; a program finds what each endpoint takes "
    "under 'Use via API'."
)
_FAILED = "The server could not do this. Reload the page and try again; if it stays so, its log says more."


def _is_sentence(text: str) -> bool:
    return len(text) < _LONGEST and text.endswith(".") and "<" not in text


class GuardedBlocks(gr.Blocks):
    """Blocks that take arguments that fit and uploaded files only.

    Attributes:
        about: what a preview of a link to the page says.
        picture: path of the picture beside it.
        address: where the page is served, as far as that is known.
        draining: the server is being stopped; nothing new is begun.
        metrics: numbers for operators, where they are kept.
        inside: a secret by which requests are known that the MCP server sends to its own app for a caller.
    """

    about = ""
    picture = ""
    address = ""
    draining = False
    metrics: Metrics | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.inside = secrets.token_hex(16)
        super().__init__(*args, **kwargs)

    @property
    def state_holder(self) -> StateHolder:
        """What is kept of visitors."""
        return self._holder

    @state_holder.setter
    def state_holder(self, holder: StateHolder) -> None:  # Gradio sets it when it begins to serve
        Sessions.take_over(holder)
        self._holder = holder

    @property
    def mcp_server_obj(self) -> Any:
        """Gradio's MCP server, or None."""
        return self._mcp_server

    @mcp_server_obj.setter
    def mcp_server_obj(self, server: Any) -> None:  # Gradio sets it when it begins to serve
        if server is not None:
            guard_tools(server, self.inside)
        self._mcp_server = server

    def get_config_file(self) -> Any:
        """What the browser gets; with it, what a preview of a link says."""
        config: dict[str, Any] = dict(super().get_config_file())
        return config | {"simple_description": self.about, "thumbnail": f"{self.address}{self.picture}"}

    def at_work(self) -> list[Any]:
        """Gradio's events that wait or run."""
        queue = self._queue
        waiting = [event for line in queue.event_queue_per_concurrency_id.values() for event in line.queue]
        return waiting + [event for job in queue.active_jobs if job for event in job]

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """The arguments of a function, or a sentence about what is wrong with them."""
        try:
            if block_fn.api_visibility == "public":
                inputs = complete(block_fn.fn, inputs)
            # security: Gradio would download an address given in the place of an uploaded file, and read a bare path.
            return await super().preprocess_data(block_fn, uploads_only(inputs), *args, **kwargs)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:
            if isinstance(error, Error) and _is_sentence(str(error)):
                error.print_exception = False
                raise
            log.info("arguments that do not fit: %s", repr(error)[:_LONGEST])  # one line, whatever was sent
            raise gr.Error(_UNFIT, print_exception=False) from error

    async def process_api(self, block_fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Works on a request, and counts it."""
        begun, outcome = time.monotonic(), "error"
        try:
            answer = await super().process_api(block_fn, *args, **kwargs)
            outcome = "done"
            return answer
        except Error:
            outcome = "refused"
            raise
        except Exception as error:  # what the page itself does not send ends here, too
            log.exception("a function of the page failed")
            raise gr.Error(_FAILED, print_exception=False) from error
        finally:
            seconds = time.monotonic() - begun
            asked = str((self.fns[block_fn] if isinstance(block_fn, int) else block_fn).api_name)
            if self.metrics is not None:
                self.metrics.ended(asked, seconds, outcome)
            log.info("%s", json.dumps({"asked": asked, "seconds": round(seconds, 4), "outcome": outcome}))
