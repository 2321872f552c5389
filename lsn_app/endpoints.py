"""What callers of the endpoints may name as files, and the endpoints as tools of the Model Context Protocol (MCP)."""

from __future__ import annotations

import importlib.util
from typing import Any
from urllib.parse import unquote, urlsplit

from gradio_client.utils import is_http_url_like

from lsn_core import UserError

_UPLOADED = "/gradio_api/file="
_META = {"_type": "gradio.FileData"}


def uploads_only(value: Any) -> Any:
    """Inputs of an endpoint, with every file in the form in which Gradio refuses all paths but those of uploads.

    An MCP client can give a file only as text: as a data URL, which Gradio decodes, or by the address that an upload
    got. Of that address only the path is taken, so it need not be asked whose server it names: nothing is fetched.

    Raises:
        UserError: another address stands in the place of a file.
    """
    if isinstance(value, dict):
        path = value.get("path")
        if not isinstance(path, str):
            return {key: uploads_only(item) for key, item in value.items()}
        if is_http_url_like(path):
            path = unquote(urlsplit(path).path.partition(_UPLOADED)[2])
            if not path:
                raise UserError("Files must be uploaded; web addresses are not fetched.")
            value = {**value, "path": path, "url": None}
        # security: without this mark Gradio would take the path for any text, and check nothing.
        return {**value, "meta": _META}
    return [uploads_only(item) for item in value] if isinstance(value, list | tuple) else value


def check_mcp() -> None:
    """Raises UserError where the package that MCP needs is not installed."""
    if importlib.util.find_spec("mcp") is None:
        raise UserError("MCP needs a package that is not installed: pip install 'gradio[mcp]', or unset LSN_MCP.")
