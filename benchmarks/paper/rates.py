"""What single steps cost on a machine, by trying a few: the rates that `plan` counts up.

On a CPU a step is tried on a few classes and counted up, as its cost is the text tower's on so many prompts; on a GPU,
which such a step would leave idle, on all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.harness.classifier import logistic_regression
from benchmarks.harness.protocols import imagenet_names
from benchmarks.harness.report import environment
from benchmarks.paper.cells import Cell
from benchmarks.paper.folders import class_list
from benchmarks.paper.scores import by_detector
from benchmarks.paper.wanted import Wanted
from lsn_core import Detector, UserError
from lsn_core.atomic import write_bytes
from lsn_core.backbones.backbone import Backbone
from lsn_core.data.images import open_image
from lsn_core.data.labelled import LabelledImages
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets
from lsn_core.training.config import PromptConfig, TrainConfig
from lsn_core.training.phase import Phase
from lsn_core.training.shots import Shots

TRIED = 10
"""Classes of a step that is tried on a CPU."""
ENCODED = 16
"""Images that are encoded to see how long one takes."""
_BATCH = 256  # cosines of so many images are scored at a time


@dataclass
class Rates:
    """Seconds of single steps of one backbone on one machine.

    Attributes:
        device: that they were measured on, and `machine` what it is.
        image: seconds to decode and encode an image.
        parameters: of the backbone; `dim` of its features.
        steps: kind of step -> seconds of one.
        activations: kind of step -> GiB that it keeps for its backward pass, as far as `memory_gib` lets it.
        score: classes -> seconds to score an image by prompts that are the same for all images.
        conditional: classes -> seconds to score one by prompts made for it.
        fit: seconds of a logistic regression for each image and class.
    """

    device: str
    machine: dict[str, Any]
    image: float
    parameters: int
    dim: int
    steps: dict[str, float] = field(default_factory=dict)
    activations: dict[str, float] = field(default_factory=dict)
    score: dict[str, float] = field(default_factory=dict)
    conditional: dict[str, float] = field(default_factory=dict)
    fit: float = 0.0


def measure_rates(backbone: Backbone, wanted: Wanted, cells: Sequence[Cell], images: LabelledImages | None) -> Rates:
    """Tries every kind of step that the cells take.

    Args:
        images: some of the images that will be encoded; None for made-up pictures of 500 x 375 pixels.
    """
    rates = Rates(
        device=str(backbone.device),
        machine=environment() | {"threads": torch.get_num_threads()},
        image=_image_seconds(backbone, images),
        parameters=sum(weight.numel() for weight in backbone.model.parameters()),
        dim=backbone.dim,
        fit=_fit_seconds(backbone.dim) if any(cell.how.learns == "features" for cell in cells) else 0.0,
    )
    trials = _Trials(backbone)
    for cell in cells:
        config, names = wanted.config(cell), names_of(cell.classes)
        if cell.how.has_preset:
            for kind, side in sides(cell, config):
                key = step_key(cell, kind, side, config)
                if key not in rates.steps:
                    rates.steps[key], rates.activations[key] = trials.step(config, kind, side, names)
        if cell.how.learns == "cocoop" and cell.classes not in rates.conditional:
            whole = wanted.config(replace(cell, method="CoCoOp + LSN"))
            rates.conditional[cell.classes] = trials.conditional(whole, names)
        if cell.classes not in rates.score:
            rates.score[cell.classes] = _score_seconds(backbone, names)
    return rates


def names_of(classes: str) -> list[str]:
    """Class names of one of the paper's settings."""
    titles = imagenet_names()
    return [titles[wnid] for wnid in class_list(classes)]


def sides(cell: Cell, config: TrainConfig) -> list[tuple[str, PromptConfig]]:
    """The kinds of prompts that a cell's training learns. DualCoOp's two are counted as positive ones."""
    if cell.how.learns == "dualcoop":
        return [("positive", replace(config.positive, sets=2))]
    both = (("positive", config.positive), ("negative", config.negative))
    return [(kind, side) for kind, side in both if side.sets]


