"""BLIP as the reader of earlier frames: the picture encoder, and text that attends to it."""

from __future__ import annotations

import torch
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPTextConfig,
    CLIPTextModel,
)

from models.conditioning import HISTORY_SLOTS, HistoryConditioner
from models.frames import HistoryTransform
from models.fused_attention import fuse_attention

__all__ = ["BlipConditioner", "read_frames"]


def read_frames(
    vision_encoder: nn.Module,
    multimodal_encoder: nn.Module,
    first_token_id: int,
    images: Tensor,
    ids: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """BLIP's states (N, S, D) of pictures (N, 3, h, w) read together with captions (N, S).

    `images` may also be what the picture encoder makes of them, (N, P, D_vit), computed before.
    `first_token_id` ([ENC]) takes position 0; mask None shows all S tokens.
    """
    pictures = images.float()  # (N, P, D_vit), if they are the encoder's already
    if images.ndim == 4:
        pictures = vision_encoder(pixel_values=images).last_hidden_state
    ids = ids.clone()  # the batch keeps its own first token
    ids[:, 0] = first_token_id
    return multimodal_encoder(
        input_ids=ids,
        attention_mask=torch.ones_like(ids) if mask is None else mask.long(),
        encoder_hidden_states=pictures,
        is_decoder=False,  # bidirectional: the queries are the caption's tokens
    ).last_hidden_state


class BlipConditioner(HistoryConditioner):
    """AR-LDM's: BLIP reads every earlier frame together with its caption (section 3.2).

    Args:
        vision_encoder, multimodal_encoder: `BlipVisionModel`, `BlipTextModel` (D channels).
        first_token_id: BLIP's [ENC], which takes position 0 of every caption.
        others: as `HistoryConditioner` takes them.
    """

    def __init__(
        self,
        text_encoder: nn.Module,
        vision_encoder: nn.Module,
        multimodal_encoder: nn.Module,
        null_caption_ids: Tensor,
        null_history_ids: Tensor,
        first_token_id: int,
        history_transform: HistoryTransform,
        slots: int = HISTORY_SLOTS,
    ) -> None:
        networks = {"vision_encoder": vision_encoder, "multimodal_encoder": multimodal_encoder}
        super().__init__(
            text_encoder, networks, null_caption_ids, null_history_ids, history_transform, slots
        )
        self.first_token_id = first_token_id
        fuse_attention(vision_encoder, multimodal_encoder)

    def _register_sizes(self) -> None:
        parts = {"text_encoder": self.text_encoder}
        parts |= {name: getattr(self, name) for name in self.history_networks}
        self.register_to_config(  # by names that no attribute has
            networks={name: part.config.to_diff_dict() for name, part in parts.items()},
            empty_caption=self.null_caption_ids.flatten().tolist(),
            empty_history=self.null_history_ids.flatten().tolist(),
            enc_token_id=self.first_token_id,
            pictures=self.history_transform.config(),
            history_slots=self.slots,
        )

    def save_config(self, *arguments, **how) -> None:
        """With the sizes of now: tables of tokens may have grown."""
        self._register_sizes()
        super().save_config(*arguments, **how)

    @classmethod
    def from_config(cls, config: dict, **_unused) -> BlipConditioner:
        """With random weights, of the sizes that `save_pretrained` writes."""
        networks = config["networks"]
        multimodal = BlipTextConfig(**networks["multimodal_encoder"])
        return cls(
            CLIPTextModel(CLIPTextConfig(**networks["text_encoder"])),
            BlipVisionModel(BlipVisionConfig(**networks["vision_encoder"])),
            BlipTextModel(multimodal, add_pooling_layer=False),
            torch.tensor([config["empty_caption"]]),
            torch.tensor([config["empty_history"]]),
            config["enc_token_id"],
            HistoryTransform(**config["pictures"]),
            config["history_slots"],
        )

    @apply_forward_hook
    def encode_history(self, images: Tensor, ids: Tensor, mask: Tensor | None) -> Tensor:
        encoders = self.vision_encoder, self.multimodal_encoder
        return read_frames(*encoders, self.first_token_id, images, ids, mask)
