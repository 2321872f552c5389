"""A program that has numbers squared on a cluster for as long as that is there: endless_squares.py ADDRESS FOLDER."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from support_ray import Squaring

from lsn_core.cluster import head as heads
from lsn_core.cluster.address import connected
from lsn_core.errors import UserError


def main(address: str, folder: str) -> int:
    """Prints each square; the exit code is that of commands, 2 for what users can put right."""
    heads._GONE_AFTER, heads._EVERY = 2.0, 0.5
    try:
        with connected(address) as ray, (head := heads.Head(ray, address)).explained():
            for squares in Squaring(Path(folder)).crew(1, head=head).run([number] for number in itertools.count(1000)):
                print(squares, flush=True)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
