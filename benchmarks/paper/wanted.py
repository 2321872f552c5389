"""What a run is asked for, beside its cells: where things lie, and how prompts are trained and measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.paper.cells import ALL, BACKBONES, Cell
from lsn_core import get_preset
from lsn_core.training.config import PromptConfig, TrainConfig
from lsn_core.training.presets import ablate

SHOTS, SHOTS_OF_ALL = 128, 64
"""Labelled images of each class; of ImageNet-1k's, half as many."""
WHOLE = 10**6  # larger than any training set: all images in one batch


@dataclass(frozen=True)
class Wanted:
    """Settings of a run.

    Attributes:
        out: folder of everything that it writes.
        names: what the tables call a backbone -> the name that `load_backbone` takes.
        shots: labelled images of each class; None for the paper's.
        shorten: updates of each kind of prompt instead of the preset's; None for the preset's. Not the paper's then.
        cocoop_images: most test images of either side for prompts that are made for each image; None for all.
        precision, memory_gib: see `TrainConfig`.
    """

    out: Path
    names: dict[str, str] = field(default_factory=lambda: dict(BACKBONES))
    device: str = "auto"
    shots: int | None = None
    shorten: int | None = None
    cocoop_images: int | None = None
    precision: str = "fp32"
    memory_gib: float = 3.0

    def config(self, cell: Cell) -> TrainConfig:
        """How the cell's prompts are trained; of a method without prompts, its labelled images and its seed.

        No image is held out for a calibration, and the score is the paper's own rather than chosen. Raises UserError
        for an unknown preset.
        """
        how = cell.how
        shots = self.shots
        if shots is None:
            shots = SHOTS_OF_ALL if cell.classes == ALL else SHOTS
        config = get_preset(
            cell.preset or "paper",
            "cocoop" if how.learns == "cocoop" else "coop",
            shots=shots,
            seed=cell.seed or 0,
            calibration_share=0.0,
            choose_score=False,
            precision=self.precision,
            memory_gib=self.memory_gib,
        )
        return self._shortened(ablate(config, how.change))

    def _shortened(self, config: TrainConfig) -> TrainConfig:
        if self.shorten is None:
            return config
        few: dict[str, Any] = {"updates": self.shorten}
        # Sets that are trained in turn take whole passes: so many of one batch each.
        turns: dict[str, Any] = {"epochs": self.shorten, "batch_size": WHOLE} if config.sets_in_turn else few

        def short(side: PromptConfig, changes: dict[str, Any]) -> PromptConfig:
            return replace(side, **changes) if side.sets else side

        return replace(config, positive=short(config.positive, few), negative=short(config.negative, turns))

    @property
    def facts(self) -> dict[str, Any]:
        """What decides a cell's numbers beside its config, its backbone and its images."""
        return {"shorten": self.shorten, "cocoop_images": self.cocoop_images}
