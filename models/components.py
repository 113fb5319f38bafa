"""The pretrained parts, loaded alike from a hub id or a local folder.

`diffusion_model` has Stable Diffusion's layout (tokenizer, text_encoder, unet, vae, scheduler),
`blip_model` that of transformers' `BlipForImageTextRetrieval`, or it is Salesforce's file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import (
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from common.model_folders import refuse_code
from models.blip import BlipConditioner
from models.blip_weights import (
    is_blip_file,
    load_blip,
    require_configuration,
    tokenizer_source,
)
from models.caption_tokenizer import EXACT, CaptionTokenizer, read_blip, read_clip
from models.conditioning import HISTORY_SLOTS, HistoryConditioner
from models.frames import HistoryTransform
from models.hub import out_of_reach
from models.weight_layout import lay_out

__all__ = [
    "BLIP_SPECIAL_TOKENS",
    "Components",
    "load_components",
    "load_scheduler_config",
    "load_tokenizers",
]

ROOT = Path(__file__).parents[1]
BLIP_SPECIAL_TOKENS = {"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]}


@dataclass
class Components:
    """Everything a story model is made of.

    image_size: of drawn frames, in pixels: a number, or height and width;
    add_ons: configuration key -> value of what goes beyond AR-LDM; base: the hash of the weights
    that tuning started from, if it keeps them; tokenization: how captions become tokens, as
    checkpoints say it (`new_tokens`, `new_tokens_match`, `max_length`, `new_words`).
    """

    conditioner: HistoryConditioner
    vae: torch.nn.Module
    unet: UNet2DConditionModel
    scheduler_config: dict
    clip_tokenizer: CaptionTokenizer
    blip_tokenizer: CaptionTokenizer
    history_transform: HistoryTransform
    max_length: int
    image_size: int | Sequence[int]
    add_ons: dict = field(default_factory=dict)
    base: str | None = None
    tokenization: dict = field(default_factory=dict)

    def modules(self) -> torch.nn.ModuleDict:
        """The networks under the names that checkpoints give them."""
        names = ("conditioner", "unet", "vae")
        return torch.nn.ModuleDict({name: getattr(self, name) for name in names})


def load_components(
    diffusion_model: str,
    blip_model: str,
    image_size: int | Sequence[int],
    max_length: int,
    new_tokens: Sequence[str] = (),
    new_tokens_match: str = EXACT,
    new_words: Sequence[str] = (),
    history_slots: int = HISTORY_SLOTS,
) -> Components:
    """Load all parts in float32, ready for captions of `max_length` tokens with `new_tokens`.

    new_tokens_match: how captions are searched for these, as `read_clip` takes it.
    new_words: what was learnt after them, found whole.

    Raises:
        FileNotFoundError: a part is neither on disk nor to be had from the hub, or is broken.
    """
    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # a file would hold each of its states
    clip_tokenizer, blip_tokenizer = load_tokenizers(
        diffusion_model, blip_model, new_tokens, new_tokens_match, new_words
    )
    text_encoder = _load(_load_clip, diffusion_model, "diffusion_model", "text_encoder")
    vision_encoder, multimodal_encoder, transform = _load(load_blip, blip_model, "blip_model")
    for encoder in (vision_encoder, multimodal_encoder):
        lay_out(encoder, channels_last=False)
    _grow_tokens(text_encoder, clip_tokenizer)
    _grow_tokens(multimodal_encoder, blip_tokenizer)
    _extend_positions(text_encoder, "position_embedding", max_length)
    _extend_positions(multimodal_encoder, "position_embeddings", max_length)
    empty = {
        name: tokenizer("", padding="max_length", max_length=max_length, return_tensors="pt")
        for name, tokenizer in (("clip", clip_tokenizer), ("blip", blip_tokenizer))
    }
    conditioner = BlipConditioner(
        text_encoder,
        vision_encoder,
        multimodal_encoder,
        empty["clip"].input_ids,
        empty["blip"].input_ids,
        blip_tokenizer.tokenizer.convert_tokens_to_ids("[ENC]"),
        transform,
        history_slots,
    )
    vae_config = _load(AutoencoderKL.load_config, diffusion_model, "diffusion_model", "vae")
    name = str(vae_config.get("_class_name"))
    if not name.startswith("Autoencoder") or not hasattr(diffusers, name):
        raise FileNotFoundError(
            f"diffusion_model: vae/config.json of {diffusion_model!r} says _class_name {name!r}, "
            f"which is no autoencoder of diffusers; get the folder again"
        )
    vae_class = getattr(diffusers, name)
    vae = _load(vae_class.from_pretrained, diffusion_model, "diffusion_model", "vae")
    unet = _load(UNet2DConditionModel.from_pretrained, diffusion_model, "diffusion_model", "unet")
    return Components(
        conditioner=conditioner,
        # Channels last: up to twice the speed of convolutions on CPUs, also good on GPUs.
        vae=vae.eval().to(memory_format=torch.channels_last),
        unet=unet.to(memory_format=torch.channels_last),
        scheduler_config=load_scheduler_config(diffusion_model),
        clip_tokenizer=clip_tokenizer,
        blip_tokenizer=blip_tokenizer,
        history_transform=transform,
        max_length=max_length,
        image_size=image_size,
        tokenization={
            "new_tokens": list(new_tokens),
            "new_tokens_match": new_tokens_match,
            "max_length": max_length,
            **({"new_words": list(new_words)} if new_words else {}),
        },
    )


def load_scheduler_config(diffusion_model: str) -> dict:
    """The settings of the noise schedule that the diffusion model was trained with."""
    return _load(DDIMScheduler.load_config, diffusion_model, "diffusion_model", "scheduler")


def load_tokenizers(
    diffusion_model: str,
    blip_model: str,
    new_tokens: Sequence[str] = (),
    new_tokens_match: str = EXACT,
    new_words: Sequence[str] = (),
) -> tuple[CaptionTokenizer, CaptionTokenizer]:
    """CLIP's and BLIP's tokenizers with the data set's new words added to both.

    new_tokens_match: how captions are searched for these words, as `read_clip` takes it.
    new_words: what was learnt after them.
    """
    clip = _load(CLIPTokenizer.from_pretrained, diffusion_model, "diffusion_model", "tokenizer")
    blip = _load(BertTokenizer.from_pretrained, tokenizer_source(blip_model), "blip_model")
    blip.add_special_tokens(BLIP_SPECIAL_TOKENS)
    how = (new_tokens, new_tokens_match)
    both = read_clip(clip, *how), read_blip(blip, *how)
    for tokenizer in both:
        tokenizer.add_words(new_words)
    return both


def _load(load: Callable, source: str, key: str, subfolder: str | None = None):
    """`load(source)`, such as a class's `from_pretrained` or `load_config`.

    `source` is a folder, or a model on the hub whose version may be pinned: owner/name@revision.
    """
    source = _place(source)
    here = Path(source).exists()
    if here:
        try:
            refuse_code(Path(source, subfolder or ""))
        except ValueError as error:
            raise FileNotFoundError(f"{key}: {error}") from None
    if subfolder and Path(source).is_file():
        raise FileNotFoundError(f"{key}: {source!r} is a file; give a folder in diffusers' layout")
    name, _, revision = (source, "", "") if here else source.partition("@")
    unreachable = None if here else out_of_reach(name)
    where: dict[str, Any] = {"local_files_only": here or unreachable is not None}
    if revision:
        where["revision"] = revision
    if subfolder:
        where["subfolder"] = subfolder
    try:
        if here and subfolder in ("unet", "vae") and load.__name__ == "from_pretrained":
            suffixes = {path.suffix for path in Path(source, subfolder).glob("*")}
            if not suffixes & {".safetensors", ".bin"}:
                raise OSError("it holds no weights")  # the library would print a page
        part = load(name, **where)
        if isinstance(part, torch.nn.Module):
            part = part.float()  # may be stored in half precision
            lay_out(part, channels_last=False)
            return part
        if isinstance(part, PreTrainedTokenizerBase) and len(part) <= len(part.all_special_ids):
            raise OSError("its tokenizer has no vocabulary")  # its files are not there
        return part
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        reason = unreachable or (str(error) or type(error).__name__).splitlines()[0]
        if is_blip_file(source):
            raise FileNotFoundError(f"{key}: {source!r} cannot be used: {reason}") from error
        part = f" ({subfolder})" if subfolder else ""
        hub = f" from https://huggingface.co/{name}" if name.count("/") == 1 else ""
        raise FileNotFoundError(
            f"{key}: {source!r}{part} is neither a whole model folder on this machine nor to be "
            f"had from the Hugging Face hub now; download it{hub} where there is a network and "
            f"give its folder instead ({reason})"
        ) from error


def _place(source: str) -> str:
    """`source`, or its whole path where it names a folder of ours that is not here.

    As an owner/name the hub would be asked for a stranger's. Shipped ones are found from anywhere.
    """
    if Path(source).exists() or not source.startswith(("assets/", "outputs/")):
        return source
    return str((ROOT if source.startswith("assets/") else Path.cwd()) / source)


def _load_clip(source: str, **where: Any) -> CLIPTextModel:
    require_configuration(CLIPTextConfig, source, **where)
    return CLIPTextModel.from_pretrained(source, **where)


@torch.no_grad()
def _grow_tokens(encoder, tokenizer: CaptionTokenizer) -> None:
    """Give the token table the tokenizer's size.

    A new row starts as that of the token its word was before, else near the mean of the trained.
    """
    if encoder.get_input_embeddings().num_embeddings < len(tokenizer):
        said = logging.get_verbosity()
        logging.set_verbosity_error()  # how the library chooses new rows, a paragraph
        try:
            encoder.resize_token_embeddings(len(tokenizer), mean_resizing=True)
        finally:
            logging.set_verbosity(said)
    table = encoder.get_input_embeddings().weight
    for row, known in tokenizer.starts.items():
        table[row] = table[known]


@torch.no_grad()
def _extend_positions(encoder, table: str, length: int) -> None:
    """Give a text encoder `length` positions if it has fewer; new ones repeat the last."""
    embeddings = getattr(encoder, "text_model", encoder).embeddings
    old = getattr(embeddings, table)
    if old.num_embeddings >= length:
        return
    new = torch.nn.Embedding(length, old.embedding_dim)
    new.weight.copy_(old.weight[-1].expand(length, -1))
    new.weight[: old.num_embeddings] = old.weight
    setattr(embeddings, table, new)
    embeddings.position_ids = torch.arange(length).unsqueeze(0)
    encoder.config.max_position_embeddings = length
