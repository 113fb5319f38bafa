"""Train the cartoon base from nothing and save it as `diffusion_model` and `blip_model` folders.

    python -m pretraining --out assets/cartoon-base

Five stages, fixed seeds, about an hour on two CPU cores: the autoencoder; a text-to-image
U-Net that learns what every word of an explicit caption means, then to read it off the last token
and out of stories' captions; a BLIP aligned to its text encoder; and the autoencoder's decoder once
more, on latents that the U-Net draws. Only frames of training stories are seen; held-out
combinations are only measured. Stages already saved under `--work` are kept.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from diffusers import AutoencoderRAE, DDIMScheduler, UNet2DConditionModel
from transformers import BlipForImageTextRetrieval, CLIPTextModel

from datasets.cartoon.build import WORLD_SEED
from pretraining import align, autoencoder, decoder, text_to_image
from pretraining.examples import draw, held_out_scenes, training_examples
from pretraining.model_card import write_model_card
from pretraining.save import save_base
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer

SIZES = {"train": 4000, "val": 100, "test": 200}  # the demo's stories, of which train is used
MAX_LENGTH = 32
STAGES = {  # steps and batch size
    "autoencoder": (1800, 32),
    "text to image: bind words": (1400, 24),
    "text to image: summarise": (900, 24),
    "align": (1000, 32),
    "decoder": (650, 32),
}
DRAWN = 3904  # scenes that the last stage draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("assets/cartoon-base"))
    parser.add_argument("--work", type=Path, default=Path("outputs/pretraining"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    examples = training_examples(SIZES, WORLD_SEED)
    scenes = list(dict.fromkeys(example.scene for example in examples))
    position = {scene: i for i, scene in enumerate(scenes)}
    frame_of = [position[example.scene] for example in examples]
    frames, unseen = draw(scenes), draw(held_out_scenes(96))
    print(f"{len(examples)} frames of {SIZES['train']} stories, {len(scenes)} different")
    captions = [e.story_caption for e in examples] + [s.explicit_caption() for s in scenes]
    clip_tokenizer = build_clip_tokenizer(captions, MAX_LENGTH)
    blip_tokenizer = build_blip_tokenizer(captions, MAX_LENGTH)
    report = {"seconds": {}, "seed": args.seed, "stages": STAGES}

    def stage(name: str, folder: str, classes: dict, train) -> dict:
        """Train parts, or load them if an interrupted run had finished them."""
        path = args.work / folder
        if not (path / "seconds").exists():
            torch.manual_seed(args.seed)
            start = time.perf_counter()
            for part, model in train(*STAGES[name]).items():
                model.save_pretrained(path / part)
            (path / "seconds").write_text(str(round(time.perf_counter() - start)))
        report["seconds"][name] = int((path / "seconds").read_text())
        return {part: cls.from_pretrained(path / part).eval() for part, cls in classes.items()}

    vae = stage(
        "autoencoder", "1-autoencoder", {"vae": AutoencoderRAE},
        lambda steps, batch: {"vae": autoencoder.train_autoencoder(frames, steps, batch)},
    )["vae"]  # fmt: skip
    encoded = autoencoder.encode(vae, frames)
    latents = encoded[frame_of]
    classes = {"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel}
    scratch = {
        "text_encoder": text_to_image.build_text_encoder(clip_tokenizer),
        "unet": text_to_image.build_unet(latents.shape[1]),
    }
    bound = stage(
        "text to image: bind words", "2-bind", classes,
        lambda *how: text_to_image.train_text_to_image(
            *scratch.values(), latents, examples, clip_tokenizer, *how
        ),
    )  # fmt: skip
    summarising = stage(
        "text to image: summarise", "3-summarise", classes,
        lambda *how: text_to_image.train_text_to_image(
            *bound.values(), latents, examples, clip_tokenizer, *how,
            story_share=0.2, summary_share=0.25,
        ),
    )  # fmt: skip
    text_encoder, unet = summarising.values()
    blip = stage(
        "align", "4-align", {"blip": BlipForImageTextRetrieval},
        lambda *how: {"blip": align.train_alignment(
            frames, frame_of, examples, clip_tokenizer, blip_tokenizer, text_encoder, *how
        )},
    )["blip"]  # fmt: skip
    scheduler = DDIMScheduler.from_config(text_to_image.scheduler_config())

    def train_decoder(*how) -> dict:
        shown = decoder.scenes_to_draw(scenes, DRAWN)
        drawn = decoder.draw_latents(
            unet, text_encoder, scheduler.config, clip_tokenizer, [scenes[i] for i in shown]
        )
        alone = torch.tensor([len(scene.cast) == 1 for scene in scenes])
        shown = torch.tensor(shown)
        return {"vae": decoder.train_decoder(vae, frames, encoded, alone, drawn, shown, *how)}

    vae = stage("decoder", "5-decoder", {"vae": AutoencoderRAE}, train_decoder)["vae"]
    report["psnr_held_out"] = round(autoencoder.psnr(vae, unseen), 2)
    print(f"autoencoder: {report['psnr_held_out']} dB on frames of held-out combinations")
    save_base(args.out, vae, unet, text_encoder, scheduler, clip_tokenizer, blip, blip_tokenizer)
    write_model_card(args.out, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
