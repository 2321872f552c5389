"""Backbones to begin with: a few of open_clip's two hundred, with what each is good for; light, for pages and help."""

from __future__ import annotations

from dataclasses import dataclass

from lsn_core.errors import UserError
from lsn_core.shipped import EMBEDDED

_BASE_GIB = 0.75  # of Python, torch and open_clip themselves
_WORKING = 1.25  # weights and what a batch of photos leaves between layers, in units of the weights


@dataclass(frozen=True)
class Suggestion:
    """A backbone to begin with.

    Attributes:
        name: as `load_backbone` takes it.
        good_for: what it is good for, one sentence.
        source: who made it, paper.
        licence: of its weights, as `catalogue.facts_of` has it with its source.
        parameters: of both towers.
        image_size: pixels of a side.
        on_cpu: whether its image tower is small enough for a CPU; larger ones want a GPU.
        needs: the extra that its texts need; None for none.
        only_for: what alone the licence allows, such as "research"; None where it sets no such limit.
    """

    name: str
    good_for: str
    source: str
    licence: str
    parameters: int
    image_size: int
    on_cpu: bool
    needs: str | None = None
    only_for: str | None = None

    @property
    def terms(self) -> str:
        """Its licence in words: 'MIT', 'apple-amlr, for research only'."""
        return f"{self.licence}, for {self.only_for} only" if self.only_for else self.licence

    @property
    def weights_gib(self) -> float:
        """Memory of its weights in fp32, GiB."""
        return self.parameters * 4 / 2**30

    @property
    def memory_gib(self) -> float:
        """About what encoding and scoring take in all, GiB; learning prompts takes `TrainConfig.memory_gib` more."""
        return _BASE_GIB + _WORKING * self.weights_gib


SUGGESTIONS: tuple[Suggestion, ...] = (
    Suggestion(
        EMBEDDED,
        "A first try without a download; it knows far less than a real CLIP.",
        "this project",
        "Apache-2.0",
        26_398_465,
        224,
        True,
    ),
    Suggestion(
        "ViTamin-S:datacomp1b",
        "The least memory of those that know the world; convolutions first, attention behind them.",
        "ViTamin, Chen et al., 2024",
        "MIT",
        62_469_185,
        224,
        True,
    ),
    Suggestion(
        "MobileCLIP2-S0:dfndr2b",
        "Made for small devices, and fast on them.",
        "MobileCLIP2, Faghri et al., 2025",
        "apple-amlr",
        74_835_073,
        256,
        True,
        only_for="research",
    ),
    Suggestion(
        "MobileCLIP2-S2:dfndr2b",
        "The next size of those made for small devices.",
        "MobileCLIP2, Faghri et al., 2025",
        "apple-amlr",
        99_243_329,
        256,
        True,
        only_for="research",
    ),
    Suggestion(
        "ViT-B-16:openai",
        "The paper's own backbone: what its numbers are compared on.",
        "CLIP, Radford et al., 2021",
        "MIT",
        149_620_737,
        224,
        True,
    ),
    Suggestion(
        "ViT-B-16:dfn2b",
        "The architecture of OpenAI's ViT-B/16 learned from better chosen pictures: the same cost.",
        "DFN, Fang et al., 2023",
        "apple-amlr",
        149_620_737,
        224,
        True,
        only_for="research",
    ),
    Suggestion(
        "ViT-B-32:laion2b_s34b_b79k",
        "Few and large pieces of a photo: fast, and small things are lost on it.",
        "OpenCLIP, Cherti et al., 2023",
        "MIT",
        151_277_313,
        224,
        True,
    ),
    Suggestion(
        "RN50x4:openai",
        "A convolutional tower, whose heat maps come from its last map as in the papers on them.",
        "CLIP, Radford et al., 2021",
        "MIT",
        178_300_601,
        288,
        True,
    ),
    Suggestion(
        "ViT-B-16-SigLIP2:webli",
        "Trained with a sigmoid: each class has a probability of its own (the score sigmoid).",
        "SigLIP 2, Tschannen et al., 2025",
        "Apache-2.0",
        375_187_970,
        224,
        True,
        "transformers",
    ),
    Suggestion(
        "ViT-L-14-quickgelu:dfn2b",
        "A large model at 224 pixels, for a small GPU.",
        "DFN, Fang et al., 2023",
        "apple-amlr",
        427_616_513,
        224,
        False,
        only_for="research",
    ),
    Suggestion(
        "PE-Core-B-16:meta",
        "A recent general model, with a large text tower behind a small image tower.",
        "Perception Encoder, Bolya et al., 2025",
        "Apache-2.0",
        447_660_545,
        224,
        True,
    ),
    Suggestion(
        "PE-Core-L-14-336:meta",
        "A large model at 336 pixels: small things are seen.",
        "Perception Encoder, Bolya et al., 2025",
        "Apache-2.0",
        671_138_817,
        336,
        False,
    ),
    Suggestion(
        "ViT-SO400M-16-SigLIP2-384:webli",
        "A large model with a sigmoid, at 384 pixels.",
        "SigLIP 2, Tschannen et al., 2025",
        "Apache-2.0",
        1_136_039_602,
        384,
        False,
        "transformers",
    ),
)
"""By size, not by accuracy: of the downloaded ones this project has measured none on photos."""

_CHOICE = {  # what is taken, the last that fits; only what may be used for everything
    "cpu": (EMBEDDED, "ViTamin-S:datacomp1b", "ViT-B-32:laion2b_s34b_b79k", "PE-Core-B-16:meta"),
    "gpu": (
        EMBEDDED,
        "ViTamin-S:datacomp1b",
        "ViT-B-32:laion2b_s34b_b79k",
        "PE-Core-B-16:meta",
        "PE-Core-L-14-336:meta",
    ),
}


def suggestion(name: str) -> Suggestion | None:
    """The suggestion of that name; None for other backbones."""
    return next((one for one in SUGGESTIONS if one.name == name), None)


def suggest_backbone(memory_gib: float, device: str = "cpu") -> Suggestion:
    """The largest suggested backbone that fits, without an extra to install and with a licence that sets no purpose.

    Args:
        memory_gib: what is free for it, of the device; above 0.
        device: 'cpu', 'cuda', ...; for a CPU, large image towers are left out.

    Raises:
        UserError: not even the embedded one fits.
    """
    side = "cpu" if device.startswith("cpu") else "gpu"
    fitting = [one for one in SUGGESTIONS if one.name in _CHOICE[side] and one.memory_gib <= memory_gib]
    if not fitting:
        least = SUGGESTIONS[0].memory_gib
        raise UserError(
            f"No backbone runs in {memory_gib:g} GiB: the least is {SUGGESTIONS[0].name}, in {least:.1f} GiB."
        )
    return fitting[-1]
