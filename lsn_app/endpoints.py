"""What callers of the endpoints may send: arguments that fit, files that were uploaded; and whether there is MCP."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import unquote, urlsplit

from gradio_client.utils import is_http_url_like

from lsn_core import UserError

_UPLOADED = "/gradio_api/file="
_META = {"_type": "gradio.FileData"}
_WANTED = {str: "a text", float: "a number", int: "a whole number", list: "a list of texts"}
_DATA_FILE = "a photo as a data URL (data:image/jpeg;base64,...), or the address that an upload here got"
_FILE = 'a file that was uploaded, as {"path": ADDRESS OF THE UPLOAD}'


def uploads_only(value: Any) -> Any:
    """Inputs of an endpoint, with every file in the form in which Gradio refuses all paths but those of uploads.

    An MCP client can give a file only as text: as a data URL, which Gradio decodes, or by the address that an upload
    got. Of that address only the path is taken, so it need not be asked whose server it names: nothing is fetched.

    Raises:
        UserError: another address stands in the place of a file, or something that is no address.
    """
    if isinstance(value, dict):
        path = value.get("path")
        if path is None:
            return {key: uploads_only(item) for key, item in value.items()}
        if not isinstance(path, str):
            raise UserError(f"The path of a file must be a text. Give {_FILE}.")
        if is_http_url_like(path):
            path = unquote(urlsplit(path).path.partition(_UPLOADED)[2])
            if not path:
                raise UserError("Files must be uploaded; web addresses are not fetched.")
            value = {**value, "path": path, "url": None}
        # security: without this mark Gradio would take the path for any text, and check nothing.
        return {**value, "meta": _META}
    return [uploads_only(item) for item in value] if isinstance(value, list | tuple) else value


def complete(function: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
    """Arguments for a public endpoint, those that were left out at the end at their documented defaults.

    Args:
        function: of the endpoint, with type hints.
        inputs: what was sent, in the order of its parameters.

    Raises:
        UserError: too few or too many, or one of a wrong type.
    """
    parameters = list(inspect.signature(function).parameters.values())
    hints = get_type_hints(function)
    if len(inputs) > len(parameters):
        names = ", ".join(parameter.name for parameter in parameters)
        raise UserError(f"{len(inputs)} parameters were sent, and there are only {len(parameters)}: {names}.")
    values = list(inputs)
    for parameter in parameters[len(inputs) :]:
        if parameter.default is parameter.empty:
            raise UserError(f"The parameter {parameter.name} is missing. Send {_wanted(hints[parameter.name])}.")
        values.append(parameter.default)
    for parameter, value in zip(parameters, values, strict=True):
        kind = hints[parameter.name]
        if not _fits(value, kind):
            given = type(value).__name__ if value is not None else "nothing"
            raise UserError(f"The parameter {parameter.name} must be {_wanted(kind)}, not {given}.")
    return values


def check_named(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises UserError for arguments of an MCP tool that are too few, unknown, or of a wrong type.

    Args:
        function: of the endpoint, with type hints.
        arguments: by name. A file is a text here.
    """
    parameters, hints = inspect.signature(function).parameters, get_type_hints(function)
    unknown = [name for name in arguments if name not in parameters]
    if unknown:
        raise UserError(f"There is no parameter {unknown[0][:60]!r}. There are: {', '.join(parameters)}.")
    for name, parameter in parameters.items():
        kind = hints[name]
        file = _wanted(kind) is _FILE
        wanted = _DATA_FILE if file else _wanted(kind)
        if name not in arguments:
            if parameter.default is parameter.empty:
                raise UserError(f"The parameter {name} is missing. Send {wanted}.")
            continue
        value = arguments[name]
        if file and isinstance(value, str):
            if not value.startswith(("data:", "http://", "https://")):
                raise UserError(f"The parameter {name} must be {wanted}.")
        elif file or not _fits(value, kind):
            given = type(value).__name__ if value is not None else "nothing"
            raise UserError(f"The parameter {name} must be {wanted}, not {given}.")


def _wanted(kind: Any) -> str:
    return _WANTED.get(get_origin(kind) or kind, _FILE)


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return isinstance(value, list | tuple) and all(_fits(part, item) for part in value)
    if kind in (str, int):
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, dict)  # a file; a data link in its place is one by now


def check_mcp() -> None:
    """Raises UserError where the package that MCP needs is not installed."""
    if importlib.util.find_spec("mcp") is None:
        raise UserError("MCP needs a package that is not installed: pip install 'gradio[mcp]', or unset LSN_MCP.")
