"""A base from the pictures and captions of one source, stage by stage."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderRAE, DDIMScheduler
from torch import nn

from common.files import renewing_folder
from models.conditioning import Context
from models.frames import decode_latents
from pretraining import align, autoencoder, decoder, text_to_image
from pretraining.meanings import fold_meanings, learn_meanings
from pretraining.model_card import write_model_card
from pretraining.previews import COLUMNS, save_sheet
from pretraining.save import save_base
from pretraining.schedule import Plan
from pretraining.sizes import SIZES
from pretraining.source import Example, Source, standing_alone
from pretraining.stages import Settings, StageRun
from pretraining.starting import start_from
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer

__all__ = ["make_base"]

DRAWN, DRAWN_PER_STEP = 3904, 6  # pictures that the last stage draws, at most
Parts = dict[str, nn.Module]


def make_base(source: Source, out: Path, work: Path, settings: Settings) -> dict:
    """Train the stages on `source`, keep them under `work`, save the base in `out`; its report.

    Raises:
        ValueError: `work` holds stages of other stories or settings.
        FileNotFoundError: there is no base to start from.
    """
    if not len(source.examples):
        raise ValueError(f"{source.name} has no training picture: build it with some stories")
    maker = _Maker(source, work, settings)
    first_psnr = maker.train_autoencoder()
    maker.bind_words()
    maker.summarise()
    maker.align()
    maker.train_decoder()
    report = {
        "image_size": settings.image_size, "size": settings.size, "seed": settings.seed,
        "start": str(settings.start or "nothing"), "about": source.about,
        "licence": source.licence, "stages": maker.run.figures,
        "count": len(source.held_out), "psnr_first": first_psnr,
        "psnr_held_out": _psnr(maker.vae, source), "name": out.name,
    }  # fmt: skip
    with renewing_folder(out) as folder:
        maker.save(folder)
        write_model_card(folder, report)
    return report


class _Maker:
    """The parts made so far, and the stages that make them."""

    vae: AutoencoderRAE

    def __init__(self, source: Source, work: Path, settings: Settings) -> None:
        self.source, self.settings, self.size = source, settings, SIZES[settings.size]
        self.run = StageRun(source, settings, work)
        self.frames = source.frames.to(settings.device)
        self.scheduler = DDIMScheduler.from_config(text_to_image.scheduler_config())
        self.clip_tokenizer = build_clip_tokenizer(source.captions, source.max_length)
        self.blip_tokenizer = build_blip_tokenizer(source.captions, source.max_length)
        print(
            f"{source.name}: {len(source.examples)} captions of {len(self.frames)} different "
            f"pictures, {len(source.held_out)} held out"
        )
        shown, examples = source.held_out.to(settings.device), source.held_out_examples
        if not len(shown):
            shown, examples = self.frames, source.examples
        self.shown = [examples[i] for i in _spread(len(examples), COLUMNS)]  # on preview sheets
        self.real = shown[[example.frame for example in self.shown]]

    def train_autoencoder(self) -> float | None:
        """The autoencoder, and the latents of all frames; dB on what is held out."""
        source, size = self.source, self.settings.image_size
        self.vae = self.run.stage(
            "autoencoder",
            lambda: self._started(vae=autoencoder.build_autoencoder(size, self.size)),
            lambda parts, plan: autoencoder.train_autoencoder(
                parts["vae"], self.frames, plan, source.augment
            ),
            self._preview_pictures,
        )["vae"]
        value = _psnr(self.vae, source)
        self.latents = autoencoder.encode(self.vae, self.frames)
        return value

    def bind_words(self) -> None:
        """Text encoder and U-Net, on captions that need no others."""

        def build() -> Parts:
            return self._started(
                text_encoder=text_to_image.build_text_encoder(self.clip_tokenizer, self.size),
                unet=text_to_image.build_unet(self.latents.shape[1], self.size),
            )

        def train(parts: Parts, plan: Plan) -> int:
            return self._train_words(parts, plan, standing_alone(self.source.examples), False)

        self.words = self.run.stage("text to image: bind words", build, train, self._preview_words)

    def summarise(self) -> None:
        """The same once more, on all captions, of some the U-Net sees what BLIP can say of them."""
        shares = {"story_share": 0.2, "summary_share": 0.5}
        self.words = self.run.stage(
            "text to image: summarise",
            lambda: self.words,
            lambda parts, plan: self._train_words(
                parts, plan, self.source.examples, True, **shares
            ),
            self._preview_words,
        )

    def _train_words(
        self, parts: Parts, plan: Plan, examples: Sequence[Example], trained: bool, **shares: float
    ) -> int:
        encoder, tokenizer = parts["text_encoder"], self.clip_tokenizer
        learn_meanings(encoder, tokenizer, self.source.meanings, trained)
        steps = text_to_image.train_text_to_image(
            encoder, parts["unet"], self.latents, examples, tokenizer, plan,
            short_share=self.source.short_share, telling=self.source.telling, **shares,
        )  # fmt: skip
        fold_meanings(encoder)
        return steps

    def align(self) -> None:
        """BLIP, to say of a picture and its caption what the text encoder says of all of it."""
        source, size = self.source, self.size
        self.blip = self.run.stage(
            "align",
            lambda: self._started(
                blip=align.build_blip(self.blip_tokenizer, size.width, size.vision_layers)
            ),
            lambda parts, plan: align.train_alignment(
                parts["blip"], self.frames, source.examples, source.telling, self.clip_tokenizer,
                self.blip_tokenizer, self.words["text_encoder"], plan,
            ),
            self._preview_read,
        )["blip"]  # fmt: skip

    def train_decoder(self) -> None:
        """The autoencoder's decoder, on latents that the U-Net draws."""
        examples = self.source.examples

        def train(parts: Parts, plan: Plan) -> int:
            start = time.monotonic()
            count = min(DRAWN, DRAWN_PER_STEP * plan.steps)
            chosen = [examples[i] for i in torch.randperm(len(examples))[:count]]
            drawn = decoder.draw_examples(
                self.words["unet"], self.words["text_encoder"], self.scheduler.config,
                self.clip_tokenizer, chosen, None if self.source.determined else self.latents,
                plan.seconds and plan.seconds / 2,
            )  # fmt: skip
            if plan.seconds is not None:
                seconds = plan.seconds - (time.monotonic() - start)
                plan = replace(plan, seconds=max(1.0, seconds))
            rows = torch.tensor([example.frame for example in chosen[: len(drawn)]])
            return decoder.train_decoder(
                parts["vae"], self.frames, self.latents, examples, drawn, rows, plan
            )

        self.vae = self.run.stage(
            "decoder",
            lambda: {"vae": self.vae},
            train,
            lambda path, parts: self._preview_words(path, {**self.words, **parts}),
        )["vae"]

    def save(self, out: Path) -> None:
        """The base, and its sheets of previews."""
        save_base(
            out, self.vae, self.words["unet"], self.words["text_encoder"], self.scheduler,
            self.clip_tokenizer, self.blip, self.blip_tokenizer,
        )  # fmt: skip
        shutil.copytree(self.run.work / "previews", out / "previews")

    def _started(self, **parts: nn.Module) -> Parts:
        """`parts`, with what the base to start from has of them."""
        if (start := self.settings.start) is not None:
            tokenizers = self.clip_tokenizer, self.blip_tokenizer
            said = start_from(start, parts, *tokenizers, self.source.captions)
            print(f"started from {start}: {', '.join(said.values())}")
        return parts

    @torch.no_grad()
    def _preview_pictures(self, path: Path, parts: Parts) -> None:
        made = decode_latents(parts["vae"], autoencoder.encode(parts["vae"], self.real))
        save_sheet(path, self.real, made)

    @torch.no_grad()
    def _preview_words(self, path: Path, parts: Parts) -> None:
        full = [example.full for example in self.shown]
        context = decoder.read_captions(parts["text_encoder"], self.clip_tokenizer, full)
        self._preview_drawn(path, parts["unet"], context, parts.get("vae", self.vae))

    @torch.no_grad()
    def _preview_read(self, path: Path, parts: Parts) -> None:
        told = [example.caption for example in self.shown]
        context = align.read_pictures(parts["blip"], self.blip_tokenizer, self.real, told)
        self._preview_drawn(path, self.words["unet"], context, self.vae)

    def _preview_drawn(
        self, path: Path, unet: nn.Module, context: Context, vae: AutoencoderRAE
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        drawn = decoder.draw_latents(unet, self.scheduler.config, context, generator)
        save_sheet(path, self.real, decode_latents(vae, drawn))


def _psnr(vae: AutoencoderRAE, source: Source) -> float | None:
    """In dB, over what was held out, and said; None if nothing was."""
    if not len(source.held_out):
        return None
    value = round(autoencoder.psnr(vae, source.held_out.to(vae.device)), 2)
    print(f"autoencoder: {value} dB PSNR on {len(source.held_out)} held-out pictures")
    return value


def _spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly."""
    return torch.linspace(0, count - 1, min(most, count)).round().int().tolist()
