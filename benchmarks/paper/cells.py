"""What the paper's large-scale tables hold, row by row, and the cells that are measured for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.harness.protocols import IMAGENET
from lsn_core import UserError

BACKBONES = {
    "ViT-B/16": "ViT-B-16:openai",
    "ViT-B/32": "ViT-B-32:openai",
    "RN50x4": "RN50x4:openai",
    "RN50": "RN50:openai",
    "BLIP": "blip:Salesforce/blip-itm-base-coco",
}
"""What the paper's tables call a backbone -> its name here."""
SMALL, MIDDLE, LARGE, ALL = IMAGENET


@dataclass(frozen=True)
class Method:
    """How a row of the tables is made.

    Attributes:
        learns: "coop" or "cocoop" for prompts, "features" for a fit to images' features, "dualcoop"; "" for nothing.
        change: the row of Tables 4 and 5 (`training.presets.ABLATIONS`) that the prompts are learned as.
        score: of those that `scores` makes of a detector; for "features" a name in `methods.registry.METHODS`.
        needs: what it would need, where it is not run.
    """

    learns: str = ""
    change: str = "full"
    score: str = "mcm"
    needs: str = ""

    @property
    def has_preset(self) -> bool:
        return self.learns in ("coop", "cocoop", "dualcoop")


def _fitted(name: str) -> Method:
    return Method("features", score=name)


METHODS: dict[str, Method] = {
    "MCM": Method(),
    "MSP": _fitted("MSP"),
    "ODIN": _fitted("ODIN"),
    "Energy": _fitted("Energy"),
    "GradNorm": _fitted("GradNorm"),
    "ViM": _fitted("ViM"),
    "KNN": _fitted("KNN"),
    "NNGuide": _fitted("NNGuide"),
    "ASH": _fitted("ASH"),
    "LiNe": _fitted("LINe"),
    "VOS": _fitted("VOS (head alone)"),
    "VOS+": Method(needs="the image tower fine-tuned with virtual outliers; here the towers stay as they are"),
    "NPOS": Method(needs="the image tower fine-tuned with synthesised outliers; here the towers stay as they are"),
    "CLIPN": Method(needs='CLIPN\'s own "no" text encoder, which its authors trained on CC3M'),
    "ZOC": Method(needs="an image captioner trained on COCO captions; in the paper it is in Table 3 only"),
    "CoOp": Method("coop"),
    "CoCoOp": Method("cocoop"),
    "DualCoOp": Method("dualcoop"),
    "CoOp + LSN": Method("coop", score="lsn"),
    "CoCoOp + LSN": Method("cocoop", score="lsn"),
    "w/o positive prompts": Method("cocoop", score="written and negatives"),
    "w/o semantic orthogonality loss": Method("cocoop", "no-regulariser", "lsn"),
    "multi positive prompts": Method("cocoop", "multi-positive"),
    "pos-specific-w name": Method("cocoop", "pos-specific-name"),
    "pos-specific-w/o name": Method("cocoop", "pos-specific-no-name"),
    "neg-specific-w name": Method("cocoop", score="negatives-only"),
    "neg-shared-w name": Method("cocoop", "neg-shared-name", "negatives-only"),
    "neg-specific-w/o name": Method("cocoop", "neg-specific-no-name", "negatives-only"),
}
"""By name, in the order of the tables."""
MAIN = ("MCM", "CoOp", "CoCoOp", "CoOp + LSN", "CoCoOp + LSN")
"""What is crossed with every backbone and every set of classes by --all."""


@dataclass(frozen=True)
class Claim:
    """A row of the paper: where it stands, and which cell is measured beside it."""

    table: str
    row: str
    backbone: str
    classes: str
    method: str


