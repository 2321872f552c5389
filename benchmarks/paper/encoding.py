"""Encodes a set of images at once, and tells of all of its files that cannot be used rather than of the first."""

from __future__ import annotations

from benchmarks.harness.images import Images
from lsn_core.data.features import extract_features
from lsn_core.errors import UserError

_NAMED = 5


def encode(images: Images, what: str) -> None:
    """Encodes images, so that `images.embedding` is there.

    Args:
        what: these images are, and where they lie, for the message.

    Raises:
        UserError: some cannot be used; names them.
    """
    try:
        images.embedding  # noqa: B018 - encoded now
    except UserError as error:
        # What was encoded is kept, so that this pass costs little more than reading the files.
        found = extract_features(
            images.backbone, images.data, cache=images.cache, progress=images.progress, on_error="skip"
        )
        bad = [message if name in message else f"{name}: {message}" for name, message in found.errors]
        more = f" And {len(bad) - _NAMED} more." if len(bad) > _NAMED else ""
        raise UserError(
            f"{len(bad) or 'Some'} of {len(images):,} {what} cannot be used. {' '.join(bad[:_NAMED]) or error}{more} "
            "The same command goes on once they are mended."
        ) from error
