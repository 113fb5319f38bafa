"""The adapter sits after self-attention, starts as identity and learns."""

from __future__ import annotations

import torch
from diffusers.models.attention import BasicTransformerBlock

from models.causal_story.adapter import add_adapter


def block() -> BasicTransformerBlock:
    torch.manual_seed(0)
    return BasicTransformerBlock(8, 2, 4, cross_attention_dim=6).eval()


def test_starts_as_identity_to_the_bit_and_is_saved():
    plain, adapted = block(), block()
    add_adapter(adapted, 3)
    states, context = torch.randn(2, 5, 8), torch.randn(2, 4, 6)
    assert torch.equal(
        plain(states, encoder_hidden_states=context), adapted(states, encoder_hidden_states=context)
    )
    names = set(adapted.state_dict()) - set(plain.state_dict())
    assert names == {f"attn1.adapter.{p}.{w}" for p in ("down", "up") for w in ("weight", "bias")}


def test_acts_before_the_residual():
    adapted = block()
    add_adapter(adapted, 3)
    adapter = adapted.attn1.adapter
    torch.nn.init.normal_(adapter.up.weight)
    states = torch.randn(2, 5, 8)
    before = adapted.norm1(states)
    attended = adapted.attn1.processor(adapted.attn1, before)  # without the hook
    expected = (
        attended
        + torch.nn.functional.gelu(attended @ adapter.down.weight.T + adapter.down.bias)
        @ adapter.up.weight.T
        + adapter.up.bias
    )
    torch.testing.assert_close(adapted.attn1(before), expected)
