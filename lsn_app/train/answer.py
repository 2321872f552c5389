"""From what the Train tab asks for to a job in the queue."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lsn_app.serving.store import Store
from lsn_app.shared.examples import load_examples
from lsn_core import TrainConfig, UserError
from lsn_core.class_names import fold_name
from lsn_core.data.layout import Wanted
from lsn_core.jobs import Job, Jobs
from lsn_core.jobs.inspection import inspect
from lsn_core.jobs.storage.files import TRAINING_SPLIT
from lsn_core.training.presets import get_preset

_ARCHIVES = (".zip", ".parquet")
OOD_EXAMPLES, OOD_OWN, OOD_NONE = "the example photos", "my own photos", "nothing"


@dataclass(frozen=True)
class TrainRequest:
    """What a job is to do.

    Attributes:
        data: the uploaded photos of the classes, a zip or Parquet file; None while there are none.
        split: of `data`, where there are several; None where it has none.
        preset: name of the recipe.
        shots: most photos of a class to use.
        ood: what to measure against, OOD_EXAMPLES, OOD_OWN or OOD_NONE.
        ood_data: the uploaded files for OOD_OWN: photos, or one zip or Parquet file.
        name: of the job; empty for that of the file.
        method: coop or cocoop.
        sets: K, negative prompts for each class.
        seed: of all that is random.
        backbone: its name.
    """

    data: Path | None
    split: str | None
    preset: str
    shots: int
    ood: str
    ood_data: tuple[Path, ...]
    name: str
    method: str
    sets: int
    seed: int
    backbone: str

    @property
    def config(self) -> TrainConfig:
        """How to train. Raises UserError for settings that cannot be."""
        config = get_preset(self.preset, self.method, shots=self.shots, seed=self.seed)
        return replace(config, negative=replace(config.negative, sets=self.sets))


def submit(store: Store, jobs: Jobs, owner: str, request: TrainRequest) -> Job:
    """Takes a job in. Raises UserError for what cannot be done."""
    if request.data is None:
        raise UserError("Upload the photos of your classes first.")
    if request.ood == OOD_OWN and not request.ood_data:
        raise UserError("Upload the photos to measure against, or choose something else there.")
    if store.public and request.backbone not in store.choices:
        raise UserError(f"This server runs only these backbones: {', '.join(store.choices)}.")
    with _ood_photos(jobs, request, request.data) as ood:
        return jobs.submit(
            request.data,
            owner,
            request.config,
            backbone=request.backbone,
            name=request.name.strip() or None,
            ood=ood,
            ood_name="the example photos" if request.ood == OOD_EXAMPLES else None,
            wanted=Wanted(request.split, TRAINING_SPLIT.guess),
        )


@contextmanager
def together(files: Sequence[Path]) -> Iterator[Path]:
    """One zip or Parquet file as it is, or loose photos in a folder of their own.

    Raises:
        UserError: archives beside other files.
    """
    if any(file.suffix.lower() in _ARCHIVES for file in files):
        if len(files) > 1:
            raise UserError("Give either photos or one zip or Parquet file to measure against, not both.")
        yield files[0]
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(files):
            shutil.copy(file, Path(folder) / f"{number:05d}-{file.name}")
        yield Path(folder)


@contextmanager
def _ood_photos(jobs: Jobs, request: TrainRequest, data: Path) -> Iterator[Path | None]:
    """The photos to measure against. Examples named like one of the classes are left out."""
    if request.ood == OOD_NONE:
        yield None
        return
    if request.ood == OOD_OWN:
        with together(request.ood_data) as path:
            yield path
        return
    known = {fold_name(name) for name in inspect(data, data.name, jobs.limits, most=1, split=request.split).classes}
    with tempfile.TemporaryDirectory() as folder:
        for example in load_examples():
            if fold_name(example.label) not in known:
                shutil.copy(example.path, folder)
        yield Path(folder)
