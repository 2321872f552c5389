"""What the folders of an image set are: classes, splits, or wrappers around them; and what they are not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lsn_core.class_names import listed
from lsn_core.data.boxes import kind_of_boxes
from lsn_core.data.formats import ARCHIVE_SUFFIXES, describe_others, is_photo_of_any_kind, is_picture, not_read, suffix
from lsn_core.data.label_table import TABLE_SUFFIXES, ImageIndex, LabelTable, read_label_table
from lsn_core.data.sources import DataError, FileSource, Unlabelled
from lsn_core.data.splits import are_media, are_splits, choose_split, class_and_split, find_splits, is_plain, pick_split

logger = logging.getLogger(__name__)

LAYOUT = "Put the images of each class into a folder of its own, named after the class: cat/1.jpg, dog/1.jpg, ..."
AS_PHOTOS = "As they are, they can be scored, or serve as photos of none of the classes."
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
Parts = tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a labelled set beside where it is.

    Attributes:
        split: name of the split to take; None for the only one, or the guess.
        guess: kinds of splits, of which the first that is there is taken (and said) where there are several.
        image_column, label_column: names of columns; None for those whose names say so.
    """

    split: str | None = None
    guess: tuple[str, ...] = ()
    image_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class Arranged:
    """Images in sorted order with their classes.

    Attributes:
        positions: of the images in the source, shape (N,).
        classes: the class folder, or label, of each, shape (N,).
        names: what to call each, shape (N,).
        splits: of the set, which is one of several; else empty.
        split: the one that is taken, where there are any.
        notes: what was guessed and left out, as sentences.
    """

    positions: list[int]
    classes: list[str]
    names: list[str]
    splits: tuple[str, ...] = ()
    split: str | None = None
    notes: tuple[str, ...] = ()


def arrange(source: FileSource, where: str, wanted: Wanted) -> Arranged:
    """Finds the classes of a set of files.

    Any number of folders around the class folders is unwrapped. Top folders are splits, and no classes, where all of
    them hold the same folders or a split-like word stands in their names; so are folders within each class. Without
    class folders, a table beside the images gives the labels.

    Args:
        source: the files.
        where: what to call the set in messages.
        wanted: which split, and which columns of tables.

    Raises:
        DataError: there are no images, no classes, or several splits of which none was asked for.
    """
    return _Arranging(source, where, wanted).run()


