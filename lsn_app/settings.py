"""How the app is set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lsn_core.backbones.loading import EMBEDDED
from lsn_core.shipped import DETECTORS_DIR


@dataclass(frozen=True)
class Settings:
    """How the app is set up.

    Attributes:
        backbone: the name of the backbone that the page starts with.
        public: whether strangers use it; then backbones are limited to a fixed list.
        detectors_dir: where the shipped detectors are.
        data_dir: where training jobs are kept; None for a page without them.
        queue_url: address of a Redis server for the job queue, or None for SQLite.
        address: where the page is served, such as https://example.org; for previews of links to it.
        source: address of its code, to be linked to.
    """

    backbone: str = EMBEDDED
    public: bool = False
    detectors_dir: Path = DETECTORS_DIR
    data_dir: Path | None = None
    queue_url: str | None = None
    address: str = ""
    source: str = ""
