"""Makes the pictures of docs/heat-maps.md, and the verdicts above them: `python -m scripts.gallery`.

Each is one photo of assets/examples as one detector sees it: the map of the positive prompt of the class that it is
nearest to, and those of the class's negative prompts, all on one scale. What is seen in them is written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.report import replace_section
from lsn_core import Backbone, Detector, Prediction, examples, explain, load_backbone
from lsn_core.data.images import open_image
from lsn_core.heatmaps.overlay import panel
from lsn_core.shipped import DETECTORS_DIR

PAGE = Path(__file__).resolve().parents[1] / "docs" / "heat-maps.md"
PICTURES = PAGE.with_suffix("")
QUALITY = 82


@dataclass(frozen=True)
class Case:
    """One photo before one detector: a shipped one by name, or class names for a zero-shot one."""

    photo: str
    detector: str

    @property
    def name(self) -> str:
        """What its picture and its place on the page are called."""
        return f"{self.photo}-{self.detector.replace(',', '-')}".replace("_", "-")


CASES = (
    Case("church", "imagenette"),
    Case("school_bus", "everyday"),
    Case("dog", "dog,cat,elephant"),
    Case("guitar", "imagenette"),
    Case("zebra", "everyday"),
    Case("hot_air_balloon", "imagenette"),
    Case("dog", "everyday"),
    Case("hot_air_balloon", "dog,cat,elephant"),
)


def main() -> None:
    """Writes docs/heat-maps/*.jpg and the verdicts of the page."""
    backbone = load_backbone("embedded", "cpu")
    PICTURES.mkdir(exist_ok=True)
    for case in CASES:
        detector, path = opened(case.detector, backbone), examples()[case.photo]
        (prediction,) = detector.predict([path])
        maps = explain(detector, path, class_name=prediction.predicted_class)
        picture = panel(open_image(path), maps, columns=len(maps.targets))
        picture.save(PICTURES / f"{case.name}.jpg", quality=QUALITY, optimize=True)
        replace_section(PAGE, case.name, caption(case, prediction))


def opened(detector: str, backbone: Backbone) -> Detector:
    """The detector of a case."""
    if "," in detector:
        return Detector.zero_shot(backbone, detector.split(","))
    return Detector.load(DETECTORS_DIR / f"{detector}.safetensors", backbone)


def caption(case: Case, prediction: Prediction) -> str:
    """The verdict in words, and the picture."""
    which = (
        f"the names {case.detector.replace(',', ', ')}" if "," in case.detector else f"the detector `{case.detector}`"
    )
    verdict = f"{prediction.predicted_class}" if prediction.verdict == "ID" else "none of the classes"
    numbers = f"score {prediction.score:.2f}, threshold {prediction.threshold:.2f}"
    nearest = "" if prediction.verdict == "ID" else f", nearest {prediction.predicted_class}"
    words = f"`{case.photo}.jpg` and {which}: **{verdict}**{nearest} ({numbers})."
    return f"{words}\n\n![{case.photo}, {verdict}]({PICTURES.name}/{case.name}.jpg)"


if __name__ == "__main__":
    main()
