"""How a detector is trained: validated configs, the three presets and the paper's ablations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from lsn_core.errors import UserError
from lsn_core.losses import LossOn, Regulariser

OPTIMIZERS = ("sgd", "adam")
METHODS = ("coop", "cocoop")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class PromptConfig:
    """How one kind of prompt, positive or negative, is built and learned.

    Attributes:
        sets: K; 0 learns none. More than one positive set makes an ensemble (the paper's "multi positive prompts").
        context_length: L, learned vectors before the class name.
        class_specific: a context for each class, or one shared by all.
        with_name: the class name at the end, or left out.
        relative_temperature: τ of the training softmax in units of the backbone's own temperature: the paper's 0.01 and
            0.05 are 1 and 5 of its CLIP's.
        temperature: τ itself, whatever the backbone; None for `relative_temperature`.
        optimizer: "sgd" or "adam".
        lr: initial learning rate, falling to 0 along a cosine.
        momentum: of SGD.
        weight_decay: L2.
        epochs: passes over the training images.
        updates: steps in all, whatever the number of images; None for `epochs`.
        batch_size: images a step; all of them where there are fewer.
        lr_per_step: the cosine advances each step, rather than each epoch.
    """

    sets: int = 1
    context_length: int = 16
    class_specific: bool = False
    with_name: bool = True
    relative_temperature: float = 1.0
    temperature: float | None = None
    optimizer: str = "sgd"
    lr: float = 0.002
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 50
    updates: int | None = None
    batch_size: int = 8
    lr_per_step: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self.sets >= 0, "sets", self.sets, "0 or more")
        _check(self.context_length >= 1, "context_length", self.context_length, "1 or more")
        _check(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        _check(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _check(self.updates is None or self.updates >= 1, "updates", self.updates, "1 or more, or None for epochs")
        _check(0 < self.relative_temperature < math.inf, "relative_temperature", self.relative_temperature, "above 0")
        if self.temperature is not None:
            _check(0 < self.temperature < math.inf, "temperature", self.temperature, "above 0")
            _check(
                self.relative_temperature == 1, "relative_temperature", self.relative_temperature, "left out beside τ"
            )
        _check(0 < self.lr < math.inf, "lr", self.lr, "above 0")
        _check(0 <= self.momentum < 1, "momentum", self.momentum, "at least 0 and below 1")
        _check(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "0 or more")
        _check(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}")
        if not self.class_specific and not self.with_name and self.sets:
            raise UserError(
                "A shared context without class names makes the same prompt for every class. Set class_specific or "
                "with_name."
            )

    def tau(self, own: float) -> float:
        """τ of the training softmax on a backbone whose own temperature is `own`."""
        return self.relative_temperature * own if self.temperature is None else self.temperature

    def passes(self, images: int) -> int:
        """Passes over so many images, the last of which may be cut short."""
        return self.epochs if self.updates is None else math.ceil(self.updates / self.batches(images))

    def batches(self, images: int) -> int:
        """Steps in a pass over so many images."""
        return math.ceil(images / self.batch_size)


def _check(fine: bool, name: str, value: object, wanted: str) -> None:
    if not fine:
        raise UserError(f"The setting {name} must be {wanted}, not {value!r}.")


_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "bool": (bool,),
    "str": (str,),
    "int | None": (int, type(None)),
    "str | None": (str, type(None)),
    "PromptConfig": (PromptConfig,),
}


def _check_types(config: Any) -> None:
    for item in fields(config):
        value, wanted = getattr(config, item.name), _TYPES.get(str(item.type))
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            raise UserError(f"The setting {item.name} must be of type {item.type}, not {value!r}.")


NEGATIVE_PAPER = PromptConfig(
    sets=3, class_specific=True, relative_temperature=5.0, optimizer="adam", lr=0.001, epochs=100, batch_size=8
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, beside the images and the backbone.

    Attributes:
        preset: the preset it began as, for the record.
        method: "coop" (fixed contexts) or "cocoop" (contexts that depend on the image through a Meta-Net).
        shots: most images per class, drawn by seed; None for all.
        calibration_share: share of the shots held out from training to calibrate the detector, in [0, 1).
        seed: of every random choice.
        positive: the positive prompts. With 0 sets the hand-written "a photo of a {}" names the class, and the score is
            that of the negative prompts alone (Table 4).
        negative: the negative prompts. With 0 sets the score is MCM (Table 4).
        loss_on, reg: see `objectives`.
        reg_weight: λ of Eq. 8.
        sets_in_turn: within each epoch, train one negative set after the other, the rest fixed, as the authors' code
            does; else all at once.
        precision: "fp32", or "bf16" for the products of the text tower, on a GPU or a CPU that has it; the loss is
            in fp32 always.
        classes_per_step: for lists of many classes: a step's loss is over the classes of its images and others drawn
            at random, so many in all. None for all classes.
        memory_gib: for the text tower's activations; above it, classes are run in chunks.
        score_name: score of the detector; None for the paper's own for such prompts, or the chosen one.
        choose_score: choose the score on folds of hidden classes (`training.choice`) where `score_name` is None. With
            too few classes or photos for folds it is that of names alone.

    Examples:
        >>> from dataclasses import replace
        >>> from lsn_core import TrainConfig, get_preset
        >>> config = replace(get_preset("paper"), seed=1)
        >>> TrainConfig.from_dict(config.to_dict()) == config
        True
    """

    preset: str = "paper"
    method: str = "coop"
    shots: int | None = 128
    calibration_share: float = 0.2
    seed: int = 0
    positive: PromptConfig = field(default_factory=PromptConfig)
    negative: PromptConfig = field(default_factory=lambda: NEGATIVE_PAPER)
    loss_on: LossOn = "logits"
    reg: Regulariser = "sum_abs"
    reg_weight: float = 0.1
    sets_in_turn: bool = False
    precision: str = "fp32"
    memory_gib: float = 3.0
    score_name: str | None = None
    choose_score: bool = False
    classes_per_step: int | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self.method in METHODS, "method", self.method, f"one of {', '.join(METHODS)}")
        _check(self.shots is None or self.shots >= 1, "shots", self.shots, "1 or more, or None for all")
        _check(0 <= self.calibration_share < 1, "calibration_share", self.calibration_share, "at least 0 and below 1")
        _check(self.seed >= 0, "seed", self.seed, "0 or more")
        _check(self.loss_on in get_args(LossOn), "loss_on", self.loss_on, f"one of {', '.join(get_args(LossOn))}")
        _check(self.reg in get_args(Regulariser), "reg", self.reg, f"one of {', '.join(get_args(Regulariser))}")
        _check(0 <= self.reg_weight < math.inf, "reg_weight", self.reg_weight, "0 or more")
        _check(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        few = self.classes_per_step
        _check(few is None or few >= 2, "classes_per_step", few, "2 or more, or None for all")
        _check(0 < self.memory_gib < math.inf, "memory_gib", self.memory_gib, "above 0")
        if not self.positive.sets and not self.negative.sets:
            raise UserError("There is nothing to learn: positive and negative prompts both have 0 sets.")
        if self.sets_in_turn and self.negative.updates is not None:
            raise UserError("Sets that are trained in turn take whole passes. Set epochs, and updates to null.")
        if self.method == "cocoop" and self.sets_in_turn:
            raise UserError("The sets of method 'cocoop' are trained at once. Set sets_in_turn to false.")

    @property
    def score(self) -> str:
        """Name of the detector's score, where none is chosen."""
        return self.score_name or self.paper_score

    @property
    def paper_score(self) -> str:
        """Name of the paper's own score for such prompts."""
        if not self.negative.sets:
            return "mcm"
        return "lsn" if self.positive.sets else "negatives-only"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back.

        Settings that version 0.1 did not have are left out where they change nothing, so that its runs go on.
        """
        values = asdict(self)
        for prompts in (values["positive"], values["negative"]):
            for name in ("relative_temperature",) if prompts["temperature"] is not None else ("temperature",):
                del prompts[name]
            if prompts["updates"] is None:
                del prompts["updates"]
        if not self.choose_score:
            del values["choose_score"]
        if self.classes_per_step is None:
            del values["classes_per_step"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The config of these values, the rest at their defaults. Raises UserError for an unknown or wrong one."""
        values = dict(values)
        for name in ("positive", "negative"):
            if isinstance(values.get(name), dict):
                values[name] = _build(PromptConfig, values[name], f"{name}.")
        return _build(cls, values, "")


def _build(kind: Callable[..., Any], values: dict[str, Any], where: str) -> Any:
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - known):
        raise UserError(f"There is no setting {where}{unknown[0]}. Known ones: {', '.join(sorted(known))}.")
    return kind(**values)
