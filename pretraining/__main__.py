"""Train the cartoon base from nothing and save it as `diffusion_model` and `blip_model` folders.

    python -m pretraining --out assets/cartoon-base

Three stages, fixed seeds, under an hour on two CPU cores: autoencoder, text to image, alignment. Only frames of training stories are
seen; held-out combinations are only measured. Stages already saved under `--work` are kept.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from diffusers import AutoencoderRAE, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel

from pretraining import align, autoencoder, text_to_image
from pretraining.examples import draw, held_out_scenes, training_examples
from pretraining.model_card import write_model_card
from pretraining.save import save_base
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer

SIZES = {"train": 4000, "val": 100, "test": 200}  # the demo's stories, of which train is used
MAX_LENGTH = 32
STAGES = {  # steps and batch size
    "autoencoder": (1800, 32),
    "text to image": (1700, 24),
    "align": (1000, 32),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("assets/cartoon-base"))
    parser.add_argument("--work", type=Path, default=Path("outputs/pretraining"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    examples = training_examples(SIZES, args.seed)
    scenes = list(dict.fromkeys(example.scene for example in examples))
    position = {scene: i for i, scene in enumerate(scenes)}
    frame_of = [position[example.scene] for example in examples]
    frames, unseen = draw(scenes), draw(held_out_scenes(96))
    print(f"{len(examples)} frames of {SIZES['train']} stories, {len(scenes)} different")
    captions = [e.story_caption for e in examples] + [s.explicit_caption() for s in scenes]
    clip_tokenizer = build_clip_tokenizer(captions, MAX_LENGTH)
    blip_tokenizer = build_blip_tokenizer(captions, MAX_LENGTH)
    report = {"seconds": {}, "seed": args.seed, "stages": STAGES}

    def stage(name: str, folder: str, load, train):
        """Train a part, or load it if an interrupted run had finished it."""
        path = args.work / folder
        if (path / "seconds").exists():
            report["seconds"][name] = int((path / "seconds").read_text())
            return load(path)
        torch.manual_seed(args.seed)
        start = time.perf_counter()
        part = train(*STAGES[name])
        report["seconds"][name] = round(time.perf_counter() - start)
        part.save_pretrained(path)
        (path / "seconds").write_text(str(report["seconds"][name]))
        return part

    vae = stage(
        "autoencoder", "vae", AutoencoderRAE.from_pretrained,
        lambda steps, batch: autoencoder.train_autoencoder(frames, steps, batch),
    ).eval()  # fmt: skip
    report["psnr_held_out"] = round(autoencoder.psnr(vae, unseen), 2)
    print(f"autoencoder: {report['psnr_held_out']} dB on frames of held-out combinations")

    latents = autoencoder.encode(vae, frames)[frame_of]
    unet_path = args.work / "unet"

    def train_unet(steps: int, batch: int) -> UNet2DConditionModel:
        text_encoder, unet = text_to_image.train_text_to_image(
            latents, examples, clip_tokenizer, steps, batch
        )
        text_encoder.save_pretrained(args.work / "text_encoder")
        return unet

    unet = stage("text to image", "unet", UNet2DConditionModel.from_pretrained, train_unet)
    text_encoder = CLIPTextModel.from_pretrained(unet_path.with_name("text_encoder"))
    blip = stage(
        "align", "blip", align.BlipForImageTextRetrieval.from_pretrained,
        lambda steps, batch: align.train_alignment(
            frames, frame_of, examples, clip_tokenizer, blip_tokenizer, text_encoder, steps, batch
        ),
    )  # fmt: skip
    scheduler = DDIMScheduler.from_config(text_to_image.scheduler_config())
    save_base(args.out, vae, unet, text_encoder, scheduler, clip_tokenizer, blip, blip_tokenizer)
    write_model_card(args.out, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
