"""One kind of prompt, positive or negative, and its updates step by step."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lsn_core.backbones.backbone import Backbone
from lsn_core.losses import negative_loss, orthogonality, positive_loss, set_orthogonality
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets
from lsn_core.training.captured import CapturedStep
from lsn_core.training.config import PromptConfig, TrainConfig
from lsn_core.training.shards import Shards
from lsn_core.training.shots import Shots

_CAPTURE_PAYS = 20  # steps to go, from which on a GPU the time of capturing one is won back


class Phase:
    """Positive or negative prompts being learned.

    Sets learned at once are one learner with one optimizer; sets learned in turn have one each.

    Args:
        kind: "positive" or "negative".
        fold: which fold of hidden classes it is learned for, on the other classes; None for the detector itself.
        shards: the processes that the classes are divided over; None learns all of them here.
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
        shards: Shards | None = None,
    ) -> None:
        self.kind, self.settings, self.config, self.fold = kind, settings, config, fold
        self.name = kind if fold is None else f"fold{fold}.{kind}"
        self.temperature = settings.tau(backbone.temperature)
        self.device = backbone.device
        self.features, self.labels = shots.features.to(self.device), shots.labels.to(self.device)
        self.shards, self.classes = shards or Shards(), len(names)
        self.bounds = self.shards.bounds(self.classes)
        own = self.shards.own(self.classes)
        tokens = NameTokens.of(backbone, names[own], settings.context_length, settings.with_name)
        self.tower = TextTower(backbone, tokens, config.memory_gib, precision=config.precision)
        in_turn = kind == "negative" and config.sets_in_turn
        count, sets = (settings.sets, 1) if in_turn else (1, settings.sets)
        generator = torch.Generator().manual_seed(_seed(config.seed, self.name, "initial contexts"))
        classes = len(names) if settings.class_specific else 1
        image_dim = backbone.dim if config.method == "cocoop" else None
        self.learners = []
        for _ in range(count):
            learner = PromptSets(sets, classes, settings.context_length, backbone.width, generator, image_dim)
            if settings.class_specific and not self.shards.alone:
                learner.contexts = nn.Parameter(learner.contexts.detach()[:, own].clone())
            self.learners.append(learner.to(self.device))
        self.optimizers = [_optimizer(learner, settings) for learner in self.learners]
        self.batches = settings.batches(len(self.labels))
        self.steps = settings.updates or settings.epochs * self.batches  # of each learner
        self.total = self.steps * count
        # Kept for the pass over the images that they belong to; None before the first.
        self._order: tuple[int, Tensor] | None = None  # (pass, order of the images in it)
        self._others: tuple[int, Tensor] | None = None  # (pass, text features of the sets not in turn)
        self._captured: dict[int, CapturedStep] = {}  # by turn

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
        loss, accuracy = self._gradients(step, turn, x, y, others, self._classes(y, this_pass, batch))
        shared = [p for name, p in learner.named_parameters() if not self._is_divided(name)]
        self.shards.sum_gradients(shared)
        optimizer.step()
        return loss, accuracy

    def _gradients(
        self, step: int, turn: int, x: Tensor, y: Tensor, others: Tensor | None, classes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Leaves the gradients of a step in the learner in turn; its loss and accuracy."""
        learner = self.learners[turn]

        def run(x: Tensor, y: Tensor, others: Tensor | None) -> tuple[Tensor, Tensor]:
            loss, cosines = self._loss(self.encode(learner, x, classes), x, y, others)
            loss.backward()
            mean = cosines.detach().mean(dim=1)  # (N, C)
            best = mean.argmax(dim=-1) if self.kind == "positive" else mean.argmin(dim=-1)
            return loss.detach(), (best == y).float().mean()

        if classes is not None:
            y = torch.searchsorted(classes, y)
            others = None if others is None else others[:, classes]
        whole = self.device.type == "cuda" and self.shards.alone and classes is None and not self.tower.plain
        if whole and len(x) == min(self.settings.batch_size, len(self.labels)):
            if turn not in self._captured and self.total - step >= _CAPTURE_PAYS * len(self.learners):
                self._captured[turn] = CapturedStep(run, list(learner.parameters()), x, y, others)
            if turn in self._captured:
                found = self._captured[turn](x, y, others)
                if step + 1 == self.total:
                    self._captured.clear()  # gives its memory back
                return found
        learner.zero_grad(set_to_none=True)
        return run(x, y, others)

    def encode(self, learner: PromptSets, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """Text features of all classes, or of these (ascending indices, shape (C',)).

        Returns:
            Shape (K, C, D), or (N, K, C, D) for contexts that depend on the images x (N, D).
        """
        contexts = learner(x)  # (S, own classes or 1, L, W)
        if classes is None:
            text = self.tower.encode(contexts)
            counts = [end - start for start, end in pairwise(self.bounds)]
        else:
            places = torch.searchsorted(classes, torch.tensor(self.bounds, device=classes.device)).tolist()
            counts = [end - start for start, end in pairwise(places)]
            mine = classes[places[self.shards.rank] : places[self.shards.rank + 1]] - self.bounds[self.shards.rank]
            if self.settings.class_specific:
                contexts = contexts[:, mine]
            none = contexts.new_zeros(len(contexts), 0, self.features.shape[-1]) + 0 * contexts.sum()  # with gradients
            text = self.tower.encode(contexts, mine) if len(mine) else none
        text = self.shards.gather(text, counts, dim=1)
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
            # A sum over the classes of a step stands for that over all of them.
            share = text.shape[-2] / self.classes if config.reg == "sum_abs" else 1.0
            loss = loss + config.reg_weight / share * apart
        return loss, cosines

    def _batch(self, this_pass: int, batch: int) -> Tensor:
        if self._order is None or self._order[0] != this_pass:
            # From the seed and the pass alone, so that a resumed run draws the same.
            generator = torch.Generator().manual_seed(_seed(self.config.seed, self.name, this_pass))
            self._order = this_pass, torch.randperm(len(self.labels), generator=generator).to(self.device)
        size = self.settings.batch_size
        return self._order[1][batch * size : (batch + 1) * size]

    def _classes(self, y: Tensor, this_pass: int, batch: int) -> Tensor | None:
        """The classes of a step: those of its images, filled up at random; None for all."""
        most = self.config.classes_per_step
        if most is None or most >= self.classes:
            return None
        own = y.unique().cpu()
        generator = torch.Generator().manual_seed(_seed(self.config.seed, self.name, "classes", this_pass, batch))
        rest = torch.ones(self.classes, dtype=torch.bool)
        rest[own] = False
        others = rest.nonzero().flatten()
        drawn = others[torch.randperm(len(others), generator=generator)[: max(0, most - len(own))]]
        return torch.cat([own, drawn]).sort().values.to(self.device)

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
        states = [self._whole(learner.state_dict()) for learner in self.learners]
        return {name: torch.cat([state[name] for state in states]).detach().cpu() for name in states[0]}

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs of this phase."""
        tensors: dict[str, Tensor] = {}
        for i, (learner, optimizer) in enumerate(zip(self.learners, self.optimizers, strict=True)):
            own = dict(learner.state_dict())
            names = [name for name, _ in learner.named_parameters()]
            for parameter, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    if isinstance(value, Tensor):
                        own[f"optimizer.{parameter}.{key}"] = value
            divided = {key for key, value in own.items() if self._is_divided(_name_of(key, names)) and value.ndim}
            tensors |= {f"{self.name}.{i}.{key}": value for key, value in self._whole(own, divided).items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` gave. Raises KeyError, ValueError or RuntimeError where it does not fit."""
        part = self.shards.own(self.classes)
        for i, (learner, optimizer) in enumerate(zip(self.learners, self.optimizers, strict=True)):
            start = f"{self.name}.{i}."
            own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            names = [name for name, _ in learner.named_parameters()]
            own = {
                key: value[:, part] if self._is_divided(_name_of(key, names)) and value.ndim else value
                for key, value in own.items()
            }
            learner.load_state_dict({k: v for k, v in own.items() if not k.startswith("optimizer.")})
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in own.items():
                if name.startswith("optimizer."):
                    _, parameter, key = name.split(".")
                    state.setdefault(int(parameter), {})[key] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

    def _is_divided(self, name: str) -> bool:
        """Whether a process has its own classes' part of that parameter only."""
        return not self.shards.alone and self.settings.class_specific and name == "contexts"

    def _whole(self, tensors: dict[str, Tensor], divided: Collection[str] = ("contexts",)) -> dict[str, Tensor]:
        """The same with the parts of all processes put together, (K, C, ...)."""
        if self.shards.alone or not self.settings.class_specific:
            return tensors
        counts = [end - start for start, end in pairwise(self.bounds)]
        return {
            name: self.shards.gather(value.detach(), counts, dim=1) if name in divided else value
            for name, value in tensors.items()
        }


def _name_of(key: str, names: Sequence[str]) -> str:
    """Of which parameter a tensor of a checkpoint is: "contexts", or "optimizer.0.exp_avg" for the first one's."""
    return names[int(key.split(".")[1])] if key.startswith("optimizer.") else key


def _optimizer(learner: PromptSets, settings: PromptConfig) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            learner.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    return torch.optim.Adam(learner.parameters(), settings.lr, weight_decay=settings.weight_decay)


def _seed(*parts: object) -> int:
    """A seed of its own for each random choice of a run."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:7], "big")
