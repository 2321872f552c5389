"""Class names: how lists of them are read and written, when two are the same, and which lists can be used."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence

from lsn_core.errors import UserError

_SEPARATORS = ",;\n\r，；、"  # the last three stand in Chinese and Japanese lists
_ENTRY = re.compile(
    rf"""\s*(?:"(?P<double>(?:[^"]|"")*)"|'(?P<single>(?:[^']|'')*)'|“(?P<curly>[^”]*)”)[^\S\n\r]*(?=[{_SEPARATORS}]|\Z)
    |(?P<plain>[^{_SEPARATORS}]*)""",
    re.VERBOSE,
)
_BRACKETED = re.compile(r"\[([^\[\]]*)\]|\(([^()]*)\)|\{([^{}]*)\}")
_NUMBERED = re.compile(r"(\d+)\s*[.):\t]\s*(\D.*)", re.DOTALL)
_BULLET = re.compile(r"[-*•]\s+")
_NEEDS_QUOTES = re.compile(rf"""[{_SEPARATORS}"“”]|^['\[({{\d]|^[-*•]\s""")


def split_class_names(text: str) -> list[str]:
    """The names in a list as people write or paste one; which lists can be used is `check_class_names`' business.

    Args:
        text: names separated by commas, semicolons or lines; a name that holds one of these stands in quotes. Numbers
            that count the entries up and bullets before each are no part of the names. A list of JSON or Python, such
            as `["cat", "dog"]` or `{0: "cat", 1: "dog"}`, is read as such.

    Returns:
        The names in their order, without empty ones.

    Examples:
        >>> split_class_names('cat; "salt, pepper"')
        ['cat', 'salt, pepper']
        >>> split_class_names("1. cat\\n2. dog")
        ['cat', 'dog']
    """
    text = text.strip()
    if text.startswith(("[", "(", "{")):
        if (literal := _literal_names(text)) is not None:
            return literal
        if _BRACKETED.fullmatch(text):  # [cat, dog], as YAML writes it
            text = text[1:-1]
    entries: list[tuple[str, bool]] = []  # name, whether it stood in quotes
    place = 0
    while place <= len(text):
        match = _ENTRY.match(text, place)
        assert match is not None  # the last alternative matches the empty text
        plain = match["plain"]
        name = plain if plain is not None else _unquoted(match)
        entries.append((name.strip(), plain is None))
        place = match.end() + 1
    return _without_numbers([entry for entry in entries if entry[0]])


def join_class_names(names: Sequence[str]) -> str:
    """A list that `split_class_names` reads as these names, such as 'cat, "salt, pepper"'."""
    return ", ".join(
        f'"{name.replace(chr(34), 2 * chr(34))}"' if _NEEDS_QUOTES.search(name) else name for name in names
    )


def _unquoted(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return match["double"].replace('""', '"')
    return match["single"].replace("''", "'") if match["single"] is not None else match["curly"]


def _literal_names(text: str) -> list[str] | None:
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, Mapping):  # of indices to names, or of names to indices
            indices = all(isinstance(index, int) for index in value.values())
            value = list(value) if indices else list(value.values())
        if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
            return [name.strip() for name in value if name.strip()]
    return None


def _without_numbers(entries: list[tuple[str, bool]]) -> list[str]:
    names = [name for name, _ in entries]
    if any(quoted for _, quoted in entries) or len(entries) < 2:
        return names
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    if all(numbered):
        numbers = [int(match[1]) for match in numbered if match]
        if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            return [match[2].strip() for match in numbered if match]
    if all(_BULLET.match(name) for name in names):
        return [_BULLET.sub("", name, count=1).strip() for name in names]
    return names


def check_class_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Stripped class names; a UserError for none, an empty one or one given twice (case aside)."""
    if any(not isinstance(name, str) for name in class_names):
        raise UserError("Every class name must be a text.")
    names = tuple(" ".join(name.split()) for name in class_names)
    if not names:
        raise UserError("At least one class is needed, and there are none.")
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(f"Class {number} of {len(names)} has an empty name. Name it or take it out.")
        if name.lower() in seen:
            raise UserError(f"The class {name!r} is given twice. Take one out.")
        seen.add(name.lower())
    return names


def tidy_name(name: str) -> str:
    """A class name as it is shown: underscores are spaces, and runs of spaces are one."""
    return " ".join(name.replace("_", " ").split())


def fold_name(name: str) -> str:
    """What two spellings of one class have in common: case and underscores do not matter."""
    return tidy_name(name).casefold()


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for a sentence: the first `most` of them, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
