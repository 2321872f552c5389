"""Class names: how lists of them are read and written, when two are the same, and which lists can be used."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence

from lsn_core.errors import UserError

MAX_NAME = 1000
"""Letters of a class name. Text towers read far fewer."""

_SEPARATORS = ",;\n\r，；、"  # the last three stand in Chinese and Japanese lists
_ENTRY = re.compile(
    rf"""\s*(?:"(?P<double>(?:[^"]|"")*)"|'(?P<single>(?:[^']|'')*)'|“(?P<curly>[^”]*)”)[^\S\n\r]*(?=[{_SEPARATORS}]|\Z)
    |(?P<plain>[^{_SEPARATORS}]*)""",
    re.VERBOSE,
)
_BRACKETED = re.compile(r"\[([^\[\]]*)\]|\(([^()]*)\)|\{([^{}]*)\}")
_NUMBERED = re.compile(r"(\d{1,9})\s*[.):\t]\s*(\D.*)", re.DOTALL)
_COUNTED = re.compile(r"(\d{1,9})\s*[.):,;\t\s]\s*(\D.*)")  # where a blank is enough
_WORDNET_ID = re.compile(r"n\d{8}\s+")
_BULLET = re.compile(r"[-*•]\s+")
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*\s*[:=]\s*(?=[\[({])")  # classes = [...]
_INVISIBLE = re.compile("[\ufeff\u200b\u2060]")  # byte order marks and spaces of no width, as pasted texts have
# Of terminals, and halves of surrogate pairs: no file and no page can hold them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
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
    text = _ASSIGNMENT.sub("", text.strip(" \t\n\r\f\v\ufeff"), count=1)
    if text.startswith(("[", "(", "{")):
        if (literal := _literal_names(text)) is not None:
            return literal
        if _BRACKETED.fullmatch(text):  # [cat, dog], as YAML writes it
            text = text[1:-1]
    if "\t" in text and not any(mark in text for mark in _SEPARATORS):  # a row of a spreadsheet
        text = text.replace("\t", "\n")
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


def read_class_names(data: bytes, file_name: str) -> list[str]:
    """The names in a file: one a line, commas and all, or a list as `split_class_names` reads it.

    Args:
        data: text in UTF-8, UTF-16 with a byte order mark, or else Windows-1252. Empty lines and those that begin with
            # are no names; numbers that count the lines up, WordNet ids, bullets and quotes are no part of them.
        file_name: what to call it in messages.

    Returns:
        The names in their order.

    Raises:
        UserError: it is no text, or there are no names in it.

    Example:
        >>> read_class_names(b"0 tench, Tinca tinca\\n1 goldfish\\n", "classes.txt")
        ['tench, Tinca tinca', 'goldfish']
    """
    text = _decoded(data)
    if text is None:
        raise UserError(f"{file_name}: this is no text. Give a file with one class name a line.")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) == 1 or text.lstrip("\ufeff \n\r\t").startswith(("[", "(", "{")):
        names = split_class_names("\n".join(lines))
    else:
        names = _without_marks(lines)
    if not names:
        raise UserError(f"{file_name}: there are no class names in it. Write one a line.")
    return names


def _decoded(data: bytes) -> str | None:
    encodings = ["utf-16"] if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text
    return None


def _without_marks(lines: list[str]) -> list[str]:
    """Lines of a file without what counts them up, bullets and quotes."""
    if counted := _without_count(lines, _COUNTED):
        lines = counted
    else:
        for mark in (_WORDNET_ID, _BULLET):
            if all(mark.match(line) for line in lines):
                lines = [mark.sub("", line, count=1).strip() for line in lines]
    names = []
    for line in lines:
        match = _ENTRY.match(line.rstrip(",;"))
        quoted = match is not None and match["plain"] is None and match.end() == len(line.rstrip(",;"))
        names.append(_unquoted(match).strip() if match is not None and quoted else line)
    return [name for name in names if name]


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
    if (counted := _without_count(names, _NUMBERED)) or (counted := _without_count(names, _COUNTED, starts=(0, 1))):
        return counted
    if all(_BULLET.match(name) for name in names):
        return [_BULLET.sub("", name, count=1).strip() for name in names]
    return names


def _without_count(names: Sequence[str], pattern: re.Pattern[str], starts: Sequence[int] = ()) -> list[str]:
    """The names without the numbers that count them up; none where they are no such numbers."""
    matches = [match for match in map(pattern.fullmatch, names) if match]
    numbers = [int(match[1]) for match in matches]
    if len(matches) < len(names) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return []
    return [match[2].strip() for match in matches] if not starts or numbers[0] in starts else []


def check_class_names(class_names: Sequence[str] | str) -> tuple[str, ...]:
    """Class names as they are shown, see `tidy_name`.

    Args:
        class_names: the names, or one text that `split_class_names` reads.

    Raises:
        UserError: there is none, an empty one, or one given twice, as `fold_name` tells.
    """
    if isinstance(class_names, str):
        class_names = split_class_names(class_names)
    if any(not isinstance(name, str) for name in class_names):
        raise UserError("Every class name must be a text.")
    names = tuple(tidy_name(name) for name in class_names)
    if not names:
        raise UserError("At least one class is needed, and there are none.")
    seen: dict[str, str] = {}
    for number, (name, given) in enumerate(zip(names, class_names, strict=True), start=1):
        if not name:
            raise UserError(f"Class {number} of {len(names)} has an empty name. Name it or take it out.")
        if len(name) > MAX_NAME:
            raise UserError(f"The class {name[:60]!r}... has {len(name):,} letters; at most {MAX_NAME:,} can be read.")
        if _CONTROL.search(name):
            raise UserError(f"The class {name[:60]!a} has a control character in its name. Take it out.")
        if (folded := fold_name(name)) in seen:
            spelled = f" (as {seen[folded][:60]!r} and {given[:60]!r})" if seen[folded] != given else ""
            raise UserError(f"The class {name[:60]!r} is given twice{spelled}. Take one out.")
        seen[folded] = given
    return names


def composed(name: str) -> str:
    """A name with its letters composed (NFC): é may be stored as one character or, as macOS does, as e and an accent.

    All that compares names goes through here.
    """
    return unicodedata.normalize("NFC", name)


def tidy_name(name: str) -> str:
    """A class name as it is shown: underscores are spaces, runs of spaces are one, letters are `composed`."""
    return " ".join(_INVISIBLE.sub("", composed(name)).replace("_", " ").split())


def fold_name(name: str) -> str:
    """What two spellings of one class have in common: case, underscores and how accents are stored do not matter."""
    return composed(tidy_name(name).casefold())


def find_name(name: str, names: Sequence[str]) -> int | None:
    """Index of the one of these names that is the same class, or None."""
    wanted = fold_name(name)
    return next((index for index, other in enumerate(names) if fold_name(other) == wanted), None)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for a sentence: the first `most` of them, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
