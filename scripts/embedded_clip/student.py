"""Training of the text tower on captions and their directions."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor
from tqdm import tqdm

from scripts.embedded_clip.captions import CaptionSampler

log = logging.getLogger(__name__)

TEMPERATURE = 0.05
EVERY = 100  # steps between checkpoints


def encode(model: CLIP, tokens: Tensor, eot: Tensor, noise: int = 0) -> Tensor:
    """Unit-length text features (B, D); the first `noise` tokens after the start are replaced by random vectors."""
    n = tokens.shape[1]
    x = model.token_embedding(tokens)  # (B, n, W)
    if noise:
        # As wide as fresh contexts (0.02) and as the trained embeddings, and widths between.
        spread = 0.02 * 10 ** (1.0 * torch.rand(len(x), 1, 1, device=x.device))
        x = torch.cat([x[:, :1], torch.randn_like(x[:, 1 : 1 + noise]) * spread, x[:, 1 + noise :]], dim=1)
    x = model.transformer(x + model.positional_embedding[:n], attn_mask=model.attn_mask[:n, :n])
    x = model.ln_final(x[torch.arange(len(x), device=x.device), eot])
    return F.normalize(x.float() @ model.text_projection, dim=-1)


def train_text_tower(
    model: CLIP,
    sampler: CaptionSampler,
    bank: Tensor,
    device: str,
    steps: int,
    checkpoint: Path,
    learning_rate: float = 1.5e-3,
    stop_after: int | None = None,
) -> None:
    """Fits the text tower in place: its features should point where the captions' directions do, and rank `bank` alike.

    Args:
        bank: anchors (L, D) whose similarities are compared, so that errors that change a ranking cost most.
        checkpoint: written every `EVERY` steps and at the end; a run that finds it goes on from there, with the same
            result as one that was never interrupted.
        stop_after: leaves off at this step, as an interruption would.
    """
    model.to(device).train()
    parts = [model.transformer, model.ln_final, model.token_embedding]
    weights = [p for part in parts for p in part.parameters()] + [model.positional_embedding, model.text_projection]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in weights:
        parameter.requires_grad_(True)
    decay = [p for p in model.transformer.parameters() if p.ndim > 1]
    rest = [p for p in weights if not any(p is d for d in decay)]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.06)
    bank = F.normalize(bank, dim=-1).to(device)
    first = 0
    if checkpoint.exists():
        stored = torch.load(checkpoint, map_location=device, weights_only=True)
        for parameter, value in zip(weights, stored["weights"], strict=True):
            parameter.data.copy_(value)
        optimizer.load_state_dict(stored["optimizer"])
        schedule.load_state_dict(stored["schedule"])
        sampler.restore(stored["sampler"])
        torch.set_rng_state(stored["random"].cpu())
        first = stored["step"]
    last = steps if stop_after is None else stop_after
    running: dict[str, float] = {}
    for step in tqdm(range(first, last), initial=first, total=steps, desc="text tower", mininterval=5):
        batch = sampler.draw()
        target = batch.target.to(device)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            features = encode(model, batch.tokens.to(device), batch.eot.to(device), batch.noise)
        features = features.float()
        cosine = (features * target).sum(-1)
        wanted = F.softmax(target @ bank.T / TEMPERATURE, dim=-1)
        found = F.log_softmax(features @ bank.T / TEMPERATURE, dim=-1)
        loss = 2.0 * (1 - cosine).mean() + F.kl_div(found, wanted, reduction="batchmean")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        for name, value in (("loss", loss.item()), ("cosine", cosine.mean().item())):
            running[name] = 0.98 * running.get(name, value) + 0.02 * value
        done = step + 1
        if done % EVERY == 0 or done == steps:
            log.info("text tower: %d of %d steps, loss %.4f, cosine %.3f", done, steps, *running.values())
            state = {
                "step": done,
                "weights": [weight.detach() for weight in weights],
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "sampler": sampler.state(),
                "random": torch.get_rng_state(),
            }
            save_state(state, checkpoint)
    model.eval()


def save_state(state: dict[str, Any], path: Path) -> None:
    """Writes so that an interruption leaves either the old file or the whole new one."""
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)
