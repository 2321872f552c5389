"""Which folders are splits of a data set (train, test_set, val2017, ...) and no classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from lsn_core.class_names import fold_name, listed
from lsn_core.data.sources import DataError, SeveralSplits

TRAIN, VALIDATION, TEST = "train", "val", "test"
_KINDS = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "traindata", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "devel", "valset"), VALIDATION),
    **dict.fromkeys(("test", "tests", "testing", "tst", "eval", "evaluation", "testset", "testdata"), TEST),
    **dict.fromkeys(("holdout", "heldout", "minival"), TEST),
}
_NUMBERED = ("fold", "split", "batch", "shard", "part", "chunk")  # with a number: fold1, fold_2, ...
_PLAIN_WORDS = """
set sets data dataset datasets image images img imgs photo photos picture pictures pic pics jpg jpeg png folder dir
split fold part full small mini final new raw clean original orig resized labeled labelled samples v
"""
_PLAIN = frozenset(_PLAIN_WORDS.split())
_MEDIA_WORDS = (
    "image images img imgs photo photos picture pictures pic pics jpegimages mask masks label labels annotations"
)
_MEDIA = frozenset(_MEDIA_WORDS.split())
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


@dataclass(frozen=True)
class SplitName:
    """A name with a split-like word in it.

    Attributes:
        kind: TRAIN, VALIDATION, TEST or the word itself ("fold").
        rest: the other words, without numbers and such as say nothing ("set", "images").
    """

    kind: str
    rest: tuple[str, ...]


def split_name(name: str) -> SplitName | None:
    """What a folder's name says of a split; None where no split-like word stands in it.

    Example:
        >>> split_name("seg_train2017"), split_name("cat")
        (SplitName(kind='train', rest=('seg',)), None)
    """
    words = [word.lower() for word in _WORD.findall(name)]
    kinds = [_KINDS[word] for word in words if word in _KINDS]
    rest = [word for word in words if not word.isdigit() and word not in _PLAIN]
    if kinds:
        return SplitName(kinds[0], tuple(word for word in rest if word not in _KINDS))
    if any(word in _NUMBERED for word in words) and any(word.isdigit() for word in words):
        rest = [word for word in rest if word not in _NUMBERED]
        return None if rest else SplitName(next(word for word in words if word in _NUMBERED), ())
    return None


def is_plain(name: str) -> bool:
    """Whether a folder's name says nothing of a class: it is a split, or words such as `images` or `data`."""
    found = split_name(name)
    words = [word.lower() for word in _WORD.findall(name)]
    return (
        not found.rest if found else all(word in _PLAIN for word in words if not word.isdigit()) and not name.isdigit()
    )


def are_media(names: Sequence[str]) -> bool:
    """Whether these folders are named after kinds of files, such as `images` and `masks`, and not after classes."""
    return all(name.lower() in _MEDIA for name in names)


def are_splits(names: Sequence[str]) -> bool:
    """Whether all of these folders are splits by their names alone, such as `train` and `test1`, or `digits_val` and
    `digits_test`; `train_station` and `test_tube` are none."""
    found = [split_name(name) for name in names]
    if any(one is None for one in found):
        return False
    return len({one.rest for one in found if one}) == 1 and len(names) > 1


def class_and_split(names: Sequence[str]) -> list[str]:
    """The folders of one class for two splits (`cats_train` and `cats_test`); none where not all are of this kind."""
    by_class: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        found = split_name(name)
        if found is None or not found.rest:
            return []
        by_class.setdefault(found.rest, []).append(name)
    return next((sorted(same) for same in by_class.values() if len(same) > 1), [])


def find_splits(tops: Mapping[str, Set[str]]) -> tuple[list[str], str]:
    """Which top folders are splits of one set.

    Args:
        tops: top folder -> names of the class folders in it, none for one that holds its images directly.

    Returns:
        The splits, none where the folders are classes; and, where it cannot be told, why.
    """
    names = sorted(tops)
    if are_splits(names):
        return names, ""
    if all(tops.values()) and are_splits(sorted(set().union(*tops.values()))):
        return [], ""  # cat/train, cat/test, dog/train, ...
    nested = [name for name in names if tops[name]]
    worded = [name for name in nested if _is_split_beside(name, names)]
    if not worded:
        shared, every = set.intersection(*map(set, tops.values())), set().union(*tops.values())
        same = nested == names and len(shared) > 1 and 2 * len(shared) > len(every)
        return (names, "") if same else ([], "")
    like = [name for name in names if _is_split_beside(name, names) or any(tops[name] & tops[one] for one in worded)]
    others = [name for name in names if name not in like]
    if others and len(worded) < 2:
        return [], f"{worded[0]} looks like a split of the set and {others[0]} like one of its classes"
    return like, ""


def _is_split_beside(name: str, names: Sequence[str]) -> bool:
    found = split_name(name)
    if found is None:
        return False
    others = [{word.lower() for word in _WORD.findall(other)} for other in names if other != name]
    return not found.rest or any(set(found.rest) <= words for words in others)


def choose_split(wanted: str, names: Sequence[str]) -> str | None:
    """The split that is meant: the one of this name, or else the only one of this kind (`test` for `test_set`)."""
    for name in names:
        if fold_name(name) == fold_name(wanted):
            return name
    asked = split_name(wanted)
    of_kind = [name for name in names if asked and not asked.rest and (split_name(name) or asked).kind == asked.kind]
    of_kind = [name for name in of_kind if split_name(name)]
    return of_kind[0] if len(of_kind) == 1 else None


def guess_split(kinds: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of these kinds that one of the splits is of; None where none or several are."""
    for kind in kinds:
        if (found := choose_split(kind, names)) is not None:
            return found
    return None


def pick_split(
    where: str, split: str | None, guess: Sequence[str], splits: Sequence[str], labelled: Sequence[str]
) -> str:
    """The split that is asked for, the only one with labels, or the first guess.

    Args:
        where: what to call the set in messages.
        split: as asked for, or None.
        guess: kinds of splits.
        splits, labelled: names of all splits, and of those with labels.

    Raises:
        DataError: there is no such split; SeveralSplits where none was asked for.
    """
    if split is not None:
        chosen = choose_split(split, splits)
        if chosen is None:
            raise DataError(f"{where}: there is no split {split!r}; there are {listed(splits)}. Name one of them.")
        return chosen
    if len(labelled) == 1:
        return labelled[0]
    guessed = guess_split(guess, labelled)
    if guessed is not None:
        return guessed
    first = guess_split((TRAIN,), labelled) or labelled[0]
    how = f'Give one of them by itself, or name it: --split {first} (in Python, split="{first}").'
    if all(split_name(name) is None for name in labelled):
        how += " If these are your classes, put their images right into their folders."
    error = SeveralSplits(f"{where}: it holds the splits {listed(labelled)}, which are no classes. {how}")
    error.splits = tuple(labelled)
    raise error
