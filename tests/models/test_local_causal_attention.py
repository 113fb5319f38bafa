"""Local causal attention against plain loops, and inside a stock attention module."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention

from models.causal_story.local_causal_attention import (
    LocalCausalAttnProcessor,
    local_causal_attention,
)


def looped(query, key, value, window):
    """Attention by the book, in which a position sees `window` positions up to itself."""
    out = torch.zeros_like(query)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in query.shape[:3])).tolist():
        seen = range(max(0, i - window + 1), i + 1)
        scores = [query[b, h, i] @ key[b, h, j] * query.shape[-1] ** -0.5 for j in seen]
        weights = torch.stack(scores).softmax(0)
        out[b, h, i] = sum(w * value[b, h, j] for w, j in zip(weights, seen, strict=True))
    return out


def random_heads(length: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 2, length, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("length", "window"), [(1, 3), (5, 3), (6, 3), (7, 32), (9, 1), (9, 4), (12, 5)]
)
def test_equals_a_loop_over_queries_and_keys(length, window):
    heads = random_heads(length)
    expected = looped(*heads, window)
    torch.testing.assert_close(local_causal_attention(*heads, window), expected)


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return Attention(query_dim=8, heads=2, dim_head=4).eval()


def changed_outputs(attention, position: int, length: int = 10) -> list[int]:
    """Positions whose output changes, to the bit, when one input position does."""
    states = torch.randn(1, length, 8, generator=torch.Generator().manual_seed(1))
    other = states.clone()
    other[:, position] += 1
    with torch.no_grad():
        differs = (attention(states) != attention(other)).any(-1)[0]
    return differs.nonzero().flatten().tolist()


def test_a_position_reaches_only_the_window_after_it(attention):
    attention.set_processor(LocalCausalAttnProcessor(window=3))
    assert changed_outputs(attention, 4) == [4, 5, 6]
    assert changed_outputs(attention, 9) == [9]


@pytest.mark.parametrize("window", [10, None])
def test_a_window_over_everything_equals_stock_causal_attention(attention, window):
    states = torch.randn(2, 10, 8)
    with torch.no_grad():
        causal = torch.full((10, 10), -torch.inf).triu(1).expand(2, 10, 10)
        expected = attention(states, attention_mask=causal)
        attention.set_processor(LocalCausalAttnProcessor(window))
        torch.testing.assert_close(attention(states), expected)


def test_cross_attention_is_refused(attention):
    attention.set_processor(LocalCausalAttnProcessor(3))
    with pytest.raises(ValueError, match="self-attention"):
        attention(torch.randn(1, 4, 8), torch.randn(1, 3, 8))
