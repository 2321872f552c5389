"""Class names: how they are written, when two are the same, and which lists of them can be used."""

from __future__ import annotations

from collections.abc import Sequence

from lsn_core.errors import UserError


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
