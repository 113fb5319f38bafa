"""Trains and takes up as two processes do; what each saw goes into a file of its own.

python two_processes.py FOLDER [key=value ...]
"""

from __future__ import annotations

import json
import shutil
import sys
import zlib
from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_only

import train
from configuration import load_config
from models.training.story_model import StoryModel

SAME = [  # one optimiser step of four stories
    "max_steps=1", "classifier_free_rate=0", "stochastic_depth=0", "accumulate_grad_batches=1",
    "frames_per_micro_batch=null", "sample_every_n_epochs=null", "run_name=same",
]  # fmt: skip


def draw_for_each_story(patch) -> None:
    """Let a story's noise be its own, wherever it is trained on; `patch` as `setattr`."""
    noise_loss, latents = StoryModel.noise_loss, StoryModel.latents

    def generator(story: str) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(story.encode()))

    def own_latents(self, batch, unused=None):
        rows = []
        for target, story in zip(batch["target_images"], batch["story_id"], strict=True):
            rows.append(latents(self, {"target_images": target[None]}, generator(story)))
        return torch.cat(rows)

    def own_loss(self, batch, latents, noise, timesteps, unconditional):
        own = [generator(story) for story in batch["story_id"]]
        frames = batch["caption_ids"].shape[1]
        noise = torch.cat([torch.randn(frames, *noise.shape[1:], generator=g) for g in own])
        timesteps = torch.cat([torch.randint(0, 1000, (frames,), generator=g) for g in own])
        return noise_loss(self, batch, latents, noise, timesteps, unconditional)

    patch(StoryModel, "latents", own_latents)
    patch(StoryModel, "noise_loss", own_loss)


def main() -> None:
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    seen: dict[str, list] = {"batches": []}
    last, middle = folder / "whole" / "last.ckpt", folder / "middle.ckpt"
    noise_loss = StoryModel.noise_loss

    def noting_loss(self, batch, latents, noise, timesteps, unconditional):
        if self.trainer.training:
            place = [self.current_epoch, self.trainer.fit_loop.epoch_loop.batch_idx]
            if place == [1, 2] and self.global_rank == 0 and not middle.exists():
                shutil.copy(last, middle)  # what a kill at this moment would leave
            draws = [noise.flatten()[0].item(), timesteps.tolist(), unconditional.tolist()]
            seen["batches"].append([place, batch["story_id"], draws])
        return noise_loss(self, batch, latents, noise, timesteps, unconditional)

    StoryModel.noise_loss = noting_loss

    train.train(load_config([*words, "run_name=whole"]))
    train.train(load_config([*words, "run_name=resumed", f"train_model_file={middle}"]))
    (folder / f"{rank_zero_only.rank}.json").write_text(json.dumps(seen))
    StoryModel.noise_loss = noise_loss
    draw_for_each_story(setattr)
    train.train(load_config([*words, *SAME]))


if __name__ == "__main__":
    main()
