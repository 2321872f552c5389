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
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.options import add_options, show_progress, whole_numbers
from benchmarks.harness.protocols import IMAGENET, ZOC
from benchmarks.tables.figure7 import figure7
from benchmarks.tables.figures9_12 import figures9to12
from benchmarks.tables.table import Maker
from benchmarks.tables.table1 import table1
from benchmarks.tables.table3 import table3
from benchmarks.tables.table4_5 import table4, table5
from benchmarks.tables.table7 import table7
from benchmarks.tables.table9 import table9
from benchmarks.tables.table10 import table10
from benchmarks.tables.table11 import table11
from lsn_core import UserError
from lsn_core.backbones.blip_loading import PREFIX as BLIP


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
    options = parser.parse_args()
    show_progress()
    try:
        everything = [name for name in TABLES if name != "table10" or options.backbone.startswith(BLIP)]
        for name in everything if "all" in options.names else options.names:
            TABLES[name](Maker(name, options))
    except UserError as error:
        sys.exit(str(error))


TABLES: dict[str, Callable[[Maker], None]] = {
    "table3": table3,
    "table1": table1,
    "table4": table4,
    "table5": table5,
    "table7": table7,
    "table9": table9,
    "table10": table10,
    "table11": table11,
    "figure7": figure7,
    "figures9-12": figures9to12,
}


if __name__ == "__main__":
    main()
