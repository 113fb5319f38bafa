"""The five stages of a base: each is kept when it is done, and goes on where it was cut off."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderRAE, DDIMScheduler
from torch import nn

from common.files import replacing, writing_folder
from models.frames import decode_latents
from pretraining import align, autoencoder, decoder, text_to_image
from pretraining.meanings import fold_meanings, learn_meanings
from pretraining.model_card import write_model_card
from pretraining.previews import COLUMNS, save_sheet
from pretraining.save import save_base
from pretraining.schedule import Plan
from pretraining.sizes import SIZES
from pretraining.source import Source, standing_alone
from pretraining.starting import start_from
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer

__all__ = ["STAGES", "Settings", "Stage", "make_base"]

MEANINGS_LR = 1e-2  # of Muon
DRAWN, DRAWN_PER_STEP = 3904, 6  # pictures that the last stage draws, at most


@dataclass(frozen=True)
class Stage:
    """steps: of the cartoon base; share: of other numbers of steps. least: of fewer expect nothing.
    cost: of a step, relatively."""

    folder: str
    steps: int
    batch: int
    share: float
    least: int
    cost: float


STAGES = {
    "autoencoder": Stage("1-autoencoder", 1800, 32, 0.19, 200, 0.65),
    "text to image: bind words": Stage("2-bind", 1400, 24, 0.42, 400, 0.55),
    "text to image: summarise": Stage("3-summarise", 900, 24, 0.25, 200, 0.62),
    "align": Stage("4-align", 1000, 32, 0.09, 100, 0.33),
    "decoder": Stage("5-decoder", 650, 32, 0.05, 50, 0.65),
}
_COST = sum(stage.share * stage.cost for stage in STAGES.values())


@dataclass(frozen=True)
class Settings:
    """What a base is made like; start: another base to start from. Of steps and minutes, which
    count all stages together, one may be given."""

    image_size: int = 128
    size: str = "tiny"
    seed: int = 0
    start: Path | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None  # of every stage; None: each its own
    device: torch.device = torch.device("cpu")

    def plan(self, name: str, state: Path) -> Plan:
        """Of a stage: its share of what is to be spent."""
        stage = STAGES[name]
        steps = max(1, round(self.steps * stage.share)) if self.steps else stage.steps
        seconds = self.minutes and 60 * self.minutes * stage.share * stage.cost / _COST
        return Plan(steps, self.batch_size or stage.batch, seconds, state)


class _Run:
    """Stages under `work`: what is done there is loaded, what was cut off goes on."""

    def __init__(self, source: Source, settings: Settings, work: Path) -> None:
        self.settings, self.work = settings, work
        self.figures: dict[str, dict] = {}
        self._spent = {"seconds": 0.0, "cost": 0.0}
        chosen = {
            key: str(getattr(settings, key)) for key in ("image_size", "size", "seed", "start")
        }
        chosen["stories"] = _fingerprint(source)
        file = work / "settings.json"
        if file.exists() and (before := json.loads(file.read_text("utf-8"))) != chosen:
            other = next(key for key in chosen if before.get(key) != chosen[key])
            raise ValueError(
                f"--work {work} holds stages of a run with {other} {before.get(other)}, this one "
                f"has {chosen[other]}: give another --work, or delete that folder"
            )
        work.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(chosen), "utf-8")

    def stage(
        self,
        name: str,
        build: Callable[[], dict[str, nn.Module]],
        train: Callable[[dict[str, nn.Module], Plan], int],
        preview: Callable[[Path, dict[str, nn.Module]], None],
    ) -> dict[str, nn.Module]:
        """The trained parts; `build` makes them untrained, `train` returns the steps it took."""
        stage, path = STAGES[name], self.work / STAGES[name].folder
        state = self.work / f"{stage.folder}.state.pt"
        plan = self.settings.plan(name, state)
        torch.manual_seed(self.settings.seed)
        device = self.settings.device
        parts = {part: model.to(device) for part, model in build().items()}
        if not path.exists():
            number = list(STAGES).index(name) + 1
            print(f"stage {number} of {len(STAGES)}, {name}: {self._left(plan)}")
            if plan.seconds is None:
                _warn_if_short(name, plan.steps)
            start = time.monotonic()
            for part in parts.values():
                part.train()
            steps = train(parts, plan)
            seconds = round(time.monotonic() - start)
            if plan.seconds is not None:
                _warn_if_short(name, steps)
            done = {"steps": steps, "batch": plan.batch_size, "seconds": seconds}
            with writing_folder(path) as temporary:
                for part, model in parts.items():
                    model.save_pretrained(temporary / part)
                (temporary / "done.json").write_text(json.dumps(done), "utf-8")
            state.unlink(missing_ok=True)
        else:
            print(f"{name}: done before, in {path}")
        parts = {
            part: type(model).from_pretrained(path / part).to(device).eval()
            for part, model in parts.items()
        }
        figures = json.loads((path / "done.json").read_text("utf-8"))
        self.figures[name] = figures
        self._spent["seconds"] += figures["seconds"]
        self._spent["cost"] += figures["steps"] * stage.cost
        preview(self.work / "previews" / f"{stage.folder}.png", parts)
        return parts

    def _left(self, plan: Plan) -> str:
        """What a stage is going to do, and how long all that is left will take."""
        left = [name for name in STAGES if name not in self.figures]
        plans = {name: self.settings.plan(name, self.work) for name in left}
        if plan.seconds is not None:
            minutes = sum(one.seconds for one in plans.values()) / 60
            return f"{plan.seconds / 60:.1f} minutes; {minutes:.0f} minutes to go in all"
        if not self._spent["cost"]:
            return f"{plan.steps} steps"
        cost = sum(one.steps * STAGES[name].cost for name, one in plans.items())
        minutes = cost * self._spent["seconds"] / self._spent["cost"] / 60
        return f"{plan.steps} steps; about {minutes:.0f} minutes to go in all"


def _warn_if_short(name: str, steps: int) -> None:
    if steps < STAGES[name].least:
        print(f"{name}: {steps} steps: expect nothing; {STAGES[name].least} are the least")


def _fingerprint(source: Source) -> str:
    """What tells the stories that stages were trained on from others."""
    digest = hashlib.sha256(source.frames.numpy().tobytes())
    for example in source.examples:
        digest.update(repr(example).encode())
    return digest.hexdigest()[:16]


def make_base(source: Source, out: Path, work: Path, settings: Settings) -> dict:
    """Train the stages on `source`, keep them under `work`, save the base in `out`; its report.

    Raises:
        ValueError: `work` holds stages of other stories or settings.
        FileNotFoundError: there is no base to start from.
    """
    size, examples = SIZES[settings.size], source.examples
    if not len(examples):
        raise ValueError(f"{source.name} has no training picture: build it with some stories")
    run = _Run(source, settings, work)
    frames = source.frames.to(settings.device)
    clip_tokenizer = build_clip_tokenizer(source.captions, source.max_length)
    blip_tokenizer = build_blip_tokenizer(source.captions, source.max_length)
    print(
        f"{source.name}: {len(examples)} captions of {len(frames)} different pictures, "
        f"{len(source.held_out)} held out"
    )
    shown, shown_examples = source.held_out.to(settings.device), source.held_out_examples
    if not len(shown):
        shown, shown_examples = frames, examples
    sheet = [shown_examples[i] for i in _spread(len(shown_examples), COLUMNS)]
    real = shown[[example.frame for example in sheet]]

    def started(**parts: nn.Module) -> dict[str, nn.Module]:
        if settings.start is not None:
            shares = start_from(settings.start, parts, clip_tokenizer, blip_tokenizer)
            said = ", ".join(f"{share:.0%} of {name}" for name, share in shares.items())
            print(f"started from {settings.start}: {said}")
        return parts

    def preview_pictures(path: Path, parts: dict) -> None:
        made = decode_latents(parts["vae"], autoencoder.encode(parts["vae"], real))
        save_sheet(path, real, [made])

    parts = run.stage(
        "autoencoder",
        lambda: started(vae=autoencoder.build_autoencoder(settings.image_size, size)),
        lambda parts, plan: autoencoder.train_autoencoder(
            parts["vae"], frames, plan, source.augment
        ),
        torch.no_grad()(preview_pictures),
    )
    vae = parts["vae"]
    first_psnr = _psnr(vae, source)
    latents = autoencoder.encode(vae, frames)
    scheduler = DDIMScheduler.from_config(text_to_image.scheduler_config())

    @torch.no_grad()
    def preview_drawn(path: Path, parts: dict, contexts=None) -> None:
        unet = parts["unet"]
        contexts = contexts or [
            decoder.read_captions(parts["text_encoder"], clip_tokenizer, [e.full for e in sheet])
        ]
        drawn = [
            decoder.draw_latents(unet, scheduler.config, one, torch.Generator().manual_seed(0))
            for one in contexts
        ]
        save_sheet(path, real, [decode_latents(parts.get("vae", vae), one) for one in drawn])

    def train_words(parts: dict, plan: Plan, examples: list, trained: bool, **shares) -> int:
        encoder = parts["text_encoder"]
        learn_meanings(encoder, clip_tokenizer, source.meanings, trained)
        rate = MEANINGS_LR if source.meanings else None
        steps = text_to_image.train_text_to_image(
            encoder, parts["unet"], latents, examples, clip_tokenizer, plan,
            matrix_lr=rate, **shares,
        )  # fmt: skip
        fold_meanings(encoder)
        return steps

    for number, name in enumerate(("text to image: bind words", "text to image: summarise")):
        parts = run.stage(
            name,
            (lambda: started(
                text_encoder=text_to_image.build_text_encoder(clip_tokenizer, size),
                unet=text_to_image.build_unet(latents.shape[1], size),
            )) if number == 0 else (lambda before=parts: before),
            lambda parts, plan, number=number: train_words(
                parts, plan, examples if number else standing_alone(examples), number > 0,
                **({}, {"story_share": 0.2, "summary_share": 0.25})[number],
            ),
            preview_drawn,
        )  # fmt: skip
    text_encoder, unet = parts["text_encoder"], parts["unet"]

    def preview_read(path: Path, parts: dict) -> None:
        told = [example.caption for example in sheet]
        context = align.read_pictures(parts["blip"], blip_tokenizer, real, told)
        preview_drawn(path, {"unet": unet, "text_encoder": text_encoder}, [context])

    blip = run.stage(
        "align",
        lambda: started(blip=align.build_blip(blip_tokenizer, size.width, size.vision_layers)),
        lambda parts, plan: align.train_alignment(
            parts["blip"], frames, examples, source.telling, clip_tokenizer, blip_tokenizer,
            text_encoder, plan,
        ),
        torch.no_grad()(preview_read),
    )["blip"]  # fmt: skip

    def train_decoder(parts: dict, plan: Plan) -> int:
        start = time.monotonic()
        count = min(DRAWN, DRAWN_PER_STEP * plan.steps)
        chosen = [examples[i] for i in torch.randperm(len(examples))[:count]]
        drawn = decoder.draw_examples(
            unet, text_encoder, scheduler.config, clip_tokenizer, chosen,
            None if source.determined else latents,
        )  # fmt: skip
        if plan.seconds is not None:
            plan = replace(plan, seconds=max(1.0, plan.seconds - (time.monotonic() - start)))
        rows = torch.tensor([example.frame for example in chosen])
        return decoder.train_decoder(parts["vae"], frames, latents, examples, drawn, rows, plan)

    def preview_final(path: Path, parts: dict) -> None:
        preview_drawn(path, {**parts, "unet": unet, "text_encoder": text_encoder})

    vae = run.stage("decoder", lambda: {"vae": vae}, train_decoder, preview_final)["vae"]
    report = {
        "image_size": settings.image_size, "size": settings.size, "seed": settings.seed,
        "start": str(settings.start or "nothing"), "about": source.about,
        "licence": source.licence, "stages": run.figures,
        "count": len(source.held_out), "psnr_first": first_psnr,
        "psnr_held_out": _psnr(vae, source),
    }  # fmt: skip
    save_base(out, vae, unet, text_encoder, scheduler, clip_tokenizer, blip, blip_tokenizer)
    shutil.copytree(work / "previews", out / "previews", dirs_exist_ok=True)
    write_model_card(out, report)
    return report


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
