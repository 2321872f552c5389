r"""The paper's tables and figures, each by one command.

    python -m benchmarks.tables table3 --data DIR          # any of the names below, or several, or all
    python -m benchmarks.tables table1 --backbone ViT-B-16:openai \
        --id-root IMAGENET --ood-root OOD --protocols ImageNet-100
    python -m benchmarks.tables table10 --backbone blip:Salesforce/blip-itm-base-coco --data DIR

Without --id-root and --ood-root, the large-scale tables use small stand-ins from --data: Imagenette against flowers,
SUN scenes, MiniPlaces and textures. Each command writes NAME.csv, NAME_details.csv (every single measurement),
NAME.json (seed, versions, backbone hash, seconds) and NAME.png to benchmarks/results/. Image features and trained
detectors are kept in --cache: a table that is made again, or that shares detectors with another, takes them from there.
"""

from __future__ import annotations

import argparse
import sys
from copy import copy
from functools import partial
from pathlib import Path

from benchmarks.harness.options import add_options, show_progress, whole_numbers
from benchmarks.harness.protocols import IMAGENET, ZOC
from benchmarks.harness.units import OnCluster, here
from benchmarks.tables.makers import TABLES, make_table
from benchmarks.tables.table import Maker
from lsn_core import UserError
from lsn_core.backbones.blip_loading import PREFIX as BLIP
from lsn_core.cluster.address import chosen_address


def main() -> None:
    """Makes the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*TABLES, "all"])
    add_options(parser)
    parser.add_argument("--id-root", type=Path, help="ImageNet-like folder with train and val, each of class folders")
    parser.add_argument("--ood-root", type=Path, help="folder with one folder of images for each OOD set")
    parser.add_argument(
        "--protocols",
        help=f"comma-separated: of table3 ({', '.join(ZOC)}; default: all) or of --id-root ({', '.join(IMAGENET)})",
    )
    parser.add_argument(
        "--methods", help="comma-separated, default: all but CoCoOp; table3 keeps what was measured of others"
    )
    parser.add_argument("--backbones", default="", help="table9: comma-separated; default: --backbone")
    parser.add_argument(
        "--classes", type=whole_numbers, help="table11: numbers of known classes, comma-separated; default: 10 to 200"
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="measure on a Ray cluster whose machines all see --data and --cache: auto, HOST:PORT or ray://HOST:PORT; "
        "without an address that of RAY_ADDRESS, or a Ray of this machine's own",
    )
    options = parser.parse_args()
    show_progress()
    try:
        everything = [name for name in TABLES if name != "table10" or options.backbone.startswith(BLIP)]
        for name in everything if "all" in options.names else options.names:
            options.run = here
            if options.ray is not None:
                chosen_address(options.ray)
                options.run = OnCluster(options.ray or None, partial(make_table, name, copy(options)))
            TABLES[name](Maker(name, options))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