def _claims() -> Iterator[Claim]:
    same = ("MCM", "MSP", "VOS", "NPOS", "CoOp", "CoCoOp", "CoOp + LSN", "CoCoOp + LSN")
    for row, method in [*zip(same, same, strict=True), ("Vim", "ViM")]:
        yield Claim("Table 1", row, "ViT-B/16", LARGE, method)
    for row, method in [*zip(same, same, strict=True), ("Vim", "ViM")]:
        yield Claim("Table 2", row, "ViT-B/16", ALL, method)
    for method in ("ODIN", "Energy", "GradNorm", "KNN", "VOS+", "CLIPN"):
        yield Claim("Table 2", method, "ViT-B/16", ALL, method)
    for row, method in (
        ("MCM", "MCM"),
        ("full model", "CoCoOp + LSN"),
        ("w/o positive prompts", "w/o positive prompts"),
        ("w/o negative prompts", "CoCoOp"),
        ("w/o semantic orthogonality loss", "w/o semantic orthogonality loss"),
        ("multi positive prompts", "multi positive prompts"),
    ):
        yield Claim("Table 4", row, "ViT-B/16", LARGE, method)
    for row in ("pos-specific", "pos-shared", "neg-specific", "neg-shared"):
        name = f"{row}-w name"
        yield Claim("Table 5", name, "ViT-B/16", LARGE, "CoCoOp" if row == "pos-shared" else name)
    for row in ("pos-specific-w/o name", "neg-specific-w/o name"):
        yield Claim("Table 5", row, "ViT-B/16", LARGE, row)
    for row, method in (("MCM", "MCM"), ("DualCoOp", "DualCoOp"), ("LSN", "CoCoOp + LSN")):
        yield Claim("Table 7", row, "RN50", LARGE, method)
    for row in ("MCM", "NNGuide", "ASH", "KNN", "LiNe", "LSN"):
        yield Claim("Table 8", row, "ViT-B/16", ALL, "CoCoOp + LSN" if row == "LSN" else row)
    for paper, backbone in (("RN50x4", "RN50x4"), ("CLIP-B/32", "ViT-B/32"), ("CLIP-B/16", "ViT-B/16")):
        yield Claim("Table 9", f"MCM/{paper}", backbone, LARGE, "MCM")
        yield Claim("Table 9", f"LSN/{paper}", backbone, LARGE, "CoCoOp + LSN")
    for method in ("MCM", "CoOp", "CoOp + LSN"):
        yield Claim("Table 10", method, "BLIP", LARGE, method)
    for classes in IMAGENET:
        yield Claim("Table 11", f"{classes}/MCM", "ViT-B/16", classes, "MCM")
        yield Claim("Table 11", f"{classes}/LSN", "ViT-B/16", classes, "CoCoOp + LSN")


CLAIMS = tuple(_claims())


@dataclass(frozen=True)
class Cell:
    """One measurement: a method on a backbone and a set of classes, by a preset and a seed where it has them."""

    backbone: str
    classes: str
    method: str
    preset: str | None = None
    seed: int | None = None

    @property
    def how(self) -> Method:
        return METHODS[self.method]

    @property
    def training(self) -> tuple[str, str, str, str, str | None, int | None]:
        """Cells that agree in it are measured on the same trained prompts, or the same fit."""
        return (self.backbone, self.classes, self.how.learns, self.how.change, self.preset, self.seed)

    @property
    def name(self) -> str:
        """For a file, and for a line of progress."""
        parts = [
            self.backbone,
            self.classes,
            self.method,
            self.preset,
            None if self.seed is None else f"seed{self.seed}",
        ]
        return "_".join(re.sub(r"[^\w+.-]+", "-", part) for part in parts if part is not None)


def choose_cells(
    backbones: Sequence[str],
    classes: Sequence[str],
    methods: Sequence[str],
    presets: Sequence[str],
    seeds: Sequence[int],
    everything: bool = False,
) -> list[Cell]:
    """The cells that these selections leave, those of one backbone together and small sets of classes first.

    Args:
        backbones, classes, methods: each empty for all that the paper has.
        everything: the whole cross of these and not only what the paper has a number for; without `methods`, of `MAIN`
            beside the paper's.

    Raises:
        UserError: nothing is left, or there is no such method.
    """
    for method in methods:
        if method not in METHODS:
            raise UserError(f"There is no method {method!r}. Known ones: {', '.join(METHODS)}.")
    wanted = {(claim.backbone, claim.classes, claim.method) for claim in CLAIMS}
    if everything:
        wanted |= set(product(backbones or list(BACKBONES), classes or list(IMAGENET), methods or MAIN))
    # A backbone that the paper has not takes the cells of its ViT-B/16.
    others = [backbone for backbone in backbones if backbone not in BACKBONES]
    wanted |= {(other, c.classes, c.method) for other in others for c in CLAIMS if c.backbone == "ViT-B/16"}
    chosen = [
        (backbone, kind, method)
        for backbone, kind, method in wanted
        if backbone in (backbones or BACKBONES) and kind in (classes or IMAGENET) and method in (methods or METHODS)
    ]
    if not chosen:
        raise UserError("The paper has no number for these backbones, classes and methods: add --all to cross them.")
    order = [*backbones, *BACKBONES], list(IMAGENET), list(METHODS)
    chosen.sort(key=lambda cell: tuple(names.index(part) for names, part in zip(order, cell, strict=True)))
    cells = [Cell(*names, preset, seed) for names in chosen for preset, seed in _runs(names[2], presets, seeds)]
    return list(_together(cells))


def _runs(method: str, presets: Sequence[str], seeds: Sequence[int]) -> list[tuple[str | None, int | None]]:
    how = METHODS[method]
    if not how.learns:
        return [(None, None)]
    return [(preset, seed) for preset in (presets if how.has_preset else (None,)) for seed in seeds]


def _together(cells: Iterable[Cell]) -> Iterator[Cell]:
    """Those of one training next to each other, at the place of the first."""
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((*cell.training, cell.how.needs and cell.method), []).append(cell)
    for group in groups.values():
        yield from group
