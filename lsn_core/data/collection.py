"""What every set of images is to those who read it: a folder, a zip, a Parquet file, a list of uploaded files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ImageCollection(Protocol):
    """Encoded images with names, read one by one; `LabelledImages` is one whose classes are known."""

    @property
    def names(self) -> Sequence[str]:
        """What to call each image, shape (N,)."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Encoded bytes of image `index` in [0, N). Raises UserError when they cannot be had."""
