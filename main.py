"""Train an auto-regressive latent diffusion model on stories, or sample stories with one.

python main.py                              train what config.yaml describes
python main.py mode=sample                  draw the test stories with the last checkpoint
python main.py mode=sample story=mine.yaml  draw a story of your own
"""

from __future__ import annotations

import re
import sys
from hashlib import sha256
from pathlib import Path

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn
from torch.utils.data import DataLoader

from building import (
    HISTORY_SLOTS,
    SAMPLER_KEYS,
    build_data,
    build_model,
    build_parts,
    check_scheduler,
    check_weights_file,
    open_stories,
    resume,
    sampling_arguments,
    trainable_table,
)
from config import checkpoint_folder, load_config
from datasets.damage import unreadable
from datasets.story_dataset import collate
from datasets.story_file import read_story_file
from evaluation.command_line import option_prefix
from evaluation.metrics.choice import preflight
from evaluation.options import Options
from evaluation.pictures.page import write_storyboard_html
from evaluation.pictures.storyboard import draw_storyboard
from evaluation.run import evaluate
from evaluation.samples import SamplesFolder
from models.checkpoint import checkpoint_hash, load_weights
from models.story_model import StoryModel
from trainers import ProgressBar, SamplesWriter, build_fit_trainer, build_trainer


def train(config: DictConfig) -> Path:
    """Train and return the path of the last checkpoint."""
    for key in ("train_model_file", "base_model_file"):
        check_weights_file(key, config[key])
    trainer = build_fit_trainer(config)
    stories = open_stories(config, "train")
    pl.seed_everything(config.seed, workers=True)
    parts = build_parts(config)
    batches = len(stories) / config.batch_size / trainer.world_size
    model = build_model(config, parts, batches / config.accumulate_grad_batches)
    checkpoint = resume(model, config) if config.train_model_file else None
    if trainer.is_global_zero:
        print(f"{trainable_table(model)}\nTraining on {len(stories)} stories of {stories.path}")
    data = build_data(config, parts, stories.path)
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    return checkpoint_folder(config) / "last.ckpt"


def draw_stories(config: DictConfig) -> list[str] | None:
    """Draw stories into `sample_output_dir`; their ids, or None in all processes but the first."""
    checkpoint = config.test_model_file or checkpoint_folder(config) / "last.ckpt"
    continuation = config.task == "continuation"
    check_weights_file("test_model_file", checkpoint)
    check_weights_file("base_model_file", config.base_model_file if config.tune != "all" else None)
    check_scheduler(config)
    if config.story:
        own = read_story_file(config.story, continuation, longest=HISTORY_SLOTS + 1)
        asked, vocabulary = {story["story_id"]: story_key(story) for story in own}, None
    else:
        stories = open_stories(config, "test")
        count = len(stories) if config.num_stories == -1 else config.num_stories
        numbers = range(min(count, len(stories)))
        asked = {stories.story_id(i): {"captions": stories.captions(i)} for i in numbers}
        vocabulary = stories.label_vocabulary
    names = list(asked)
    settings = {
        "seed": config.seed,
        "given": int(continuation),
        "checkpoint": checkpoint_hash(checkpoint),
        "sampler": {key: config[key] for key in SAMPLER_KEYS},
    }
    try:
        folder = SamplesFolder(config.sample_output_dir, settings, vocabulary, asked)
    except ValueError as error:
        raise ValueError(f"sample_output_dir: {error}") from error
    remaining = [i for i, name in enumerate(names) if name not in folder.done]
    if not config.story and (broken := unreadable(stories, remaining)):
        remaining = [i for i in remaining if i not in broken]
        names = [name for i, name in enumerate(names) if i not in broken]
        why = next(iter(broken.values()))
        if not names:
            raise ValueError(why)
        rank_zero_warn(f"{len(broken)} of {len(asked)} stories cannot be drawn: {why}")
    if remaining:
        callbacks = [SamplesWriter(folder), ProgressBar()]
        trainer = build_trainer(config, logger=False, callbacks=callbacks)
        parts = build_parts(config)
        model = StoryModel(parts, tune=config.tune, sampling=sampling_arguments(config))
        load_weights(model, checkpoint)
        if config.story:
            data = DataLoader([own[i] for i in remaining], batch_size=1, collate_fn=collate)
        else:
            data = build_data(config, parts, stories.path, remaining)
        trainer.predict(model, data, return_predictions=False)
        trainer.strategy.barrier()  # the storyboard needs the others' stories too
    return names if rank_zero_only.rank == 0 else None


def story_key(story: dict) -> dict:
    """What makes an own story another one, though its id is the same."""
    key = {"captions": story["captions"]}
    if story["frames"]:
        first = story["frames"][0]
        key["first_frame"] = sha256(repr(first.shape).encode() + first.tobytes()).hexdigest()
    return key


def sample(config: DictConfig) -> Path:
    """Draw stories into `sample_output_dir`, with a storyboard; returns that folder."""
    folder = Path(config.sample_output_dir)
    metrics = ["fid@64"] * config.calculate_fid + list(config.metrics)  # the original's FID
    options = Options(str(folder), metrics, pictures=False, **config.evaluation)
    if metrics:
        with option_prefix("evaluation."):
            preflight(options)  # a missing file is said before hours of drawing
    names = draw_stories(config)
    if names is not None:
        draw_storyboard(folder, folder / "storyboard.png", names[: config.storyboard_stories])
        write_storyboard_html(folder, folder / "storyboard.html", names)
        print(f"{len(names)} stories, storyboard.png and storyboard.html are in {folder}")
        if metrics:
            with option_prefix("evaluation."):
                evaluate(options)
    return folder


def main(overrides: list[str]) -> None:
    """Do what the command line asks; whatever is wrong ends in one line."""
    if {"-h", "--help"} & set(overrides):
        print(f"{__doc__}\nAll keys, with what they mean, are in config.yaml.")
        return
    try:
        config = load_config(overrides)
        if config.num_cpu_cores not in (None, -1):
            torch.set_num_threads(config.num_cpu_cores)
        (train if config.mode == "train" else sample)(config)
    except (OSError, ValueError) as error:  # ConfigError is a ValueError
        sys.exit("error: " + in_one_line(error))


def in_one_line(error: Exception) -> str:
    """What an error says; of a loader process's, which comes with a traceback, the last line."""
    text = str(error)
    if "\nOriginal Traceback " in text:
        text = re.split(r"\n\w+: ", text)[-1]
    return " ".join(text.split())


if __name__ == "__main__":
    main(sys.argv[1:])
