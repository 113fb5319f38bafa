"""Relevance of earlier pairs: identity at first, a distribution always, a bias on tokens."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from models.causal_story.history_weighting import HistoryWeighting, accept_history_bias

VISIBLE = torch.tensor([[False, False, False], [True, False, False], [True, True, True]])


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 8, generator=generator), torch.randn(3, 3, 8, generator=generator)


def test_nothing_is_preferred_at_first(states):
    bias, weights = HistoryWeighting(8, rank=4)(*states, VISIBLE)
    assert torch.equal(bias, torch.zeros(3, 3))
    torch.testing.assert_close(weights[2], torch.full((3,), 1 / 3))


def test_weights_are_the_softmax_of_the_bilinear_form(states):
    weighting = HistoryWeighting(8, rank=4)
    torch.nn.init.normal_(weighting.query.weight)
    bias, weights = weighting(*states, VISIBLE)
    caption, pairs = states
    scores = [
        (weighting.query.weight @ caption[2]) @ (weighting.key.weight @ pair) / 2
        for pair in pairs[2]
    ]
    torch.testing.assert_close(weights[2], torch.stack(scores).softmax(0))
    torch.testing.assert_close(bias[2], (3 * weights[2]).log())
    assert torch.equal(weights[0], torch.zeros(3)) and torch.equal(bias[0], torch.zeros(3))
    assert bias[1].tolist() == [0, 0, 0]  # one pair: nothing to prefer


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


@torch.no_grad()
def test_the_bias_acts_on_its_tokens_in_every_cross_attention():
    unet = tiny_unet()
    sample, context = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 8)
    mask = torch.ones(1, 3, dtype=torch.bool)
    stock = unet(sample, 5, context, encoder_attention_mask=mask).sample
    hidden = unet(sample, 5, context, encoder_attention_mask=mask & (torch.arange(3) < 2)).sample
    accept_history_bias(unet)

    def biased(*bias):
        how = {"history_bias": torch.tensor(bias)[None, None]}
        return unet(
            sample, 5, context, encoder_attention_mask=mask, cross_attention_kwargs=how
        ).sample

    assert torch.equal(biased(0.0, 0.0, 0.0), stock)
    torch.testing.assert_close(biased(0.0, 0.0, -1e4), hidden)
    assert not torch.allclose(biased(0.0, 0.0, -2.0), stock)
    torch.testing.assert_close(biased(3.0, 3.0, 3.0), stock)  # softmax ignores a shift
