"""What a link to the Detect tab asks for: `?detector=imagenette&tpr=0.9&example=dog.jpg`, or `?classes=dog,cat`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lsn_app.detect.calibration_panel import HIGHEST, LOWEST
from lsn_app.serving.requests import ZERO_SHOT
from lsn_app.shared.address import read_rate

_LONGEST = 10_000


@dataclass(frozen=True)
class Link:
    """What a link asks for; None where it does not say, or what it says cannot be had.

    Attributes:
        classes: class names as typed.
        label: of the detector; ZERO_SHOT where the link has classes of its own.
        backbone: name of the backbone.
        tpr: wanted true positive rate.
        example: file name of an example photo.
        wrong: sentences on what cannot be had; empty where all can.
    """

    classes: str | None
    label: str | None
    backbone: str | None
    tpr: float | None
    example: str | None
    wrong: str


def read_link(
    query: Mapping[str, str], labels: Collection[str], backbones: Collection[str], examples: Collection[str]
) -> Link:
    """Reads the parameters of an address.

    Args:
        labels, backbones, examples: those that there are, the examples by their file names.
    """
    asked = {name: str(value)[:_LONGEST] for name, value in query.items()}
    wrong = []

    def known(name: str, among: Collection[str], sentence: str) -> str | None:
        if name in asked and asked[name] not in among:
            wrong.append(sentence.format(asked[name]))
        return asked[name] if asked.get(name) in among else None

    label = known("detector", labels, "The link names a detector, “{}”, that is not here: it may be somebody's own.")
    backbone = known("backbone", backbones, "The link names a CLIP model, “{}”, that is not offered here.")
    example = known("example", examples, "The link names an example photo, “{}”, that is not here.")
    rate = read_rate(asked.get("tpr"), LOWEST, HIGHEST)
    if rate is None and "tpr" in asked:
        wrong.append(f"The link's share of known photos, “{asked['tpr']}”, is not between {LOWEST} and {HIGHEST}.")
    classes = asked.get("classes")
    own = ZERO_SHOT if classes is not None else None
    return Link(classes, label or own, backbone, rate, example, " ".join(wrong))
