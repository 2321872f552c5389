"""The options of commands whose work a Ray cluster can do."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from lsn_core.cluster.address import is_address
from lsn_core.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from lsn_core.backbones.backbone import Backbone
    from lsn_core.cluster.features import Cluster
    from lsn_core.cluster.worker import Reopen
    from lsn_core.data.collection import ImageCollection
    from lsn_core.data.feature_cache import DiskFeatureCache

RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Encode images on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT. Without an address: that of "
        "RAY_ADDRESS, or else a Ray of this machine's own.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--ray-workers", help="With --ray: how many workers. Default: one for each GPU, or else for each 8 CPUs."
    ),
]


class CommandWithAddress(TyperCommand):
    """A command whose --ray may stand alone: what follows is its address only where it has the form of one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        alone = [
            f"{arg}=" if arg == "--ray" and place < end and not is_address((args[place + 1 : end] or [""])[0]) else arg
            for place, arg in enumerate(args)
        ]
        return super().parse_args(ctx, alone)


def chosen_cluster(ray: str | None, workers: int | None, device: str) -> Cluster | None:
    """The cluster of --ray; None without it. Raises UserError for --ray-workers alone."""
    if ray is None:
        if workers is not None:
            raise UserError("--ray-workers says how many workers --ray has: give that, too.")
        return None
    from lsn_core.cluster.features import Cluster

    return Cluster(ray or None, workers, device)


def image_rows(
    cluster: Cluster | None,
    backbone: Backbone,
    images: ImageCollection,
    reopen: Reopen,
    cache: DiskFeatureCache | None,
) -> Generator[np.ndarray | UserError, None, None]:
    """The feature (D,) of each image, float32, or the error about it, in order: on a cluster, or here without one."""
    from lsn_core.data.feature_stream import FeatureStream, unopened

    if cluster is None:
        rows = FeatureStream(backbone, cache).run(unopened(images), len(images))
    else:
        from lsn_core.cluster.features import cluster_rows

        rows = cluster_rows(cluster, backbone, images, reopen, cache)
    with closing(rows):
        for _, row in rows:
            yield row
