"""The model that the page draws with: which one, and how it is loaded."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf

from building import (
    build_pipeline,
    check_weights_file,
    drawing_precision,
    find_devices,
    given_frame,
    known_words,
    sampler_settings,
    unusual_settings,
)
from common.files import file_hash
from configuration import load_config, load_to_draw
from datasets.notices import beginning, characters_read, long_captions, named, unknown_words
from models.checkpoints.run_folder import LAST, PREVIOUS, last_good
from models.components import load_scheduler_config
from models.pipeline import StoryPipeline
from models.schedulers import sampling_scheduler, usable_samplers
from page.references import References

__all__ = ["PageModel", "load_model", "newest_model"]

RUNS, DEMO = Path("outputs/checkpoints"), Path("outputs/demo/checkpoints/demo")
NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
         "prediction_type", "rescale_betas_zero_snr")  # fmt: skip


@dataclass
class PageModel:
    """A loaded model; `lock` is held while it draws, as it can draw one story at a time.

    defaults: `sampler_settings` as it was trained to be sampled; digest: of its weights;
    given_frame: what of somebody's picture (H, W, 3) its stories start from.
    """

    path: Path
    pipeline: StoryPipeline
    defaults: Mapping
    digest: str
    noise: Mapping  # the diffusion model's own scheduler configuration
    device: torch.device
    given_frame: Callable[[np.ndarray], np.ndarray]
    precision: str = "32"
    is_cartoon: bool = False
    known_words: frozenset[str] | None = None
    references: References | None = None  # stories of its data set
    world: str = "small"  # of the cartoon
    base: str | None = None  # what it was tuned from, if that has moved
    unusual: Mapping = field(default_factory=dict)  # of how it draws, as manifests say it
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.pipeline.set_progress_bar_config(disable=True)
        # Copies: a tokenizer that is asked while it is at work refuses.
        both = (self.pipeline.clip_tokenizer, self.pipeline.blip_tokenizer)
        self._tokenizers, self._reading = copy.deepcopy(both), threading.Lock()

    @property
    def samplers(self) -> list[str]:
        return usable_samplers(self.noise)

    @contextmanager
    def drawing(self, scheduler: str) -> Iterator[StoryPipeline]:
        """The pipeline with that sampler, for nobody else meanwhile."""
        with self.lock, drawing_precision(self.precision, self.device):
            self.pipeline.scheduler = sampling_scheduler(scheduler, self.noise)
            yield self.pipeline

    def characters_read(self, captions: list[str]) -> list[int | None]:
        """How many characters the model reads of each caption; None: all."""
        length = self.pipeline.config.tokenization["max_length"]
        with self._reading:
            long = long_captions(captions, self._tokenizers, length)
            return [characters_read(c, self._tokenizers, length) if c in long else None
                    for c in captions]  # fmt: skip

    def notices(self, captions: list[str]) -> list[str]:
        """What the model cannot read of `captions`, a sentence each."""
        said, ends = [], self.characters_read(captions)
        for number, (caption, end) in enumerate(zip(captions, ends, strict=True), 1):
            with self._reading:
                words = unknown_words([caption], self._tokenizers, self.known_words)
            if words:
                names = named(f"“{word}”" for word in words)
                said.append(f"Frame {number}: this model has never seen {names}.")
            if end is not None:
                rest = beginning(caption[end:].strip())
                said.append(f"Frame {number}: the caption is too long, “{rest}” is not read.")
        return said


def newest_model() -> Path:
    """The last trained of the runs, or else the demo's.

    Raises:
        ValueError: there is none.
    """
    # A sweep's lie a folder deeper; `**` alone would not go into linked folders.
    files = [path for path in RUNS.glob("*/**/*.ckpt") if path.name in (LAST, PREVIOUS)]
    folders = [path.parent for path in sorted(files, key=lambda p: p.stat().st_mtime, reverse=True)]
    for folder in (*folders, DEMO):
        if found := last_good(folder):
            return found
    raise ValueError(
        f"model: there is no trained model in {RUNS} nor the demo's in {DEMO}; make one with "
        f"make demo, or give model=FILE_OR_FOLDER"
    )


def load_model(path: Path, accelerator: str = "auto", base: str | None = None) -> PageModel:
    """A checkpoint, or a folder that models.export wrote; `base`: what it was tuned from, where
    that is not where it was.

    Raises:
        ValueError, OSError: it is neither, or cannot be drawn with here.
    """
    if not path.exists():
        raise ValueError(f"model: there is no {path}; give a checkpoint or an exported folder")
    if path.is_dir() and (path / "model_index.json").is_file():
        return _of_folder(path, accelerator)
    check_weights_file("model", path)
    config = load_to_draw(path, base, f"accelerator={accelerator}")
    (device, *_) = find_devices(config)
    pipeline = build_pipeline(config, path, device)
    return PageModel(
        path,
        pipeline,
        sampler_settings(config),
        file_hash(path),
        load_scheduler_config(config[config.backbone].diffusion_model),
        device,
        partial(given_frame, config),
        config.precision,
        config.dataset == "cartoon",
        known_words(config, pipeline.config.tokenization.get("new_words", ())),
        References(config),
        config.cartoon.world,
        base,
        unusual_settings(config),
    )


def _of_folder(path: Path, accelerator: str) -> PageModel:
    pipeline = StoryPipeline.from_pretrained(path)
    if any(path.glob("pytorch_lora_weights*")):
        pipeline.load_lora_weights(path)
    own = load_config([f"accelerator={accelerator}"], needs_stories=False)
    (device, *_) = find_devices(own)
    pipeline.to(device)
    trained = pipeline.config.trained_for
    config = OmegaConf.merge(own, trained.get("config") or {})
    # What its sampler has kept of the diffusion model's own; exports tell the rest, older ones not.
    noise = {key: value for key, value in pipeline.scheduler.config.items() if key in NOISE}
    weights = sorted(path.rglob("*.safetensors"))
    learnt = pipeline.config.tokenization.get("new_words", ())
    return PageModel(
        path,
        pipeline,
        sampler_settings(config),
        sha256("".join(map(file_hash, weights)).encode()).hexdigest(),
        noise | dict(trained.get("scheduler") or {}),
        device,
        partial(given_frame, config),
        is_cartoon=trained.get("dataset") == "cartoon",
        known_words=known_words(trained["config"], learnt) if trained.get("config") else None,
        references=References(config) if trained.get("config") else None,
        world=config.cartoon.world,
    )
