"""BLIP by name: blip:ORG/REPO from the Hugging Face Hub, blip:FOLDER from disk; needs the transformers library."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lsn_core.backbones.blip_folder import (
    CONFIG,
    EXAMPLE,
    SMALL_FILES,
    WEIGHTS,
    BlipFolder,
    conversion,
    read_blip_config,
    read_blip_folder,
    unlike,
)
from lsn_core.backbones.blip_model import BlipImageTower, BlipModel, BlipTextTower, BlipTokenizer, rename_weights
from lsn_core.backbones.suggestions import bare
from lsn_core.errors import UserError

PREFIX = "blip:"
_SETTINGS = {
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps"),
    *("image_size", "patch_size", "vocab_size", "max_position_embeddings"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id"),
}
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_PROBE = "Zoë's CATS, a dog & 日本!"  # letters that tokenizers of one vocabulary may read differently


def check_blip_name(name: str) -> str:
    """The name as it is loaded, blip:FOLDER or blip:ORG/REPO; nothing is downloaded, no weight is read.

    Raises:
        UserError: the transformers library is missing, there is no such folder, or it does not serve.
    """
    given = name.removeprefix(PREFIX).strip()
    if not given:
        raise UserError(f"{name} names no model: write blip:ORG/REPO, such as {EXAMPLE}, or blip:FOLDER.")
    if find_spec("transformers") is None:
        raise UserError(
            f"{name} is read with the transformers library, which is not installed: "
            "pip install 'lsn-core[transformers]'"
        )
    folder = Path(given).expanduser()
    if folder.is_dir():
        read_blip_folder(folder)
        return f"{PREFIX}{folder}"
    if folder.is_file():
        raise UserError(f"blip: wants a folder, and {folder} is a file. Write blip:{folder.parent}.")
    if given.startswith(("/", ".", "~")) or "\\" in given or (given.count("/") > 1 and "@" not in given):
        address = bare(given)
        meant = f" Did you mean {PREFIX}{address}?" if address != given and _REPOSITORY.fullmatch(address) else ""
        raise UserError(f"There is no folder {folder} (looked for from {Path.cwd()}).{meant} Check the path.")
    if not _REPOSITORY.fullmatch(given):
        raise UserError(
            f"{name!r} names neither a folder here nor a repository of the Hugging Face Hub: write blip:ORG/REPO, such "
            f"as {EXAMPLE}, or blip:FOLDER."
        )
    return f"{PREFIX}{given}"


def is_local_blip(name: str) -> bool:
    """Whether a name that was checked is that of a folder on disk."""
    return Path(name.removeprefix(PREFIX)).is_dir()


def load_blip(name: str, cache_dir: str | None = None) -> tuple[BlipModel, BlipTokenizer, tuple[str, ...]]:
    """Model, tokenizer, and sentences on what the files left open.

    Args:
        name: as `check_blip_name` returns it.
        cache_dir: where downloads are kept; None is the Hub client's own.

    Raises:
        UserError: the files do not serve, or do not fit one another.
    """
    given = name.removeprefix(PREFIX)
    folder = read_blip_folder(Path(given) if Path(given).is_dir() else _download(given, cache_dir))
    tokenizer = _load_tokenizer(folder)
    return _build(folder), tokenizer, folder.assumed


def _download(given: str, cache_dir: str | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    match = _REPOSITORY.fullmatch(given)
    assert match
    repository, revision = match[1], match[2]
    found = Path(snapshot_download(repository, revision=revision, cache_dir=cache_dir, allow_patterns=[*SMALL_FILES]))
    read_blip_config(found)  # a model of another kind is not worth a gigabyte
    try:
        hf_hub_download(repository, WEIGHTS, revision=found.name, cache_dir=cache_dir)
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        # security: the pickle beside it could run code, and is not fetched.
        raise UserError(
            f"{repository} has no {WEIGHTS}{f' at {revision}' if revision else ''}, and pickles are not read, as they "
            f"can run code. {_converted(repository)}Convert it once, where you trust it: {conversion(repository)}, and "
            "write blip:blip."
        ) from error
    return found


def _converted(repository: str) -> str:
    """A sentence with the revision at which the Hub's own converter left safetensors; empty where there is none."""
    from huggingface_hub import get_repo_discussions

    try:
        found = next(
            (
                change.num
                for change in get_repo_discussions(repository, author="SFconvertbot", discussion_type="pull_request")
                if change.status != "closed"
            ),
            None,
        )
    except Exception:  # of the network, and of repositories without discussions: it is only a hint
        return ""
    return f"The Hub's converter made one: write {PREFIX}{repository}@refs/pr/{found}. Or: " if found else ""


