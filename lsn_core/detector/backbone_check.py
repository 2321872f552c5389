"""Whether the backbone at hand is the function that a detector file was made with."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from lsn_core.backbones.backbone import Backbone
from lsn_core.backbones.identity import PLAIN, QUICK, activation_of, differences
from lsn_core.detector.prompts import ensemble
from lsn_core.errors import UserError
from lsn_core.prompts.encoder import TextTower
from lsn_core.prompts.learned import NameTokens, PromptSets
from lsn_core.prompts.written import fill

log = logging.getLogger(__name__)

SETTINGS = "backbone_settings"
"""Metadata of a detector file: `Backbone.settings`. Files of earlier versions have none."""

_SAMPLE = 4  # classes whose prompts are encoded again, for a file that does not say what ran them
_SAME = 2e-5  # 1 - cosine of equal prompts, encoded on another device or in other company


def check_backbone(file: str, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Refuses a backbone on which a detector's prompts and threshold would mean nothing.

    A file of an earlier version says only which weights it was made with. Some of its prompts are then encoded again:
    where GELU and QuickGELU differ, what is stored shows which of them ran.

    Args:
        file: the detector's name, for errors.
        metadata, tensors: as `read_detector_file` returns them.

    Raises:
        UserError: other weights, or the same weights run as another function; says which and what to do.
    """
    made_with = metadata["backbone"]
    again = (
        f"make the detector anew from its training images with `python -m lsn_core train DATA --backbone "
        f"{backbone.name} --out {file}`."
    )
    if backbone.weights_hash != metadata["weights_hash"]:
        raise UserError(
            f"{file} was made with {made_with} (weights {metadata['weights_hash'][:12]}), but the backbone at hand is "
            f"{backbone.name} (weights {backbone.weights_hash[:12]}). Its scores would mean nothing there: load that "
            f"backbone, or {again}"
        )
    settings = metadata.get(SETTINGS)
    if isinstance(settings, dict):
        problem = _unequal(settings, backbone)
    else:
        problem = _other_activation(metadata, tensors, backbone)
    if problem:
        raise UserError(
            f"{file} was made with the weights of {backbone.name}, but run differently: {problem}. Its scores would "
            f"mean nothing here: load the backbone as it was, {_as_it_was(made_with)}, or {again}"
        )


def _unequal(wanted: Mapping[str, Any], backbone: Backbone) -> str:
    """How settings differ, as part of a sentence; empty where they do not."""
    unequal = differences(wanted, backbone.settings)
    libraries = [name for name in unequal if " libraries " in name]
    parts = [name for name in unequal if name.endswith((" structure", " tower"))]
    telling = [name for name in unequal if name not in libraries and not (libraries and name in parts)]
    if parts and not telling:  # another release of a library may build the same function of other parts
        log.warning(
            "The detector was made with other releases of libraries, which build this backbone of other parts: %s. "
            "Where its verdicts look wrong, train it again.",
            _listed(unequal, libraries),
        )
    return _listed(unequal, telling[:4])


def _listed(unequal: Mapping[str, tuple[Any, Any]], names: Sequence[str]) -> str:
    return "; ".join(f"{name} was {_said(unequal[name][0])} and is {_said(unequal[name][1])}" for name in names)


def _said(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in text[:80])  # security: it is from a file


def _as_it_was(name: str) -> str:
    arch, colon, file = name.partition(":")
    if not colon or not file.endswith(".safetensors") or arch.startswith(("hf-hub", "local-dir")):
        return f"{name} with the settings that it had"
    plain = arch.removesuffix("-quickgelu").removesuffix("-gelu")
    return f"{plain}-gelu:FILE for GELU or {plain}-quickgelu:FILE for QuickGELU"


def _other_activation(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], backbone: Backbone) -> str:
    """Whether an earlier version's prompts were encoded with the activation that this backbone does not have."""
    activations = set(backbone.settings["text"]["activation"])
    if not activations & {PLAIN, QUICK}:
        return ""
    here = _distance(metadata, tensors, backbone)
    if here is None:
        if backbone.assumed:
            log.warning("%s The detector does not say what it was made with.", " ".join(backbone.assumed))
        return ""
    if here < _SAME:
        return ""
    other, name = _with_other_activation(backbone)
    there = _distance(metadata, tensors, other)
    if there is not None and there < min(_SAME, here / 10):
        return f"its prompts were encoded with {name}, and here {activation_of(backbone.settings['text'])} runs"
    return ""


def _distance(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], backbone: Backbone) -> float | None:
    """1 - cosine of some stored positive prompts and the same encoded again, the largest; None where it cannot be."""
    names = [name for name in metadata["class_names"][:_SAMPLE] if isinstance(name, str)]
    stored = tensors["positive"][: len(names)]
    try:
        found = _encode_positive(metadata["config"], names, tensors, backbone)
        if found is None or found.shape != stored.shape or not len(names):
            return None
        return float((1 - F.cosine_similarity(found.double(), stored.double(), dim=-1)).max())
    except (UserError, RuntimeError, ValueError):  # damaged, or of other shapes: what loads it says so
        return None


@torch.no_grad()
def _encode_positive(
    config: Mapping[str, Any], names: Sequence[str], tensors: Mapping[str, Tensor], backbone: Backbone
) -> Tensor | None:
    start = "contexts.positive."
    learned = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
    if not learned:
        template = config.get("positive_template")
        return backbone.encode_texts([fill(template, name) for name in names]) if template else None
    prompts = PromptSets.from_tensors(learned)
    _, classes, _, width = prompts.contexts.shape
    if prompts.conditional or not backbone.promptable or width != backbone.width:
        return None  # those of CoCoOp depend on photos that the file does not have
    if classes not in (1, len(tensors["positive"])):
        return None
    with_name = bool(config.get("positive", {}).get("with_name", True))
    contexts = prompts.contexts if classes == 1 else prompts.contexts[:, : len(names)]
    tower = TextTower(backbone, NameTokens.of(backbone, names, contexts.shape[2], with_name))
    return ensemble(tower.encode(contexts.to(backbone.device))).cpu()


def _with_other_activation(backbone: Backbone) -> tuple[Backbone, str]:
    """The same backbone with QuickGELU for GELU, or the reverse, and that activation's name; weights are shared."""
    weights = {id(tensor): tensor for tensor in (*backbone.model.parameters(), *backbone.model.buffers())}
    model = copy.deepcopy(backbone.model, weights)
    quick = QUICK not in backbone.settings["text"]["activation"]
    for module in list(model.modules()):
        for name, part in module.named_children():
            if type(part) is (nn.GELU if quick else QuickGELU):
                setattr(module, name, QuickGELU() if quick else nn.GELU())
    other = Backbone(model, backbone.name, backbone.tokenizer, backbone.device)
    return other, QUICK if quick else PLAIN
