"""The model that the page draws with: which one, and how it is loaded."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

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
from configuration.files import refuse_resolvers
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

    config: by which it draws; told: whether that says what it was trained with; digest: of its
    weights; base: what it was tuned from, if that has moved. From these: defaults, the
    `sampler_settings`; unusual, the settings that manifests say besides; given_frame, what of
    somebody's picture (H, W, 3) its stories start from; references, stories of its data set.
    """

    path: Path
    pipeline: StoryPipeline
    config: DictConfig
    digest: str
    noise: Mapping  # the diffusion model's own scheduler configuration
    device: torch.device
    told: bool = True
    base: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.pipeline.set_progress_bar_config(disable=True)
        # Copies: a tokenizer that is asked while it is at work refuses.
        both = (self.pipeline.clip_tokenizer, self.pipeline.blip_tokenizer)
        self._tokenizers, self._reading = copy.deepcopy(both), threading.Lock()
        config = self.config
        self.defaults, self.unusual = sampler_settings(config), unusual_settings(config)
        self.given_frame = partial(given_frame, config)
        self.is_cartoon = self.told and config.dataset == "cartoon"
        self.world = config.cartoon.world
        learnt = self.pipeline.config.tokenization.get("new_words", ())
        self.known_words = known_words(config, learnt) if self.told else None
        self.references = References(config) if self.told else None

    @property
    def samplers(self) -> list[str]:
        return usable_samplers(self.noise)

    @contextmanager
    def drawing(self, scheduler: str) -> Iterator[StoryPipeline]:
        """The pipeline with that sampler, for nobody else meanwhile."""
        with self.lock, drawing_precision(self.config.precision, self.device):
            self.pipeline.scheduler = sampling_scheduler(scheduler, self.noise)
            yield self.pipeline

    def characters_read(self, captions: list[str]) -> list[int | None]:
        """How many characters the model reads of each caption; None: all."""
        length = self.pipeline.config.tokenization["max_length"]
        with self._reading:
            long = long_captions(captions, self._tokenizers, length)
            read = {caption: characters_read(caption, self._tokenizers, length) for caption in long}
        return [read.get(caption) for caption in captions]

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
    noise = load_scheduler_config(config[config.backbone].diffusion_model)
    return PageModel(path, pipeline, config, file_hash(path), noise, device, base=base)


def _of_folder(path: Path, accelerator: str) -> PageModel:
    pipeline = StoryPipeline.from_pretrained(path)
    if any(path.glob("pytorch_lora_weights*")):
        pipeline.load_lora_weights(path)
    own = load_config([f"accelerator={accelerator}"], needs_stories=False)
    (device, *_) = find_devices(own)
    pipeline.to(device)
    trained = pipeline.config.trained_for
    stored = trained.get("config") or {}
    refuse_resolvers(stored)  # somebody else's, perhaps
    config = OmegaConf.merge(own, stored, {"precision": own.precision})
    # What its sampler has kept of the diffusion model's own; exports tell the rest, older ones not.
    noise = {key: value for key, value in pipeline.scheduler.config.items() if key in NOISE}
    noise |= dict(trained.get("scheduler") or {})
    digests = "".join(map(file_hash, sorted(path.rglob("*.safetensors"))))
    digest = sha256(digests.encode()).hexdigest()
    return PageModel(path, pipeline, config, digest, noise, device, told=bool(stored))
