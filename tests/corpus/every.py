"""All cases of the corpus."""

from __future__ import annotations

from pathlib import Path

from lsn_core import Backbone
from tests.corpus.calls import call_cases
from tests.corpus.case import Case
from tests.corpus.detectors import Maker, detector_cases
from tests.corpus.hostile_images import image_cases
from tests.corpus.requests import request_cases
from tests.corpus.texts import text_cases
from tests.corpus.tools import tool_cases
from tests.corpus.transport import transport_cases


def every_case(backbone: Backbone, folder: Path) -> list[Case]:
    """All of them.

    Args:
        backbone: that detector files are made for.
        folder: an empty one, where files may be made.
    """
    maker = Maker(backbone.name, backbone.weights_hash, backbone.dim)
    files = [*image_cases(), *text_cases(), *detector_cases(maker)]
    return [*files, *request_cases(), *transport_cases(), *call_cases(folder), *tool_cases()]
