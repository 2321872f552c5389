"""The licences of open_clip's weights, as those who publish them state them; `licences.json` names the sources."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

TABLE = "licences.json"
"""Each statement, with the repositories on the Hugging Face Hub that it is about; nothing in it is a guess."""

_OPEN_CLIP = "https://github.com/mlfoundations/open_clip/blob/main/src/open_clip/pretrained.py"


@dataclass(frozen=True)
class Licence:
    """What is stated of the licence of some weights.

    Attributes:
        repositories: whose weights: ORG/REPO on the Hub, with * and ? for a family.
        licence: an SPDX identifier, or the Hub's own name where there is none.
        source: address of the statement.
        only_for: "research" or "non-commercial use" where the licence allows nothing else.
        note: where sources disagree, or what else they say.
    """

    repositories: list[str]
    licence: str
    source: str
    only_for: str | None = None
    note: str | None = None

    def covers(self, repository: str) -> bool:
        """Whether it is about that ORG/REPO."""
        return any(fnmatchcase(repository, pattern) for pattern in self.repositories)


def licence_of(pretrained: dict[str, Any]) -> Licence | None:
    """The licence of a pretrained model's weights; None where it is unknown.

    Args:
        pretrained: what `open_clip.get_pretrained_cfg` says; a licence in it comes before the table's.
    """
    repository = "/".join(pretrained.get("hf_hub", "").split("/")[:2])
    known = next((one for one in statements() if one.covers(repository)), None)
    own = pretrained.get("license")
    if own and (known is None or own.lower() != known.licence.lower()):
        return Licence([repository], own, _OPEN_CLIP)
    return known and replace(known, source=known.source.format(repository=repository))


@cache
def statements() -> tuple[Licence, ...]:
    """All that the table holds."""
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return tuple(Licence(**row) for row in json.loads(text))
