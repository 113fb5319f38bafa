"""Causal-Story's unequal history: how much does each earlier (frame, caption) pair matter now?

The relevance of a pair, given the current caption, enters every cross-attention as an additive
bias on that pair's tokens. All pairs count the same at first: then nothing differs from AR-LDM.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

__all__ = ["HistoryBiasAttnProcessor", "HistoryWeighting", "accept_history_bias"]


class HistoryWeighting(nn.Module):
    """Scores pairs by a bilinear form of the caption's and the pair's summary states."""

    def __init__(self, width: int, rank: int = 64) -> None:
        super().__init__()
        self.query = nn.Linear(width, rank, bias=False)
        self.key = nn.Linear(width, rank, bias=False)
        nn.init.zeros_(self.query.weight)  # no preference at first

    def forward(self, caption: Tensor, pairs: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Bias and weights (N, u) of the pairs; 0 where a pair is not visible.

        Args:
            caption: (N, D), the current captions' summaries; pairs: (N, u, D); visible: (N, u).

        The weights of a row sum to 1; the bias is log(weight * number of visible pairs), so that
        equal weights change nothing, to the bit.
        """
        query, key = self.query(caption), self.key(pairs)
        scores = (query[:, None] * key).sum(-1) * key.shape[-1] ** -0.5  # (N, u)
        scores = scores.float().masked_fill(~visible, -torch.inf)
        none = ~visible.any(dim=1, keepdim=True)
        scores = scores.masked_fill(none, 0.0)  # no NaN where there is no history
        scores = scores - scores.detach().amax(dim=1, keepdim=True)
        count = visible.sum(dim=1, keepdim=True).clamp(min=1)
        mean = scores.exp().sum(dim=1, keepdim=True) / count  # exactly 1 for equal scores
        bias = torch.where(visible, scores - mean.log(), 0.0)
        weights = torch.where(visible, bias.exp() / count, 0.0)
        return bias, weights


class HistoryBiasAttnProcessor(AttnProcessor2_0):
    """The stock processor; in cross-attention `history_bias` (N, 1, T) joins the mask."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        history_bias: Tensor | None = None,
    ) -> Tensor:
        if encoder_hidden_states is not None and history_bias is not None:
            bias = history_bias.to(hidden_states.dtype)
            attention_mask = bias if attention_mask is None else attention_mask + bias
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def accept_history_bias(unet: UNet2DConditionModel) -> None:
    """Let every attention of a stock U-Net take `cross_attention_kwargs={"history_bias": …}`."""
    for module in unet.modules():
        if isinstance(module, Attention) and isinstance(module.processor, AttnProcessor2_0):
            module.set_processor(HistoryBiasAttnProcessor())
