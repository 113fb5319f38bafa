"""Text-to-image diffusion in the autoencoder's latents, as Stable Diffusion is made."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.schedulers import training_schedule
from pretraining.captions import CaptionsOfExamples
from pretraining.schedule import Plan, fit
from pretraining.sizes import Size
from pretraining.source import Example
from pretraining.telling import rank_tokens, telling_part

__all__ = [
    "build_text_encoder",
    "build_unet",
    "scheduler_config",
    "train_text_to_image",
]

EMPTY_CAPTION_RATE = 0.1
LR, MATRIX_LR = 1e-3, 1e-2  # of AdamW, of Muon


def build_text_encoder(tokenizer: CLIPTokenizer, size: Size) -> CLIPTextModel:
    """Stock CLIP text encoder."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.width,
            intermediate_size=4 * size.width,
            num_hidden_layers=size.text_layers,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(latent_channels: int, size: Size) -> UNet2DConditionModel:
    """Stock U-Net on 8x8 latents: two resolutions, cross-attention in both, four heads."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=size.unet_channels,
        layers_per_block=size.unet_layers,
        cross_attention_dim=size.width,
        attention_head_dim=4,  # the library's name for the number of heads
        norm_num_groups=16,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


def scheduler_config() -> dict:
    """Log signal-to-noise falling evenly from 2 to -9; the U-Net predicts the clean latents.

    Stable Diffusion's betas end at -5, where 4096 redundant latent numbers still show the place
    and often the cast: the text would hardly be needed. Below -9 nothing is left to see, and above
    -2 even the shirts are plain.
    """
    signal = torch.linspace(2, -9, 1000, dtype=torch.float64).sigmoid()  # cumulative alphas
    betas = 1 - signal / torch.cat([torch.ones(1), signal[:-1]])
    scheduler = DDIMScheduler(
        trained_betas=betas.tolist(),
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        prediction_type="sample",
    )
    return dict(scheduler.config)


def train_text_to_image(
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    latents: Tensor,
    examples: Sequence[Example],
    tokenizer: CLIPTokenizer,
    plan: Plan,
    short_share: float = 0.0,
    story_share: float = 0.0,
    summary_share: float = 0.0,
    telling: Sequence[Collection[str]] = (),
) -> int:
    """Train `text_encoder` and `unet` together on `latents` (N, c, 8, 8) of frames; steps taken.

    `story_share` of the captions are the stories' own, the rest full, `short_share` of it in few
    words. Of `summary_share` the U-Net sees so many tokens as the own caption has, `telling` words
    first: what BLIP will be able to say of a picture. So these learn to say everything.
    """
    # Convolutions on CPUs are up to twice as fast with channels last.
    unet.to(memory_format=torch.channels_last)
    schedule = training_schedule(scheduler_config())
    captions = CaptionsOfExamples(tokenizer, examples, short_share)
    frames = torch.tensor([example.frame for example in examples])
    rank = rank_tokens(tokenizer, telling).to(latents.device)

    def loss_fn() -> Tensor:
        chosen = torch.randint(len(examples), (plan.batch_size,))
        rows = captions.draw(chosen, story_share, EMPTY_CAPTION_RATE)
        ids, mask = captions.read(rows, latents.device)  # (B, S)
        states = text_encoder(ids, attention_mask=mask).last_hidden_state  # (B, S, D)
        summarised = torch.rand(len(chosen)) < summary_share
        lengths = captions.told_lengths(chosen).where(summarised, torch.tensor(ids.shape[1]))
        clean = latents[frames[chosen]]
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, schedule.config.num_train_timesteps, (len(chosen),))
        timesteps = timesteps.to(clean.device)
        noisy = schedule.add_noise(clean, noise, timesteps)
        predicted = unet(
            noisy,
            timesteps,
            encoder_hidden_states=states,
            encoder_attention_mask=telling_part(mask, rank[ids], lengths.to(ids.device)),
        ).sample
        return F.mse_loss(predicted, clean)

    both = nn.ModuleDict({"text_encoder": text_encoder.train(), "unet": unet.train()})
    steps = fit(both, loss_fn, plan, lr=LR, matrix_lr=MATRIX_LR, description="text to image")
    both.eval()
    return steps
