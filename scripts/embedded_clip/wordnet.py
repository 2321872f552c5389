"""WordNet's nouns, read from the files of Debian's package wordnet-base (an ImageNet wnid is a synset offset)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

# Lexicographer files whose nouns can be seen in a photo: animal, artifact, body, food, object, person, phenomenon,
# plant, shape, substance, and groups, places and events for scenes.
VISIBLE = {5, 6, 8, 13, 17, 18, 19, 20, 25, 27, 14, 15, 11}
PATHS = (Path("/usr/share/wordnet"), Path("/usr/share/wordnet-3.0/dict"))


@dataclass(frozen=True)
class Synset:
    """One meaning: its names (spaces, not underscores), gloss and the offsets of its parents."""

    offset: int
    file: int
    names: tuple[str, ...]
    gloss: str
    parents: tuple[int, ...]
    is_instance: bool


@dataclass
class WordNet:
    """Synsets by offset, the senses of each name in WordNet's order of use, and children of each synset."""

    synsets: dict[int, Synset]
    senses: dict[str, list[int]]
    tagged: dict[str, int]
    children: dict[int, list[int]] = field(default_factory=dict)

    def ancestors(self, offset: int) -> dict[int, int]:
        """All synsets above `offset`, itself included, with the smallest number of steps to each."""
        found, frontier = {offset: 0}, [offset]
        while frontier:
            current = frontier.pop(0)
            for parent in self.synsets[current].parents:
                if parent not in found:
                    found[parent] = found[current] + 1
                    frontier.append(parent)
        return found


def find_wordnet() -> Path:
    """Folder of WordNet's files; raises FileNotFoundError that says how to get them."""
    for path in PATHS:
        if (path / "data.noun").is_file():
            return path
    raise FileNotFoundError("WordNet's noun files are missing: install Debian's wordnet-base, or pass --wordnet DIR")


@lru_cache(maxsize=1)
def load_wordnet(folder: Path) -> WordNet:
    """Reads data.noun and index.noun."""
    synsets = {}
    for line in (folder / "data.noun").read_text().splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition(" | ")
        parts = head.split()
        count = int(parts[3], 16)
        names = tuple(parts[4 + 2 * i].replace("_", " ") for i in range(count))
        at = 4 + 2 * count
        pointers = [(parts[at + 1 + 4 * i], int(parts[at + 2 + 4 * i])) for i in range(int(parts[at]))]
        synsets[int(parts[0])] = Synset(
            int(parts[0]),
            int(parts[1]),
            names,
            gloss.split('; "')[0].strip(),
            tuple(offset for symbol, offset in pointers if symbol in ("@", "@i")),
            any(symbol == "@i" for symbol, _ in pointers),
        )
    senses, tagged = {}, {}
    for line in (folder / "index.noun").read_text().splitlines():
        if line.startswith("  "):
            continue
        parts = line.split()
        count = int(parts[2])
        name = parts[0].replace("_", " ")
        senses[name] = [int(p) for p in parts[-count:]]
        tagged[name] = int(parts[-count - 1])
    net = WordNet(synsets, senses, tagged)
    for synset in synsets.values():
        for parent in synset.parents:
            net.children.setdefault(parent, []).append(synset.offset)
    return net


def wnid_offset(wnid: str) -> int:
    """'n02084071' -> 2084071."""
    return int(wnid[1:])
