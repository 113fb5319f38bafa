"""The smallest story model of stock parts with random weights, and story batches to feed it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, AutoencoderRAE, DDIMScheduler, UNet2DConditionModel
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
)

from models.blip import BlipConditioner
from models.components import Components
from models.frames import HistoryTransform
from models.pipeline import StoryPipeline
from models.pipeline_output import StoryPipelineOutput
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer

# Captions of different lengths, so that every row is padded differently; one is cut.
STORIES = (
    ("Luna sits on the beach.", "She waves.", "Pip and Luna run home in the rain.", "Luna sleeps."),
    ("Pip waves.", "He runs to the beach and sits there in the rain by the sea.", "Pip.", "Rain."),
    ("The beach.", "Luna runs.", "Pip sits in the rain.", "She and Pip wave at the sea."),
)
WORDS = [caption for story in STORIES for caption in story]
S, D, D_VISION, SLOTS = 12, 16, 24, 4  # tokens a block, their channels, BLIP's vision channels
IMAGE_SIZE, BLIP_SIZE = 16, 8
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# As Stable Diffusion 1.5 ships: predicts noise, leading steps with an offset.
EPSILON = FrozenDict(
    DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1).config
)
# As the cartoon base: predicts the picture, trailing steps that start from pure noise.
SAMPLE = FrozenDict(
    DDIMScheduler(
        **_BETAS,
        clip_sample=False,
        prediction_type="sample",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    ).config
)


class IdentityVae(nn.Module):
    """Stands in for an autoencoder: latents are the 8x8 pictures themselves, halved."""

    config = FrozenDict(scaling_factor=0.5, block_out_channels=[1])
    device = torch.device("cpu")

    def encode(self, frames: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent=frames)

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=latents)


def tokenizers():
    return build_clip_tokenizer(WORDS, S), build_blip_tokenizer(WORDS, S)


def text_encoder(tokenizer, positions: int = S) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=D,
            intermediate_size=2 * D,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=positions,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def blip(tokenizer, positions: int = S, dropout: float = 0.1) -> BlipForImageTextRetrieval:
    layer = {"intermediate_size": 2 * D, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**layer, "hidden_size": D_VISION, "image_size": BLIP_SIZE, "patch_size": 4}
    text = {
        **layer,
        "vocab_size": len(tokenizer),
        "hidden_size": D,
        "encoder_hidden_size": D_VISION,
        "max_position_embeddings": positions,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "is_decoder": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    return BlipForImageTextRetrieval(
        BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=D)
    )


def unet(channels: int, widths: tuple[int, ...] = (16, 32)) -> UNet2DConditionModel:
    """Cross-attention in the lowest of its resolutions."""
    plain = len(widths) - 1
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=D,
        attention_head_dim=2,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
    )


def autoencoder() -> AutoencoderKL:
    """16x16 pictures to 4x8x8 latents with a posterior."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )


def transformer_autoencoder() -> AutoencoderRAE:
    """16x16 pictures to 64x4x4 latents without a posterior, as the cartoon base has it."""
    return AutoencoderRAE(
        encoder_type="mae",
        encoder_hidden_size=64,
        encoder_patch_size=4,
        encoder_num_hidden_layers=1,
        encoder_input_size=16,
        patch_size=4,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )


