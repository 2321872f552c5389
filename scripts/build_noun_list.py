"""Writes benchmarks/data/nouns.txt: nouns of visible things, from which NegLabel mines.

    apt-get install wordnet-base
    python -m scripts.build_noun_list

WordNet's nouns whose first sense is a visible thing, the likeliest to be asked for first: the words that the embedded
model's text tower was taught.
"""

import argparse
from pathlib import Path

from timm.data import ImageNetInfo

from scripts.embedded_clip.wordnet import find_wordnet, load_wordnet, wnid_offset
from scripts.embedded_clip.words import choose_nouns

OUT = Path(__file__).resolve().parents[1] / "benchmarks" / "data" / "nouns.txt"
NOTICE = """\
# Nouns of visible things, one a line, in alphabetical order; from WordNet 3.0, by scripts/build_noun_list.py.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
# Licence: https://wordnet.princeton.edu/license-and-commercial-use
"""


def main() -> None:
    """Reads WordNet and writes the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nouns", type=int, default=20_000)
    options = parser.parse_args()
    wnids = [wnid_offset(wnid) for wnid in ImageNetInfo("imagenet-1k").label_names()]
    nouns = choose_nouns(load_wordnet(find_wordnet()), wnids, options.nouns)
    OUT.write_text(NOTICE + "\n".join(sorted(name for name, _ in nouns)) + "\n")


if __name__ == "__main__":
    main()
