"""Writes lsn_core/prompts/nouns.txt: nouns of visible things, which NegLabel holds against the known classes.

    apt-get install wordnet-base
    python -m scripts.build_noun_list

WordNet's nouns whose first sense is a visible thing, the likeliest to be asked for first. With hidden known classes,
the first 4,000 served better than 20,000, and than 4,000 of those at random. Behind each stand the other names of what
it is and of its kinds, as a poodle says nothing against "dog".
"""

import argparse
from pathlib import Path

from timm.data import ImageNetInfo

from scripts.embedded_clip.wordnet import WordNet, find_wordnet, load_wordnet, wnid_offset
from scripts.embedded_clip.words import choose_nouns

OUT = Path(__file__).resolve().parents[1] / "lsn_core" / "prompts" / "nouns.txt"
NOTICE = """\
# Nouns of visible things, one a line, in alphabetical order, and behind a tab what else each is called and what it is a
# kind of; from WordNet 3.0, by scripts/build_noun_list.py.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
# Licence: https://wordnet.princeton.edu/license-and-commercial-use
"""
ABOVE_ALL = {"entity", "physical entity", "abstraction", "abstract entity", "object", "physical object", "whole"}


def kinds(net: WordNet, noun: str, offset: int) -> list[str]:
    """Other names of the noun's synset, then names of the synsets above it, the nearest first."""
    above = sorted(net.ancestors(offset).items(), key=lambda item: (item[1], item[0]))
    names = dict.fromkeys(name.lower() for synset, _ in above for name in net.synsets[synset].names)
    return [name for name in names if name not in ABOVE_ALL | {noun.lower()}]


def main() -> None:
    """Reads WordNet and writes the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nouns", type=int, default=4_000)
    options = parser.parse_args()
    wnids = [wnid_offset(wnid) for wnid in ImageNetInfo("imagenet-1k").label_names()]
    net = load_wordnet(find_wordnet())
    lines = sorted(f"{name}\t{', '.join(kinds(net, name, at))}" for name, at in choose_nouns(net, wnids, options.nouns))
    OUT.write_text(NOTICE + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