def _build(folder: BlipFolder) -> BlipModel:
    from transformers import BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    try:
        vision = BlipVisionConfig(**_known(folder.config["vision_config"]))
        # Without the cross-attention, which reads pictures for the matching head.
        text: Any = BlipTextConfig(**_known(folder.config["text_config"]), is_decoder=False)
        dim = int(folder.config.get("image_text_hidden_size", 256))
        with torch.device("meta"):  # without memory: every weight comes from the file
            visual = BlipImageTower(vision, dim, folder.preprocess)
            bert: Any = BlipTextModel(text, add_pooling_layer=False)
            tower = BlipTextTower(bert, dim, text.pad_token_id)
        bert.embeddings.position_ids = torch.arange(text.max_position_embeddings)[None]  # in no file
        model = BlipModel(visual, tower, folder.temperature)
    except Exception as error:  # transformers checks values by kinds of errors of its own
        first = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder.path / CONFIG} describes no BLIP that can be built: {first}. Get it again."
        ) from error
    weights = rename_weights(load_file(folder.weights.path))
    weights["logit_scale"] = model.logit_scale.detach()
    for name, tensor in model.state_dict().items():
        if name not in weights:
            raise UserError(f"{folder.weights.path} is not whole: it lacks {name}. Get it again.")
        if (found := weights[name].shape) != tensor.shape:
            raise unlike(folder.weights, f"{name} is {tuple(found)} there and {tuple(tensor.shape)}")
    model.load_state_dict(weights, strict=False, assign=True)
    return model


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    # security: others may name code to fetch, such as that of an attention.
    return {name: value for name, value in settings.items() if name in _SETTINGS}


def _load_tokenizer(folder: BlipFolder) -> BlipTokenizer:
    # security: the class itself and not AutoTokenizer, which may run code of the folder.
    kind: Any = importlib.import_module("transformers").BertTokenizerFast
    try:
        words = kind.from_pretrained(str(folder.path), local_files_only=True)
        vocabulary = words.get_vocab()
        probe = [int(token) for token in words([_PROBE])["input_ids"][0]]
    except Exception as error:  # of the tokenizers library, whose errors have no kind
        first = " ".join(str(error).split())[:200]
        raise UserError(f"The tokenizer in {folder.path} cannot be read: {first}. Get it again.") from error
    size = folder.config["text_config"].get("vocab_size", 30524)
    highest = max(vocabulary.values(), default=0)
    if highest >= size:
        raise UserError(
            f"The tokenizer in {folder.path} has {highest + 1} tokens, and the text tower knows {size}: they are of "
            "two models. Get both again, from one."
        )
    framed = probe[:1] == [words.cls_token_id] and probe[-1:] == [words.sep_token_id]
    pad = folder.config["text_config"].get("pad_token_id", 0)
    if not framed or words.unk_token_id is None or words.pad_token_id != pad:
        raise UserError(
            f"The tokenizer in {folder.path} does not put [CLS] before a text and [SEP] behind it, or fills up with "
            f"another token than number {pad}. Take BLIP's own, that of bert-base-uncased."
        )
    text = json.dumps([sorted(vocabulary.items()), probe])
    return BlipTokenizer(words, hashlib.sha256(text.encode()).hexdigest()[:16])
