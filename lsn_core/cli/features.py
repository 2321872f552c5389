"""The command `features`."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lsn_core.cli.cluster import RayOption, WorkersOption, chosen_cluster, image_rows
from lsn_core.cli.ending import unwound_by_signals
from lsn_core.cli.options import PHOTOS_HELP, BackboneOption, CacheOption, DeviceOption, ImageColumnOption
from lsn_core.cli.output import echo, image_bar
from lsn_core.errors import UserError


def features(
    images: Annotated[list[Path], typer.Argument(help=f"What to encode: {PHOTOS_HELP}.")],
    out: Annotated[
        Path, typer.Option(help="File to write: .parquet, .npz or .safetensors, by its ending. For many: .parquet.")
    ],
    image_column: ImageColumnOption = None,
    cache: CacheOption = None,
    ray: RayOption = None,
    ray_workers: WorkersOption = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Write the backbone's features of images, of unit length, for other tools and detectors.

    A file that cannot be read is named with its error in the file, the others go on, and the exit code is 1.
    """
    from lsn_core.backbones.loading import EMBEDDED, load_backbone
    from lsn_core.data.feature_cache import DiskFeatureCache
    from lsn_core.data.feature_file import open_feature_file
    from lsn_core.data.photos import open_photos
    from lsn_core.data.remote import check_here

    check_here(out=out, cache=cache)
    cluster = chosen_cluster(ray, ray_workers, device)
    reopen = partial(open_photos, images, image_column=image_column)
    photos = reopen()
    encoder = load_backbone(backbone or EMBEDDED, device if cluster is None else "auto")
    facts = {"backbone": encoder.name, "weights_hash": encoder.weights_hash, "fingerprint": encoder.fingerprint}
    failed = 0
    with ExitStack() as closed:
        closed.enter_context(unwound_by_signals())
        write = closed.enter_context(open_feature_file(out, encoder.dim, facts))
        bar = closed.enter_context(image_bar(len(photos), "Encoding"))
        kept = (
            closed.enter_context(closing(DiskFeatureCache(cache, encoder.fingerprint, encoder.dim))) if cache else None
        )
        rows = image_rows(cluster, encoder, photos, reopen, kept)
        for name, row in zip(photos.names, closed.enter_context(closing(rows)), strict=True):
            write(name, row)
            if isinstance(row, UserError):
                failed += 1
                with bar.external_write_mode():
                    echo(f"ERROR {row}", err=True)
            bar.update()
    echo(f"{out}: features of {len(photos) - failed} images, {encoder.dim} numbers each.")
    if failed:
        raise typer.Exit(1)
