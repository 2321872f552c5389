"""Which columns of a table hold images and labels, by their names and types, as data sets are published."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lsn_core.class_names import listed
from lsn_core.data.label_table import Columns
from lsn_core.data.sources import DataError, Unlabelled

logger = logging.getLogger(__name__)

_IMAGE_COLUMNS = """
image img jpg jpeg png webp picture photo pixel_values bytes image_bytes img_bytes image_data pixels
"""
_LABEL_COLUMNS = "label labels fine_label coarse_label cls class class_name category target species y"
LABEL_NAMES = "label_name"


@dataclass(frozen=True)
class Chosen:
    """The columns of a table.

    Attributes:
        image: path of the column with the bytes of the images, such as "image.bytes".
        path: path of the column with their file names, or None.
        label: the column of labels, or None.
        names: the column with the names of whole-number labels, or None.
    """

    image: str
    path: str | None
    label: str | None
    names: str | None

    @property
    def texts(self) -> list[str]:
        """The columns of labels and their names."""
        return [name for name in (self.label, self.names) if name is not None]


def choose_columns(schema: pa.Schema, where: str, wanted: Columns, labelled: bool) -> Chosen:
    """The columns of images and labels.

    Args:
        where: what to call the table in messages.
        wanted: names that were given; None takes the one whose name says so, or the only one that can be it.
        labelled: whether labels are needed; without them, only the images are looked for.

    Raises:
        DataError: there is none, or several that may be meant.
    """
    image = wanted.image_column or _first(schema, _IMAGE_COLUMNS.split())
    if image is None:
        fitting = [field.name for field in schema if _bytes_of(field)]
        if len(fitting) != 1:
            raise _unclear(schema, where, "images", "--image-column", fitting, labelled)
        image = fitting[0]
        logger.warning("%s: the images are taken from the column %s.", where, image)
    if schema.get_field_index(image) < 0:
        raise DataError(f"{where}: there is no column {image!r}; there are {listed(schema.names, 20)}.")
    field = schema.field(image)
    if not _bytes_of(field):
        raise DataError(
            f"{where}: the column `{image}` holds {_short(field.type)}; it must hold the bytes of image files. "
            "Write the images themselves into it, or name another column (--image-column)."
        )
    nested = pa.types.is_struct(field.type)
    path = f"{image}.path" if nested and field.type.get_field_index("path") >= 0 else None
    if path is not None and pa.types.is_null(kind_of_column(schema, path)):
        path = None  # no image has one
    label, names = _labels(schema, where, wanted) if labelled else (None, None)
    for text in (names, path):
        if text is not None and not is_text(kind_of_column(schema, text)):
            kind = _short(kind_of_column(schema, text))
            raise DataError(f"{where}: the column `{text}` holds {kind}; it must hold text.")
    return Chosen(f"{image}.bytes" if nested else image, path, label, names)


def _labels(schema: pa.Schema, where: str, wanted: Columns) -> tuple[str, str | None]:
    there = [name for name in _LABEL_COLUMNS.split() if schema.get_field_index(name) >= 0]
    label = wanted.label_column or (there[0] if there else None)
    if label is None and schema.get_field_index(LABEL_NAMES) >= 0:
        label = LABEL_NAMES
    if label is None:
        raise Unlabelled(str(_unclear(schema, where, "labels", "--label-column", [])))
    if schema.get_field_index(label) < 0:
        raise DataError(f"{where}: there is no column {label!r}; there are {listed(schema.names, 20)}.")
    kind = kind_of_column(schema, label)
    types = pa.types
    if not (is_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise DataError(f"{where}: the column `{label}` holds {_short(kind)}; it must hold whole numbers or text.")
    if wanted.label_column is None and len(there) > 1:
        logger.warning("%s: the labels are those of the column %s, not of %s.", where, label, listed(there[1:]))
    elif label not in ("label", wanted.label_column):
        logger.info("%s: the labels are those of the column %s.", where, label)
    has_names = label != LABEL_NAMES and schema.get_field_index(LABEL_NAMES) >= 0
    return label, LABEL_NAMES if has_names else None


def kind_of_column(schema: pa.Schema, path: str) -> pa.DataType:
    """Type of the values of a column, or of a field in it ("image.bytes"), whether or not they are in a dictionary."""
    top, _, inner = path.partition(".")
    kind = schema.field(top).type
    kind = kind.field(inner).type if inner else kind
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _first(schema: pa.Schema, names: Sequence[str]) -> str | None:
    """The first of these columns that holds bytes; else the first that is there, to be told what is wrong with it."""
    there = [name for name in names if schema.get_field_index(name) >= 0]
    return next((name for name in there if _bytes_of(schema.field(name))), there[0] if there else None)


def _bytes_of(field: pa.Field) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        if kind.get_field_index("bytes") < 0:
            return False
        kind = kind.field("bytes").type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _unclear(
    schema: pa.Schema, where: str, what: str, option: str, fitting: Sequence[str], labelled: bool = True
) -> DataError:
    names = ", ".join(schema.names[:20])
    known = "`image`" if what == "images" else "`label`"
    needed = "Columns `image` and `label` are" if labelled else "A column `image` is"
    about = f"; {listed(fitting)} may be it" if fitting else ""
    return DataError(
        f"{where}: which column holds the {what}? {needed} needed; it has {names}{about}. "
        f"Name the column ({option}), or call it {known}."
    )


def _short(kind: pa.DataType) -> str:
    text = str(kind)
    return text if len(text) < 60 else f"{text[:60]}..."
