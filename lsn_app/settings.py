"""How the app is set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lsn_app.startup import LOCAL_HOSTS
from lsn_core.shipped import DETECTORS_DIR, EMBEDDED


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
        hosts: names under which the page is served; None for any.
        frames: origins of others that may show the page in a frame.
        proxied: a proxy in front says by X-Forwarded-For whose request it is.
        metrics: whether Prometheus finds numbers at /metrics.
        compiling: whether image towers are compiled for the CPU while the page is up.
        notices: sentences to stand above the page, such as what was set aside when it was started.
    """

    backbone: str = EMBEDDED
    public: bool = False
    detectors_dir: Path = DETECTORS_DIR
    data_dir: Path | None = None
    queue_url: str | None = None
    address: str = ""
    source: str = ""
    hosts: tuple[str, ...] | None = LOCAL_HOSTS
    frames: tuple[str, ...] = ()
    proxied: bool = False
    metrics: bool = False
    compiling: bool = False
    notices: tuple[str, ...] = ()
