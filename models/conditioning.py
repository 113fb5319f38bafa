"""How captions and earlier frames become the U-Net's `encoder_hidden_states` (AR-LDM, section 3).

N rows (one a frame), U history slots, S tokens a block, D channels. A row is
`[CLIP(own caption) | BLIP(frame 0, caption 0) | … | BLIP(frame U-1, caption U-1)]`, (U + 1) * S
tokens. Masks: True = may attend. Training fills all rows of a story at once (teacher forcing),
sampling one row at a time with only the slots that exist; both call `assemble`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from models.frames import HistoryTransform
from models.story_batch import StoryBatch

__all__ = [
    "HISTORY_SLOTS", "Context", "HistoryConditioner", "first_visible", "frames_in_sight",
    "history_visibility",
]  # fmt: skip

HISTORY_SLOTS = 5  # earlier frames that a frame can tell apart: the papers' time table


class Context(NamedTuple):
    """What N rows attend to.

    states: `encoder_hidden_states`, (N, T, D); mask: (N, T), True = may attend. With history
    weights also bias: (N, 1, T), added to the scores of cross-attention; weights: (N, u) of the
    slots, a row's sum 1 (0 without history).
    """

    states: Tensor
    mask: Tensor
    bias: Tensor | None = None
    weights: Tensor | None = None

    @classmethod
    def cat(cls, contexts: Sequence[Context]) -> Context:
        """The rows of several contexts, one after the other."""
        fields = zip(*contexts, strict=True)
        return cls(*(None if field[0] is None else torch.cat(field) for field in fields))

    def split(self, size: int) -> list[Context]:
        """Contexts of at most `size` rows each."""
        starts = range(0, len(self.states), size)
        return [
            Context(*(None if field is None else field[i : i + size] for field in self))
            for i in starts
        ]

    def without_unseen(self) -> Context:
        """Without the tokens that no row attends to; what rows attend to stays as it is."""
        seen = self.mask.any(dim=0)
        if seen.all():
            return self
        bias = None if self.bias is None else self.bias[..., seen]
        return self._replace(states=self.states[:, seen], mask=self.mask[:, seen], bias=bias)

    def unet_arguments(self) -> dict:
        """As keywords of `UNet2DConditionModel.forward`."""
        arguments = {"encoder_hidden_states": self.states, "encoder_attention_mask": self.mask}
        if self.bias is not None:
            arguments["cross_attention_kwargs"] = {"history_bias": self.bias}
        return arguments


def first_visible(frame: Tensor | int, window: int | None) -> Tensor | int:
    """The earliest frame that `frame` may look at, `window` frames back; None: the very first."""
    return 0 if window is None else frame - window


def frames_in_sight(frame: int, reach: int, keep_first: bool = False) -> list[int]:
    """The at most `reach` frames that `frame` may look at, in order: the last ones before it.

    `keep_first`: the story's first frame takes the place of the earliest of them.
    """
    last = list(range(max(0, frame - reach), frame))
    return [0, *last[1:]] if keep_first and last else last


def history_visibility(targets: int, slots: int, window: int | None = None) -> Tensor:
    """(V, U) bool: may target v look at slot u? Only frames strictly before it.

    U = V in visualization; U = V + 1 in continuation, where slot 0 is the given frame. `window`:
    only so many frames back; None: all.
    """
    given = slots - targets
    frames, slot = torch.arange(targets)[:, None] + given, torch.arange(slots)[None, :]
    return (first_visible(frames, window) <= slot) & (slot < frames)


def _summary(states: Tensor, mask: Tensor) -> Tensor:
    """The mean (…, D) of the states (…, S, D) of tokens that are there."""
    seen = mask[..., None].to(states.dtype)
    return (states * seen).sum(-2) / seen.sum(-2).clamp(min=1)


class HistoryConditioner(ModelMixin, ConfigMixin):
    """Captions and earlier frames as context; how a frame is read is a subclass's business.

    A subclass reads frames with a vision-language model: it gives the networks
    and `encode_history` (see `models.blip.BlipConditioner`). To be saved with `save_pretrained` it
    also registers its configuration and makes itself from it (`from_config`).

    Args:
        text_encoder: `CLIPTextModel`, D channels.
        history_networks: name -> network of the model that reads frames, saved under that name.
        null_caption_ids, null_history_ids: (1, S) ids of the empty caption for each.
        history_transform: what frames go through before they are read; it makes the black picture
            of the classifier-free rows.
        slots: size of the "time" table, the most earlier frames a frame can look at.

    `models.causal_story.add_ons` may set `history_window`, how many frames back a frame sees, and
    `history_weighting`, a `HistoryWeighting`.
    """

    def __init__(
        self,
        text_encoder: nn.Module,
        history_networks: Mapping[str, nn.Module],
        null_caption_ids: Tensor,
        null_history_ids: Tensor,
        history_transform: HistoryTransform,
        slots: int = HISTORY_SLOTS,
    ) -> None:
        super().__init__()
        width = text_encoder.config.hidden_size
        self.text_encoder = text_encoder
        for name, network in history_networks.items():
            self.add_module(name, network)
        self.history_networks = tuple(history_networks)
        self.type_embeddings = nn.Embedding(2, width)  # 0: own caption, 1: history
        self.time_embeddings = nn.Embedding(slots, width)
        for table in (self.type_embeddings, self.time_embeddings):
            # Beside states, whose numbers spread by about 1: with less, frames are told apart late.
            nn.init.normal_(table.weight, std=0.2)
        self.history_window: int | None = None
        self.history_weighting: nn.Module | None = None
        self.register_buffer("null_caption_ids", null_caption_ids, persistent=False)
        self.register_buffer("null_history_ids", null_history_ids, persistent=False)
        self.register_buffer("null_image", history_transform.black(), persistent=False)
        self.history_transform = history_transform

    def encode_history(self, images: Tensor, ids: Tensor, mask: Tensor | None) -> Tensor:
        """(N, S, D) of pictures (N, 3, h, w), or of what `cache_latents` kept of them, with
        captions.

        ids: (N, S), which stay as they are; mask: (N, S), None shows all tokens.
        """
        raise NotImplementedError

    @property
    def history_encoders(self) -> tuple[nn.Module, ...]:
        """The networks that read frames."""
        return tuple(getattr(self, name) for name in self.history_networks)

    @property
    def encoders(self) -> tuple[nn.Module, ...]:
        """All pretrained encoders: of captions, and of frames."""
        return self.text_encoder, *self.history_encoders

    @property
    def slots(self) -> int:
        """How many earlier frames the time table can tell apart."""
        return self.time_embeddings.num_embeddings

    @apply_forward_hook  # offloading moves a model when it is called, by whatever method
    def encode_captions(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """CLIP states (N, S, D) of ids (N, S); mask None shows all S tokens."""
        mask = None if mask is None else mask.long()
        return self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    def null_states(self, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """The classifier-free blocks, (1, S, D) each: an empty caption, a black frame.

        device: where to compute, if the weights lie elsewhere now, being offloaded.
        """
        like = self.type_embeddings.weight  # in its precision
        device = like.device if device is None else device
        caption = self.encode_captions(self.null_caption_ids.to(device), None)
        image, ids = self.null_image.to(device, like.dtype), self.null_history_ids.to(device)
        return caption, self.encode_history(image, ids, None)

    @apply_forward_hook
    def assemble(
        self,
        caption_states: Tensor,
        caption_mask: Tensor,
        history_states: Tensor,
        history_mask: Tensor,
        visible: Tensor,
        unconditional: Tensor,
        null_states: tuple[Tensor, Tensor] | None,
        first_slot: int = 0,
    ) -> Context:
        """The context of N rows with u history slots each (u may be 0).

        Args:
            caption_states, caption_mask: (N, S, D), (N, S).
            history_states, history_mask: (N, u, S, D), (N, u, S).
            visible: (N, u), whether the slot's frame comes before the row's.
            unconditional: (N,), rows whose blocks become the null states with nothing padded;
                what comes before what still holds for them.
            null_states: as `null_states()` gives them; None where no row is unconditional.
            first_slot: which frame of the story the first slot holds.

        Returns:
            The context; T = (u + 1) * S.
        """
        null_caption, null_history = null_states or (caption_states[:1, :1], caption_states[:1, :1])
        rows, slots = visible.shape
        drop = unconditional[:, None, None]
        captions = torch.where(drop, null_caption, caption_states)  # (N, S, D)
        index = torch.arange(max(2, first_slot + slots), device=captions.device)
        kinds = self.type_embeddings(index[:2])
        times = self.time_embeddings(index[first_slot : first_slot + slots])
        captions = captions + kinds[0]
        history = torch.where(drop[..., None], null_history, history_states)  # (N, u, S, D)
        history = history + kinds[1] + times[:, None]
        context = torch.cat([captions, history.flatten(1, 2)], dim=1)

        caption_seen = caption_mask | unconditional[:, None]
        history_seen = (history_mask | drop) & visible[..., None]  # (N, u, S)
        mask = torch.cat([caption_seen, history_seen.flatten(1)], dim=1)
        if self.history_weighting is None or not slots:
            return Context(context, mask)
        bias, weights = self.history_weighting(
            _summary(captions, caption_seen), _summary(history, history_mask | drop), visible
        )
        bias = torch.where(unconditional[:, None], 0, bias)  # null blocks are all the same
        bias = bias[..., None].expand(history_mask.shape).flatten(1)  # (N, u * S)
        bias = nn.functional.pad(bias, (caption_mask.shape[1], 0))
        return Context(context, mask, bias[:, None], weights)

    def forward(self, batch: StoryBatch, unconditional: Tensor) -> Context:
        """Teacher forcing: all B * V rows of a story batch; `unconditional` is (B * V,).

        Slots no row can see are neither encoded nor in the result. Where the batch carries
        `picture_states` (B, U, P, D_vit), the picture encoder is not asked.
        """
        stories, targets, tokens = batch["caption_ids"].shape
        slots = batch["history_ids"].shape[1]
        visible = history_visibility(targets, slots, self.history_window)
        live = visible.shape[1] - 1  # the last frame is nobody's history
        pictures = "picture_states" if "picture_states" in batch else "history_images"
        images, ids, seen = (
            batch[key][:, :live] for key in (pictures, "history_ids", "history_mask")
        )
        captions = self.encode_captions(
            batch["caption_ids"].flatten(0, 1), batch["caption_mask"].flatten(0, 1)
        )
        if live:
            history = self.encode_history(*(x.flatten(0, 1) for x in (images, ids, seen)))
            history = history.unflatten(0, (stories, live))
        else:
            history = captions.new_zeros(stories, 0, tokens, captions.shape[-1])
        return self.assemble(
            captions,
            batch["caption_mask"].flatten(0, 1),
            history.repeat_interleave(targets, dim=0),
            seen.repeat_interleave(targets, dim=0),
            visible[:, :live].to(captions.device).repeat(stories, 1),
            unconditional,
            self.null_states(),
        )
