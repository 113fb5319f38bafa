"""BLIP's attention through PyTorch's fused kernel; the library's classes write all scores out.

The layers keep their weights, names and hooks: only what they compute with is exchanged.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.blip.modeling_blip import BlipAttention
from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

__all__ = ["fuse_attention", "unfuse_attention"]


class _FusedPictureAttention(BlipAttention):
    def forward(self, hidden_states: Tensor, **_) -> tuple[Tensor, None]:
        """(N, P, D) to (N, P, D)."""
        qkv = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, self.head_dim))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (N, heads, P, d) each
        dropout = self.dropout.p if self.training else 0.0
        states = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.projection(states.transpose(1, 2).flatten(2)), None


class _FusedTextAttention(BlipTextSelfAttention):
    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        cache: object | None = None,
        **rest,
    ) -> tuple[Tensor, Tensor | None]:
        """(N, S, D) to (N, S, D); a picture's states (N, P, D_vit) are attended to whole."""
        if cache is not None:  # of generation, which the library does
            return super().forward(
                hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask,
                cache, **rest,
            )  # fmt: skip
        source, mask = hidden_states, attention_mask
        if encoder_hidden_states is not None:
            source, mask = encoder_hidden_states, encoder_attention_mask
        heads = (self.num_attention_heads, self.attention_head_size)
        query = self.query(hidden_states).unflatten(-1, heads).transpose(1, 2)  # (N, heads, S, d)
        key, value = (
            layer(source).unflatten(-1, heads).transpose(1, 2) for layer in (self.key, self.value)
        )
        dropout = self.dropout.p if self.training else 0.0
        if mask is not None:
            mask = mask.to(query.dtype)
        states = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        return states.transpose(1, 2).flatten(2), None


_FUSED = {BlipAttention: _FusedPictureAttention, BlipTextSelfAttention: _FusedTextAttention}


def fuse_attention(*encoders: nn.Module) -> None:
    """Exchange the attention of BLIP's layers, of stock classes, in `encoders`."""
    for encoder in encoders:
        for module in encoder.modules():
            if type(module) in _FUSED:
                module.__class__ = _FUSED[type(module)]


def unfuse_attention(*encoders: nn.Module) -> None:
    """Give the layers of `encoders` the library's classes back, to compare with."""
    stock = {fused: cls for cls, fused in _FUSED.items()}
    for encoder in encoders:
        for module in encoder.modules():
            module.__class__ = stock.get(type(module), type(module))