def step_key(cell: Cell, kind: str, side: PromptConfig, config: TrainConfig) -> str:
    """Steps that agree in it take the same time."""
    sets = 1 if kind == "negative" and config.sets_in_turn else side.sets
    copies = side.batch_size if config.method == "cocoop" else 1
    whose = "specific" if side.class_specific else "shared"
    name = "name" if side.with_name else "no name"
    return f"{cell.classes}, {kind}, {copies * sets} sets, {whose}, {name}, {side.context_length} vectors"


def covers(rates: Rates, cell: Cell, wanted: Wanted) -> bool:
    """Whether every kind of step that a cell takes was tried."""
    config = wanted.config(cell)
    keys = [step_key(cell, kind, side, config) for kind, side in sides(cell, config)] if cell.how.has_preset else []
    if cell.how.learns == "cocoop" and cell.classes not in rates.conditional:
        return False
    fitted = cell.how.learns != "features" or rates.fit > 0
    return fitted and cell.classes in rates.score and all(key in rates.steps for key in keys)


def save_rates(path: Path, rates: dict[str, Rates]) -> None:
    """Writes rates, by what the tables call the backbone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: vars(rate) for name, rate in rates.items()}, indent=1) + "\n"
    write_bytes(path, text.encode())


def load_rates(path: Path) -> dict[str, Rates]:
    """Rates of a file that `save_rates` wrote, or of the entry "paper_rates" or "rates" of another JSON file."""
    found = json.loads(path.read_text())
    rates = found.get("paper_rates") or found.get("rates") or found
    return {name: Rates(**rate) for name, rate in rates.items()}


# -- trials ------------------------------------------------------------------------------------------------------------


def _seconds(run: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Of one run, after one that warms up."""
    # With one thread, the time of the processor: other work on the machine does not change it.
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = clock()
    for _ in range(times):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - begun) / times


