"""All cases of the corpus, and what limits the memory of a process that tries them."""

from __future__ import annotations

import resource
from pathlib import Path

from lsn_core import Backbone
from tests.corpus.calls import call_cases
from tests.corpus.case import Case
from tests.corpus.detectors import Maker, detector_cases
from tests.corpus.hostile_images import image_cases
from tests.corpus.requests import request_cases
from tests.corpus.texts import text_cases
from tests.corpus.transport import transport_cases

SPARE = 3 * 2**29  # bytes of addresses that a program may take above those it has once it is loaded


def every_case(backbone: Backbone, folder: Path) -> list[Case]:
    """All of them.

    Args:
        backbone: that detector files are made for.
        folder: an empty one, where files may be made.
    """
    maker = Maker(backbone.name, backbone.weights_hash, backbone.dim)
    files = [*image_cases(), *text_cases(), *detector_cases(maker)]
    return [*files, *request_cases(), *transport_cases(), *call_cases(folder)]


def limit_memory(process: int | None = None, spare: int = SPARE) -> None:
    """Lets a process, by default this one, take so many bytes more than it has. Does nothing where that can't be told.

    What asks for more gets a MemoryError.
    """
    about = Path(f"/proc/{process or 'self'}/status")
    if not about.exists():
        return
    (line,) = [line for line in about.read_text().splitlines() if line.startswith("VmSize:")]
    most = int(line.split()[1]) * 1024 + spare
    resource.prlimit(process or 0, resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