def build_parts(
    scheduler_config: dict = EPSILON, identity_vae: bool = False, dropout: float = 0.1
) -> Components:
    """Parts in evaluation mode, as `load_components` gives them, but random and in memory."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip_tokenizer, blip_tokenizer = tokenizers()
        pictures_and_text = blip(blip_tokenizer, dropout=dropout)
        transform = HistoryTransform(BLIP_SIZE, MEAN, STD)
        empty = [
            tokenizer("", padding="max_length", max_length=S, return_tensors="pt").input_ids
            for tokenizer in (clip_tokenizer, blip_tokenizer)
        ]
        conditioner = BlipConditioner(
            text_encoder(clip_tokenizer),
            pictures_and_text.vision_model,
            pictures_and_text.text_encoder,
            *empty,
            blip_tokenizer.convert_tokens_to_ids("[ENC]"),
            transform,
            SLOTS,
        )
        with torch.no_grad():  # large enough that every token and pixel makes a difference
            for parameter in conditioner.parameters():
                parameter.mul_(10 if parameter.ndim > 1 else 1)
        return Components(
            conditioner=conditioner.eval(),
            vae=IdentityVae() if identity_vae else autoencoder().eval(),
            unet=(unet(3, (32,)) if identity_vae else unet(4)).eval(),
            scheduler_config=scheduler_config,
            clip_tokenizer=clip_tokenizer,
            blip_tokenizer=blip_tokenizer,
            history_transform=transform,
            max_length=S,
            image_size=8 if identity_vae else IMAGE_SIZE,
        )


def random_frames(stories: int, frames: int, size: int, seed: int = 0) -> Tensor:
    """uint8 (B, K, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (stories, frames, 3, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def story_batch(parts: Components, captions, frames: Tensor, task: str = "visualization") -> dict:
    """The story batch of the data module, made from captions (B, K) and uint8 (B, K, 3, H, W)."""
    given = int(task == "continuation")

    def tokens(tokenizer, first):
        rows = [
            tokenizer(
                list(story[first:]), padding="max_length", max_length=parts.max_length,
                truncation=True, return_tensors="pt",
            )
            for story in captions
        ]  # fmt: skip
        ids = torch.stack([row.input_ids for row in rows])
        return ids, torch.stack([row.attention_mask for row in rows]).bool()

    caption_ids, caption_mask = tokens(parts.clip_tokenizer, given)
    history_ids, history_mask = tokens(parts.blip_tokenizer, 0)
    images = parts.history_transform(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
    return {
        "target_images": frames[:, given:] / 127.5 - 1,
        "caption_ids": caption_ids,
        "caption_mask": caption_mask,
        "history_images": images,
        "history_ids": history_ids,
        "history_mask": history_mask,
        "story_id": [f"story{i}" for i in range(len(captions))],
    }


def quiet(parts: Components, scheduler: str = "ddim") -> StoryPipeline:
    """A pipeline of them without a progress bar."""
    pipeline = StoryPipeline.from_components(parts, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(parts: Components, captions, seed: int = 0, **how) -> StoryPipelineOutput:
    """Stories of uint8 frames in two steps; noise is numbered from `seed` on."""
    one = isinstance(captions[0], str)
    seeds = range(seed, seed + (1 if one else len(captions)))
    noise = [torch.Generator().manual_seed(number) for number in seeds]
    how = {"num_inference_steps": 2, "output_type": "uint8", **how}
    return quiet(parts)([captions] if one else captions, generator=noise, **how)


class ContextRecorder:
    """Keeps the context and mask of every call of a U-Net while it is entered."""

    def __init__(self, unet: nn.Module) -> None:
        self.unet = unet
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __enter__(self) -> ContextRecorder:
        self._handle = self.unet.register_forward_pre_hook(self._keep, with_kwargs=True)
        return self

    def _keep(self, module, args, kwargs) -> None:
        mask = kwargs["encoder_attention_mask"].bool()
        self.calls.append((kwargs["encoder_hidden_states"].detach().clone(), mask.clone()))

    def __exit__(self, *error) -> None:
        self._handle.remove()


def save_parts(folder: Path, positions: int = S, dtype=torch.float32) -> dict[str, nn.Module]:
    """Random parts saved as a diffusion model in `folder`, BLIP in `folder`/blip; returned too."""
    torch.manual_seed(1)
    clip_tokenizer, blip_tokenizer = tokenizers()
    saved = {
        "text_encoder": text_encoder(clip_tokenizer, positions),
        "unet": unet(4),
        "vae": autoencoder(),
        "blip": blip(blip_tokenizer, positions),
    }
    for encoder in (saved["text_encoder"], saved["blip"].text_encoder):
        with torch.no_grad():  # trained tables are not centred at 0
            encoder.get_input_embeddings().weight.add_(0.5)
    for name, part in saved.items():
        part.to(dtype).save_pretrained(folder / name)
    DDIMScheduler.from_config(EPSILON).save_pretrained(folder / "scheduler")
    clip_tokenizer.save_pretrained(folder / "tokenizer")
    blip_tokenizer.save_pretrained(folder / "blip")
    processor = BlipImageProcessor(
        size={"height": BLIP_SIZE, "width": BLIP_SIZE}, image_mean=list(MEAN), image_std=list(STD)
    )
    processor.save_pretrained(folder / "blip")
    return saved