class _Arranging:
    def __init__(self, source: FileSource, where: str, wanted: Wanted) -> None:
        self.source, self.where, self.wanted = source, where, wanted
        self.paths: list[Parts] = [tuple(file.split("/")) for file in source.files]
        self.pictures: list[int] = []
        self.others: list[int] = []
        for index, file in enumerate(source.files):
            (self.pictures if is_picture(file) else self.others).append(index)
        self.used_tables: set[int] = set()
        self.splits_seen = False
        self.splits: tuple[str, ...] = ()
        self.split: str | None = None
        self.notes: list[str] = []

    def run(self) -> Arranged:
        if not self.pictures:
            raise self._no_pictures()
        arranged = self._arrange(self.pictures, 0, self.wanted.split)
        if self.wanted.split is not None and not self.splits_seen:
            raise self._error(f"it has no splits, so there is no {self.wanted.split!r}", "Leave the split out.")
        if left_out := [self.source.files[index] for index in self.others if index not in self.used_tables]:
            self._say(f"{describe_others(left_out)}.")
        return replace(arranged, splits=self.splits, split=self.split, notes=tuple(self.notes))

    def _say(self, sentence: str) -> None:
        self.notes.append(sentence[0].upper() + sentence[1:])
        logger.warning("%s: %s", self.where, sentence)

    def _arrange(self, pictures: list[int], depth: int, split: str | None) -> Arranged:
        """The classes of these images, whose paths have `depth` folders in common."""
        pictures, depth, split = self._unwrapped(pictures, depth, split)
        nested = [i for i in pictures if len(self.paths[i]) > depth + 1]
        loose = [i for i in pictures if len(self.paths[i]) == depth + 1]
        inner = self._class_folders(nested, depth)
        tops = sorted(inner)
        splits = self._find_splits(inner, split)
        if splits and any(inner[name] or self._has_table(name, nested, depth) for name in splits):
            return self._take_split(pictures, depth, splits, inner, split)
        if splits and split is not None and (chosen := choose_split(split, splits)) is not None:
            self.splits_seen, split = True, None
            pictures = [i for i in pictures if self.paths[i][depth : depth + 1] == (chosen,)]
        plain = are_media(tops) or (len(tops) == 1 and is_plain(tops[0]))
        if loose or splits or plain or len(tops) == 1:
            if (labelled := self._by_table(pictures, depth, split)) is not None:
                return labelled
            if splits:
                raise self._unlabelled(f"it has the splits {listed(splits)}, and no class folders in them")
            if loose or plain:
                outside = loose or pictures
                first = self.source.files[outside[0]]
                raise self._unlabelled(f"{len(outside):,} images are in no class folder, such as {first}")
        return self._by_folder(pictures, depth, tops, split)

    def _unwrapped(self, pictures: list[int], depth: int, split: str | None) -> tuple[list[int], int, str | None]:
        paths = self.paths
        while len({paths[i][depth] for i in pictures}) == 1 and all(len(paths[i]) > depth + 2 for i in pictures):
            if split is not None and choose_split(split, [paths[pictures[0]][depth]]) is not None:
                self.splits_seen, split = True, None  # the only one that is there
            depth += 1
        return pictures, depth, split

    # -- splits -------------------------------------------------------------------------------------------------------

    def _find_splits(self, inner: dict[str, set[str]], split: str | None) -> list[str]:
        """The top folders that are splits; an error where that is unclear, unless one of them is asked for."""
        splits, unclear = find_splits(inner) if len(inner) > 1 else ([], "")
        if unclear and split is not None and (chosen := choose_split(split, sorted(inner))):
            return [chosen]
        if unclear:
            way_out = "Name the split to take (--split), or give each class one folder with its images right in it."
            raise self._error(unclear, way_out)
        return splits

    def _class_folders(self, pictures: Sequence[int], depth: int) -> dict[str, set[str]]:
        """Top folder -> the folders in it that hold images, below those around all of them."""
        members: dict[str, list[Parts]] = {}
        for i in pictures:
            members.setdefault(self.paths[i][depth], []).append(self.paths[i])
        folders = {}
        for top, paths in members.items():
            at = depth + 1
            while all(len(parts) > at + 2 for parts in paths) and len({parts[at] for parts in paths}) == 1:
                at += 1
            inner = {parts[at] for parts in paths if len(parts) > at + 1}
            folders[top] = set() if len(inner) == 1 and is_plain(min(inner)) else inner
        return folders

    def _take_split(
        self,
        pictures: list[int],
        depth: int,
        splits: list[str],
        inner: dict[str, set[str]],
        split: str | None,
    ) -> Arranged:
        self.splits_seen = True
        labelled = [name for name in splits if inner[name] or self._has_table(name, pictures, depth)]
        split, _, deeper = (split or "").partition("/")
        chosen = self._choose(split or None, splits, labelled)
        members = [i for i in pictures if self.paths[i][depth] == chosen and len(self.paths[i]) > depth + 1]
        left = Counter(self.paths[i][depth] for i in pictures if self.paths[i][depth] != chosen)
        if left:
            unlabelled = [name for name in left if name not in labelled]
            counts = ", ".join(f"{name} ({_images(left[name])})" for name in sorted(left))
            about = f", without labels: {listed(unlabelled)}" if unlabelled else ""
            self._say(f"the split {chosen} is taken; left out: {counts}{about}.")
        return self._arrange(members, depth + 1, deeper or None)

    def _choose(self, split: str | None, splits: Sequence[str], labelled: Sequence[str]) -> str:
        self.splits = tuple(labelled)
        self.split = pick_split(self.where, split, self.wanted.guess, splits, labelled)
        return self.split

    # -- labels -------------------------------------------------------------------------------------------------------

    def _by_folder(self, pictures: list[int], depth: int, tops: list[str], split: str | None) -> Arranged:
        paths = self.paths
        outer = paths[pictures[0]][:depth]
        photos_only = [i for i in self.others if is_photo_of_any_kind(self.source.files[i])]
        if both := class_and_split(tops):
            raise self._error(
                f"the names of its folders hold classes and splits, such as {listed(both)}",
                "Put each split into a folder of its own: train/cat/1.jpg, test/cat/1.jpg, ...",
            )
        folders = [tuple(folder.split("/")) for folder in self.source.folders] + [paths[i][:-1] for i in self.others]
        empty = {parts[depth] for parts in folders if len(parts) > depth and parts[:depth] == outer} - set(tops)
        if empty:
            raise self._empty(sorted(empty), [paths[i] for i in photos_only], depth)
        inside = sorted({paths[i][depth + 1] for i in pictures if len(paths[i]) > depth + 2})
        if are_splits(inside) and all(len(paths[i]) > depth + 2 for i in pictures):
            self.splits_seen = True
            chosen = self._choose(split, inside, inside)
            kept = [i for i in pictures if paths[i][depth + 1] == chosen]
            counts = Counter(paths[i][depth + 1] for i in pictures if paths[i][depth + 1] != chosen)
            said = ", ".join(f"{name} ({_images(counts[name])})" for name in sorted(counts))
            self._say(f"the split {chosen} of each class is taken; left out: {said}.")
            pictures = kept
        pictures = sorted(pictures, key=paths.__getitem__)
        classes = [paths[i][depth] for i in pictures]
        return Arranged(pictures, classes, ["/".join(paths[i][depth:]) for i in pictures])

    def _tables(self, folder: Callable[[Parts], bool]) -> list[int]:
        return [i for i in self.others if suffix(self.source.files[i]) in TABLE_SUFFIXES and folder(self.paths[i][:-1])]

    def _has_table(self, top: str, pictures: Sequence[int], depth: int) -> bool:
        outer = next(self.paths[i][: depth + 1] for i in pictures if self.paths[i][depth] == top)
        return bool(self._tables(lambda folder: folder[: depth + 1] == outer))

    def _by_table(self, pictures: list[int], depth: int, split: str | None) -> Arranged | None:
        """The images that a table above or beside them labels; the table that labels most of them counts."""
        folders = {self.paths[i][:-1] for i in pictures}
        above = {folder[:length] for folder in folders for length in range(len(folder) + 1)}
        images = {i: self.paths[i] for i in pictures}
        tables: dict[int, LabelTable] = {}
        for i in self._tables(above.__contains__):
            index = ImageIndex(images, self.paths[i][:-1])
            table = read_label_table(self.source.files[i], self.source.read(i), index, self.wanted)
            if table is not None:
                tables[i] = table
        if not tables:
            return None
        used = max(tables, key=lambda i: len(tables[i].labels))
        stems = {self.paths[i][-1].rpartition(".")[0]: i for i in tables}
        if are_splits(sorted(stems)):  # train.csv and test.csv
            self.splits_seen = True
            chosen = self._choose(split, sorted(stems), sorted(stems))
            used, split = stems[chosen], None
            self._say(f"the split {chosen} of {listed(sorted(stems))} is taken.")
        table = tables[used]
        self.used_tables.add(used)
        kept = sorted((i for i in pictures if i in table.labels), key=self.paths.__getitem__)
        names = sorted({table.splits[i] for i in kept if table.splits.get(i)})
        self._say(f"the labels are those of {table.name}.")
        if len(names) > 1 or (names and split is not None):
            self.splits_seen = True
            chosen = self._choose(split, names, names)
            counts = Counter(table.splits.get(i) or "none" for i in kept if table.splits.get(i) != chosen)
            said = ", ".join(f"{name} ({_images(counts[name])})" for name in sorted(counts))
            self._say(f"the split {chosen} is taken; left out: {said}.")
            kept = [i for i in kept if table.splits.get(i) == chosen]
        without = sum(i not in table.labels for i in pictures)
        for count, what in (
            (without, "of the images have no label in it"),
            (table.missing, "of its rows label no image"),
        ):
            if count:
                self._say(f"{count:,} {what} and are left out.")
        return Arranged(kept, [table.labels[i] for i in kept], ["/".join(self.paths[i][depth:]) for i in kept])

    # -- what cannot be used ------------------------------------------------------------------------------------------

    def _error(self, problem: str, way_out: str) -> DataError:
        return DataError(f"{self.where}: {problem}. {way_out}")

    def _no_pictures(self) -> DataError:
        files = self.source.files
        if archives := [file for file in sorted(files) if suffix(file) in ARCHIVE_SUFFIXES]:
            return self._error(
                f"there are no image files in it, but archives ({listed(archives)})", "Give one of them."
            )
        if photos := [file for file in files if not_read(file)]:
            kind, way_out = not_read(photos[0]) or ("", "")
            return self._error(
                f"there are no image files in it; {photos[0]} is {kind}, which is not read here", way_out + "."
            )
        return self._error("there are no image files in it", LAYOUT)

    def _empty(self, names: list[str], photos: Sequence[Parts], depth: int) -> DataError:
        for parts in photos:
            if len(parts) > depth + 1 and parts[depth] in names:
                kind, way_out = not_read(parts[-1]) or ("", "")
                return self._error(
                    f"no images that are read in the class folders {listed(names)}; {'/'.join(parts)} is {kind}",
                    f"{way_out}, or remove the folder.",
                )
        return self._error(f"no images in the class folders {listed(names)}", "Add some or remove them.")

    def _unlabelled(self, problem: str) -> Unlabelled:
        """No labels: where the set is one of boxes, that is said."""
        boxes = kind_of_boxes([self.source.files[i] for i in self.others])
        if boxes:
            return Unlabelled(
                f"{self.where}: this is a set for object detection, whose photos have no class each ({boxes}: boxes of "
                f"several classes in each photo). Cut the objects out into a folder for each class. {AS_PHOTOS}"
            )
        if tables := self._tables(lambda folder: True):
            name = self.source.files[tables[0]]
            problem += f", and {name} gives no labels by their file names (in a column such as label; --label-column)"
        elif sheets := [self.source.files[i] for i in self.others if suffix(self.source.files[i]) in _SHEETS]:
            problem += f", and {sheets[0]} is not read (labels in it: save it as CSV)"
        return Unlabelled(f"{self.where}: {problem}. {LAYOUT} {AS_PHOTOS}")


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
