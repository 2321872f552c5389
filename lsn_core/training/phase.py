"""One kind of prompt, positive or negative, and its updates step by step."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lsn_core.backbones.backbone import Backbone
from lsn_core.losses import negative_loss, orthogonality, positive_loss, set_orthogonality
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets
from lsn_core.training.config import PromptConfig, TrainConfig
from lsn_core.training.shots import Shots


class Phase:
    """Positive or negative prompts being learned.

    Sets learned at once are one learner with one optimizer; sets learned in turn have one each.

    Args:
        kind: "positive" or "negative".
        fold: which fold of hidden classes it is learned for, on the other classes; None for the detector itself.
    """

    def __init__(
        self,
        kind: str,
        settings: PromptConfig,
        config: TrainConfig,
        names: Sequence[str],
        backbone: Backbone,
        shots: Shots,
        fold: int | None = None,
    ) -> None:
        self.kind, self.settings, self.config, self.fold = kind, settings, config, fold
        self.name = kind if fold is None else f"fold{fold}.{kind}"
        self.temperature = settings.tau(backbone.temperature)
        self.device = backbone.device
        self.features, self.labels = shots.features.to(self.device), shots.labels.to(self.device)
        tokens = NameTokens.of(backbone, names, settings.context_length, settings.with_name)
        self.tower = TextTower(backbone, tokens, config.memory_gib)
        in_turn = kind == "negative" and config.sets_in_turn
        count, sets = (settings.sets, 1) if in_turn else (1, settings.sets)
        generator = torch.Generator().manual_seed(_seed(config.seed, self.name, "initial contexts"))
        classes = len(names) if settings.class_specific else 1
        image_dim = backbone.dim if config.method == "cocoop" else None
        self.learners = [
            PromptSets(sets, classes, settings.context_length, backbone.width, generator, image_dim).to(self.device)
            for _ in range(count)
        ]
        self.optimizers = [_optimizer(learner, settings) for learner in self.learners]
        self.batches = settings.batches(len(self.labels))
        self.steps = settings.updates or settings.epochs * self.batches  # of each learner
        self.total = self.steps * count
        # Kept for the pass over the images that they belong to; None before the first.
        self._order: tuple[int, Tensor] | None = None  # (pass, order of the images in it)
        self._others: tuple[int, Tensor] | None = None  # (pass, text features of the sets not in turn)

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """One update, step in [0, total); returns loss and accuracy of its batch, scalars."""
        this_pass, batch = divmod(step, self.batches)
        epoch, turn = divmod(this_pass, len(self.learners))
        chosen = self._batch(this_pass, batch)
        x, y = self.features[chosen], self.labels[chosen]
        learner, optimizer = self.learners[turn], self.optimizers[turn]
        for group in optimizer.param_groups:
            group["lr"] = self._learning_rate(epoch, epoch * self.batches + batch)
        others = self._other_sets(this_pass, turn)
        optimizer.zero_grad(set_to_none=True)
        loss, cosines = self._loss(self.encode(learner, x), x, y, others)
        loss.backward()
        optimizer.step()
        mean = cosines.detach().mean(dim=1)  # (N, C)
        best = mean.argmax(dim=-1) if self.kind == "positive" else mean.argmin(dim=-1)
        return loss.detach(), (best == y).float().mean()

    def encode(self, learner: PromptSets, x: Tensor) -> Tensor:
        """Text features: (K, C, D), or (N, K, C, D) for contexts that depend on the images x (N, D)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            text = self.tower.encode(learner(x))
        return text.unflatten(0, (len(x), -1)) if learner.conditional else text

    def _loss(self, text: Tensor, x: Tensor, y: Tensor, others: Tensor | None) -> tuple[Tensor, Tensor]:
        config, temperature = self.config, self.temperature
        pattern = "nd,kcd->nkc" if text.ndim == 3 else "nd,nkcd->nkc"
        cosines = torch.einsum(pattern, x, text)
        if self.kind == "positive":
            return positive_loss(cosines, y, temperature, config.loss_on), cosines
        loss = negative_loss(cosines, y, temperature, config.loss_on)
        if config.reg_weight:
            apart = (
                orthogonality(text, config.reg) if others is None else set_orthogonality(text[0], others, config.reg)
            )
            loss = loss + config.reg_weight * apart
        return loss, cosines

    def _batch(self, this_pass: int, batch: int) -> Tensor:
        if self._order is None or self._order[0] != this_pass:
            # From the seed and the pass alone, so that a resumed run draws the same.
            generator = torch.Generator().manual_seed(_seed(self.config.seed, self.name, this_pass))
            self._order = this_pass, torch.randperm(len(self.labels), generator=generator).to(self.device)
        size = self.settings.batch_size
        return self._order[1][batch * size : (batch + 1) * size]

    @torch.no_grad()
    def _other_sets(self, this_pass: int, turn: int) -> Tensor | None:
        if len(self.learners) == 1:
            return None
        if self._others is None or self._others[0] != this_pass:
            others = [self.encode(other, self.features) for i, other in enumerate(self.learners) if i != turn]
            self._others = this_pass, torch.cat(others)
        return self._others[1]

    def _learning_rate(self, epoch: int, step: int) -> float:
        """Along a cosine from lr to 0, by epochs or by steps."""
        passes = self.settings.passes(len(self.labels))
        done = step / self.steps if self.settings.lr_per_step else epoch / passes
        return 0.5 * self.settings.lr * (1.0 + math.cos(math.pi * done))

    # -- state ---------------------------------------------------------------------------------------------------------

    def prompts(self) -> dict[str, Tensor]:
        """Learned tensors by name, all sets together."""
        states = [learner.state_dict() for learner in self.learners]
        return {name: torch.cat([state[name] for state in states]).detach().cpu() for name in states[0]}

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs of this phase."""
        tensors: dict[str, Tensor] = {}
        for i, (learner, optimizer) in enumerate(zip(self.learners, self.optimizers, strict=True)):
            tensors |= {f"{self.name}.{i}.{name}": value for name, value in learner.state_dict().items()}
            for parameter, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    if isinstance(value, Tensor):
                        tensors[f"{self.name}.{i}.optimizer.{parameter}.{key}"] = value
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` gave. Raises KeyError, ValueError or RuntimeError where it does not fit."""
        for i, (learner, optimizer) in enumerate(zip(self.learners, self.optimizers, strict=True)):
            start = f"{self.name}.{i}."
            own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            learner.load_state_dict({k: v for k, v in own.items() if not k.startswith("optimizer.")})
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in own.items():
                if name.startswith("optimizer."):
                    _, parameter, key = name.split(".")
                    state.setdefault(int(parameter), {})[key] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _optimizer(learner: PromptSets, settings: PromptConfig) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            learner.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    return torch.optim.Adam(learner.parameters(), settings.lr, weight_decay=settings.weight_decay)


def _seed(*parts: object) -> int:
    """A seed of its own for each random choice of a run."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:7], "big")
