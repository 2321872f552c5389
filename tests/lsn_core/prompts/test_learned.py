"""Learnable contexts, Meta-Nets and the name tokens behind them."""

from __future__ import annotations

import pytest
import torch

from lsn_core import UserError
from lsn_core.backbones.backbone import Backbone
from lsn_core.prompts.learned import INIT_STD, NameTokens, PromptSets

NAMES = ["cat", "great white shark"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_assembled_prompt_holds_the_tokens_of_the_sentence_it_stands_for(tiny_backbone: Backbone) -> None:
    names = NameTokens.of(tiny_backbone, NAMES, 4)
    words = tiny_backbone.embed_tokens(tiny_backbone.tokenize(["a photo of a"]))[0, 1:5]
    prompts, ends, _ = names.assemble(words[None, None])
    sentences = tiny_backbone.tokenize([f"a photo of a {name}." for name in NAMES])
    assert ends.tolist() == tiny_backbone.find_eot(sentences).tolist()
    wanted = tiny_backbone.embed_tokens(sentences)
    for row, (prompt, end) in enumerate(zip(prompts, ends.tolist(), strict=True)):
        torch.testing.assert_close(prompt[: end + 1], wanted[row, : end + 1])


def test_without_the_name_every_prompt_ends_alike(tiny_backbone: Backbone) -> None:
    names = NameTokens.of(tiny_backbone, NAMES, 4, with_name=False)
    assert names.lengths.tolist() == [2, 2]  # "." and the end token
    torch.testing.assert_close(names.embeddings[0], names.embeddings[1])


def test_a_name_of_100_words_is_refused_by_name(tiny_backbone: Backbone) -> None:
    long = " ".join(["zebra"] * 100)
    with pytest.raises(UserError, match=r"zebra zebra.*too long"):
        NameTokens.of(tiny_backbone, ["cat", long], 16)


def test_a_name_fits_up_to_the_last_position(tiny_backbone: Backbone) -> None:
    room = tiny_backbone.context_length - 16 - 3  # start token, ".", end token
    names = NameTokens.of(tiny_backbone, [" ".join(["cat"] * room)], 16)
    prompts, ends, _ = names.assemble(torch.zeros(1, 1, 16, tiny_backbone.width, device=tiny_backbone.device))
    assert prompts.shape[1] == tiny_backbone.context_length == int(ends[0]) + 1
    with pytest.raises(UserError, match=f"room for {room} tokens"):
        NameTokens.of(tiny_backbone, [" ".join(["cat"] * (room + 1))], 16)


def test_contexts_begin_small_random_and_repeatable() -> None:
    first, again, other = (PromptSets(3, 10, 16, 64, seeded(s)).contexts for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert abs(float(first.mean())) < 1e-3 and abs(float(first.std()) / INIT_STD - 1) < 0.02
    assert not torch.equal(first[0], first[1])  # sets differ from the start


def test_a_meta_net_equals_linear_relu_linear_added_to_each_vector() -> None:
    prompts = PromptSets(2, 5, 4, 8, seeded(), image_dim=32)
    images = torch.randn(3, 32, generator=seeded(5))
    found = prompts(images).unflatten(0, (3, 2))  # (B, K, C, L, W)
    for k in range(2):
        first, second = torch.nn.Linear(32, 2), torch.nn.Linear(2, 8)
        with torch.no_grad():
            first.weight.copy_(prompts.meta_weight_1[k])
            first.bias.copy_(prompts.meta_bias_1[k])
            second.weight.copy_(prompts.meta_weight_2[k])
            second.bias.copy_(prompts.meta_bias_2[k])
        token = second(first(images).relu())  # (B, W)
        for c in range(5):
            for v in range(4):
                torch.testing.assert_close(found[:, k, c, v], prompts.contexts[k, c, v] + token)


def test_prompts_come_back_from_their_tensors() -> None:
    for dim in (None, 32):
        prompts = PromptSets(2, 5, 4, 8, seeded(), image_dim=dim)
        again = PromptSets.from_tensors(prompts.state_dict())
        assert again.conditional == prompts.conditional
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in prompts.state_dict().items())
    with pytest.raises(UserError, match="fit together"):
        PromptSets.from_tensors({**prompts.state_dict(), "meta_bias_1": torch.zeros(9)})
    with pytest.raises(UserError, match="missing"):
        PromptSets.from_tensors({})