def _image_seconds(backbone: Backbone, images: LabelledImages | None) -> float:
    number = ENCODED if backbone.device.type == "cpu" else 256
    backbone.expect(10_000)  # as in a run, so that the tower is compiled where that saves time
    chosen = [] if images is None else _readable(images, [index * len(images) // number for index in range(number)])
    if images is None or not chosen:
        pixels = torch.randint(256, (375, 500, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        pictures = [Image.fromarray(pixels.numpy())] * number
        return _seconds(lambda: backbone.encode_images(pictures), backbone.device) / number
    return _seconds(
        lambda: backbone.encode_images([open_image(images.read(index)) for index in chosen]), backbone.device
    ) / len(chosen)


def _readable(images: LabelledImages, chosen: Sequence[int]) -> list[int]:
    """Those that can be opened; what is wrong with the others is told when they are needed."""
    fine = []
    for index in chosen:
        try:
            open_image(images.read(index))
        except UserError:
            continue
        fine.append(index)
    return fine


class _Trials:
    """Steps that are tried, those of one kind once: on a CPU, few classes stand for all numbers of them."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.on_gpu = backbone, backbone.device.type == "cuda"
        self._per_class: dict[tuple[object, ...], float] = {}

    def step(self, config: TrainConfig, kind: str, side: PromptConfig, names: Sequence[str]) -> tuple[float, float]:
        """Seconds of a step, and GiB of its activations."""
        conditional = config.method == "cocoop"
        batch = 1 if conditional and not self.on_gpu else min(side.batch_size, _BATCH)
        times = side.batch_size // batch if conditional else 1
        sets = (1 if kind == "negative" and config.sets_in_turn else side.sets) * (batch if conditional else 1)

        def activations(classes: Sequence[str]) -> float:
            tokens = NameTokens.of(self.backbone, classes, side.context_length, side.with_name)
            tower = TextTower(self.backbone, tokens, config.memory_gib)
            return tower.activations_gib(sets, side.context_length if side.class_specific else 0)

        whole = activations(names) * times
        in_chunks = whole > config.memory_gib
        some = self._some(names)
        key = (len(some), in_chunks, conditional, kind, sets, side.class_specific, side.with_name, side.context_length)
        if key not in self._per_class:
            # In several chunks where the whole is, which costs another forward pass.
            memory = activations(some) / 2 if in_chunks and not self.on_gpu else config.memory_gib
            shots = _shots(self.backbone, len(some), batch)
            shorter, smaller = replace(side, batch_size=batch), replace(config, memory_gib=memory)
            phase = Phase(kind, shorter, smaller, some, self.backbone, shots)
            steps = count()
            seconds = _seconds(
                lambda: float(phase.step(next(steps) % phase.total)[0]), self.backbone.device, 5 if self.on_gpu else 1
            )
            self._per_class[key] = seconds / len(some)
        return self._per_class[key] * len(names) * times, min(whole, config.memory_gib)

    def conditional(self, config: TrainConfig, names: Sequence[str]) -> float:
        """Seconds to score an image by one positive and three negative prompts for each class, made for it."""
        some, backbone = self._some(names), self.backbone
        key = (len(some), "scoring")
        if key not in self._per_class:
            generator = torch.Generator().manual_seed(0)
            contexts: dict[str, torch.Tensor] = {}
            for kind, side in (("positive", config.positive), ("negative", config.negative)):
                classes = len(some) if side.class_specific else 1
                sets = PromptSets(side.sets, classes, side.context_length, backbone.width, generator, backbone.dim)
                contexts |= {f"{kind}.{name}": value for name, value in sets.state_dict().items()}
            text = F.normalize(
                torch.randn(1 + config.negative.sets, len(some), backbone.dim, generator=generator), dim=-1
            )
            detector = Detector(backbone, some, text[0], text[1:], config=config.to_dict(), contexts=contexts)
            images = 4 if self.on_gpu else 1
            features = F.normalize(torch.randn(images, backbone.dim, generator=generator), dim=-1)
            seconds = _seconds(lambda: detector.cosines(features), backbone.device)
            self._per_class[key] = seconds / images / len(some)
        return self._per_class[key] * len(names)

    def _some(self, names: Sequence[str]) -> Sequence[str]:
        """Names of all lengths."""
        return names if self.on_gpu else names[:: max(1, len(names) // TRIED)][:TRIED]


def _shots(backbone: Backbone, classes: int, batch: int) -> Shots:
    """Made-up features: what they are makes no difference to the time."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4 * max(classes, batch)) % classes  # a few steps in a pass
    features = F.normalize(torch.randn(len(labels), backbone.dim, generator=generator), dim=-1)
    return Shots(features, labels, features[:0], labels[:0])


def _score_seconds(backbone: Backbone, names: Sequence[str]) -> float:
    """To score an image by fixed prompts, as many as LSN has."""
    generator = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(4, len(names), backbone.dim, generator=generator), dim=-1)
    detector = Detector(backbone, names, text[0], text[1:], score_name="mcm")
    columns = by_detector(detector, ("mcm", "lsn", "negatives-only"))

    class Some:
        embedding = F.normalize(torch.randn(_BATCH, backbone.dim, generator=generator), dim=-1)

    return _seconds(lambda: columns(Some), torch.device("cpu")) / _BATCH  # type: ignore[arg-type]


def _fit_seconds(dim: int) -> float:
    """Of a logistic regression, for each image and class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 20
    features = F.normalize(
        torch.randn(20, dim, generator=generator)[labels] + torch.randn(320, dim, generator=generator), dim=-1
    )
    return _seconds(lambda: logistic_regression(features, labels, 10.0), torch.device("cpu")) / (320 * 20)
