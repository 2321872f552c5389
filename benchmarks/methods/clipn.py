"""CLIPN's two scores (Wang et al., 2023) on written or learned prompts."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from benchmarks.harness.images import Images, Scorer
from benchmarks.harness.setting import Setting
from lsn_core import Detector


def clipn(score: Callable[[Tensor, Tensor], Tensor], detector: Callable[[Setting], Detector]) -> Callable[..., Scorer]:
    """One of CLIPN's two scores (Wang et al., 2023) on the prompts of a detector.

    A class's "no" is its share in the softmax over the pair of its positive and negative prompt, at the model's own
    temperature, averaged over the K sets. CLIPN itself fine-tunes a second text encoder on CC3M for its negative
    prompts, which is not done here.
    """

    def fit(setting: Setting) -> Scorer:
        prompts, temperature = detector(setting), setting.backbone.temperature

        def scorer(images: Images) -> Tensor:
            positive, negative = images.cosines(prompts)
            no = ((negative - positive[:, None]) / temperature).sigmoid().mean(dim=1)  # (N, C)
            return score(positive.div(temperature).softmax(dim=-1), no)

        return scorer

    return fit


def competing_to_win(yes: Tensor, no: Tensor) -> Tensor:
    """CLIPN's CTW: how little the best class (N, C) is denied. Shape (N,), in [0, 1]."""
    return 1 - no.gather(1, yes.argmax(dim=-1, keepdim=True))[:, 0]


def agreeing_to_differ(yes: Tensor, no: Tensor) -> Tensor:
    """CLIPN's ATD: the probability left to the known classes when each is denied by its "no". Shape (N,), in [0, 1]."""
    return ((1 - no) * yes).sum(dim=-1)
