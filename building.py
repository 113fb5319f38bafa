"""What both modes need: the data set's stories and the parts of the model.

What only these parts can find wrong with a configuration is said here, before long work starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from configuration import ConfigError, checkpoint_to_draw_with, plain
from configuration.checkpoint_settings import EXTRA_SAMPLER_KEYS, SAMPLER_KEYS
from datasets.cartoon.build import WORLD_SEED, ensure_cartoon_file
from datasets.cartoon.strangers import make_up
from datasets.cartoon.worlds import WORLDS
from datasets.new_characters import AUTO
from datasets.specs import SPECS, StorySpec
from datasets.story_frames import StoryFrames, shown_part
from datasets.story_hdf5 import StoryFile, validate_story_file
from datasets.story_prompts import StoryPrompt, in_parts, read_benchmark_prompts
from datasets.written_stories import read_written_stories
from models.causal_story.add_ons import add_causal_story, in_use
from models.checkpoints.checkpoint import (
    check_add_ons,
    load_base,
    load_weights,
    read_tokenization,
)
from models.checkpoints.file_kinds import whole_kind
from models.components import Components, load_components, load_scheduler_config
from models.frames import sides, wanted_sides
from models.pipeline import StoryPipeline
from models.schedulers import sampling_scheduler
from models.training.new_words import add_words, merge_words
from models.training.tuned_decoder import TunedDecoder, merge_decoder
from models.training.tuning import add_lora, has_lora, merge_lora

__all__ = [
    "HALF", "attach_add_ons", "build_parts", "build_pipeline", "check_scheduler",
    "check_weights_file", "drawing_precision", "find_devices", "given_frame", "known_words",
    "naming_section", "open_stories", "own_stories", "pipeline_arguments", "sampler_arguments",
    "sampler_settings", "story_frames", "story_spec", "unusual_settings",
]  # fmt: skip

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def check_weights_file(key: str, path: str | Path | None) -> None:
    """ConfigError if `path`, the value of `key`, is no whole file of weights: before long work."""
    try:
        if path is not None:
            whole_kind(path)
    except ValueError as error:
        raise ConfigError(f"{key}: {path} {error}") from error


def open_stories(config: DictConfig, split: str) -> StoryFile:
    """A split of the data set, cheaply checked; the cartoon world is drawn on first use."""
    data, text_key = config[config.dataset], SPECS[config.dataset].text_key
    path = data.hdf5_file
    if path is None:
        path = ensure_cartoon_file(
            data.data_dir, dict(data.stories), WORLD_SEED, processes=2,
            frames=data.story_length, strangers=data.strangers, world=data.world,
        )  # fmt: skip
    validate_story_file(path, (split,), (text_key,))
    if split == "train" and len(StoryFile(path, "val", text_key)):
        validate_story_file(path, ("val",), (text_key,))
    stories = StoryFile(path, split, text_key)
    if config.task == "continuation" and stories.pictures_per_story == 1:
        raise ValueError(f"{path} has one picture a story: continuation needs two or more")
    return stories


def story_spec(config: DictConfig) -> StorySpec:
    """How the configuration's data set is read."""
    return replace(SPECS[config.dataset], crop=config[config.dataset].crop)


def story_frames(stories: StoryFile, config: DictConfig) -> StoryFrames:
    """A split's frames, in the proportions of drawn ones."""
    size = sides(config[config.backbone].image_size)
    return StoryFrames(stories, story_spec(config), config.seed, size=size)


def given_frame(config: DictConfig, picture: np.ndarray) -> np.ndarray:
    """A picture of one's own (H, W, 3) as the data set's are shown when stories are drawn."""
    return shown_part(picture, story_spec(config), sides(config[config.backbone].image_size))


def build_parts(config: DictConfig) -> Components:
    """The parts of the backbone, fitted to the data set's captions, with the add-ons asked for."""
    data, backbone = config[config.dataset], config[config.backbone]
    tokenization = choose_tokenization(config)
    with naming_section(config.backbone):
        sizes = {**OmegaConf.to_container(backbone), "history_slots": config.history_slots}
        parts = load_components(**sizes, **tokenization)
    for name in ("clip", "blip"):
        key = f"{name}_embedding_tokens"
        if data[key] is not None and data[key] != (
            size := len(getattr(parts, f"{name}_tokenizer"))
        ):
            raise ConfigError(
                f"{config.dataset}.{key} is {data[key]}, but the tokenizer of backbone="
                f"{config.backbone} comes to {size} with {config.dataset}.new_tokens; set it to "
                f"null, or use the backbone it was counted for"
            )
    if wanted := wanted_sides(parts.vae, sides(backbone.image_size)):
        if isinstance(backbone.image_size, int):
            wanted = wanted.replace("multiples", "a multiple")
        raise ConfigError(
            f"{config.backbone}.image_size is {backbone.image_size}, which "
            f"{backbone.diffusion_model} cannot draw; set it to {wanted}"
        )
    attach_add_ons(parts, config)
    if config.new_characters:
        # Rows that are looked for start as the word is spelt: training or weights give them.
        starts = {
            one.word: one.word if one.class_word == AUTO else one.class_word
            for one in config.new_characters
        }
        add_words(parts, starts, beside=config.tune != "all")
        if config.decoder_steps and config.tune != "all":
            parts.vae.decoder = TunedDecoder(parts.vae.decoder)
    return parts


def choose_tokenization(config: DictConfig) -> dict:
    """How captions become tokens, by the names that `load_components` takes.

    Raises:
        ValueError: the checkpoint to go on from was trained with other words.
    """
    data = OmegaConf.to_container(config[config.dataset])
    chosen = {key: data[key] for key in ("new_tokens", "new_tokens_match", "max_length")}
    goes_on = config.train_model_file
    if config.mode == "sample":
        goes_on = checkpoint_to_draw_with(config)
    path = goes_on or config.base_model_file
    if not path:
        return chosen
    theirs = read_tokenization(path)
    own = {one.word for one in config.new_characters} if goes_on else set()
    chosen["new_words"] = [word for word in theirs.pop("new_words", ()) if word not in own]
    if not chosen["new_tokens"]:
        theirs.pop("new_tokens_match", None)  # there is nothing to match
    if not goes_on:
        theirs.pop("max_length", None)  # what is tuned may read longer captions
    check_add_ons(
        {f"{config.dataset}.{key}": value for key, value in theirs.items()},
        {f"{config.dataset}.{key}": chosen[key] for key in theirs},
        path,
    )
    return chosen


def attach_add_ons(parts: Components, config: DictConfig, load: bool = True) -> None:
    """Causal-Story's add-ons and LoRA, and the weights that tuning starts from if `load`."""
    used = in_use(OmegaConf.to_container(config.causal_story))
    parts.add_ons = {} if config.tune == "all" else {"tune": config.tune}
    parts.add_ons |= {f"causal_story.{key}": value for key, value in used.items()}
    add_causal_story(parts.unet, parts.conditioner, **used)
    if load and config.base_model_file and (config.mode == "train" or config.tune != "all"):
        load_base(parts, config.base_model_file)
    if config.tune == "lora":
        parts.add_ons["lora_rank"] = config.lora_rank
        if config.lora_layers != "attention":
            parts.add_ons["lora_layers"] = config.lora_layers
        add_lora(parts.unet, config.lora_rank, config.lora_layers)


def check_scheduler(config: DictConfig) -> None:
    """Refuse a sampler that cannot use what the diffusion model predicts."""
    with naming_section(config.backbone):
        settings = load_scheduler_config(config[config.backbone].diffusion_model)
    sampling_scheduler(config.scheduler, settings)


def own_stories(config: DictConfig) -> list[StoryPrompt]:
    """Those of the story file, or of a benchmark's folder, that `story` names."""
    continuation = config.task == "continuation"
    if not Path(config.story).is_dir():
        stories = read_written_stories(config.story, continuation)
        if continuation:
            firsts = [given_frame(config, story.first_frame) for story in stories]
            stories = [replace(s, first_frame=f) for s, f in zip(stories, firsts, strict=True)]
    elif continuation:
        raise ValueError(f"{config.story} has no first frames; set task=visualization")
    else:
        stories = read_benchmark_prompts(config.story, **config.vistorybench)
    stories = list(in_parts(stories, config.frames_per_part))
    counts = Counter(story.story_id for story in stories)
    if twice := [story_id for story_id, count in counts.items() if count > 1]:
        raise ConfigError(
            f"frames_per_part={config.frames_per_part} makes a story {twice[0]!r} of "
            f"{config.story}, which has another one of that story_id; give that one another"
        )
    if continuation and any(story.first_frame is None for story in stories):
        raise ConfigError(
            f"frames_per_part={config.frames_per_part} cuts stories of {config.story}, whose later "
            f"parts have no first frame; set task=visualization or frames_per_part=null"
        )
    return stories


@contextmanager
def naming_section(section: str) -> Iterator[None]:
    """Messages about missing files begin with a key of `section`; put the section before it."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{section}.{error}") from error


def known_words(config: Mapping, new_words: Iterable[str] = ()) -> frozenset[str] | None:
    """All words, in lower case, that a model of this configuration can have seen.

    new_words: what it has learnt later. Only the tiny backbone's are known, and only where it was
    trained on the cartoon world: other backbones have read the internet, other worlds say
    anything. None: not known.
    """
    if (config["backbone"], config["dataset"]) != ("tiny", "cartoon"):
        return None
    data = config["cartoon"]
    learnt = {word.lower() for word in (*data["new_tokens"], *new_words)}
    known = WORLDS[data.get("world", "small")].vocabulary()
    return known | learnt | {*make_up(data.get("strangers", 0))}


def load_parts(config: DictConfig, checkpoint: Path) -> Components:
    """The parts of a trained model; of what was tuned, only a LoRA still lies beside the base."""
    parts = build_parts(config)
    load_weights(parts, checkpoint)
    merge_words(parts.conditioner)
    merge_decoder(parts.vae)
    return parts


def build_pipeline(config: DictConfig, checkpoint: Path, device: torch.device) -> StoryPipeline:
    """The trained model on `device`, ready to draw: LoRAs are added to its weights."""
    parts = load_parts(config, checkpoint)
    if has_lora(parts.unet):
        merge_lora(parts.unet)
    pipeline = StoryPipeline.from_components(parts, config.scheduler)
    names = []
    for file in config.lora_files:
        names.append(f"lora{len(names)}")
        try:
            pipeline.load_lora_weights(file, adapter_name=names[-1])
        except ValueError as error:
            raise ConfigError(f"lora_files: {error}") from error
    if names:
        pipeline.set_adapters(names, [config.lora_scale] * len(names))
        pipeline.fuse_lora(adapter_names=names)
        pipeline.unload_lora_weights()
    return pipeline.to(device)


def find_devices(config: DictConfig) -> list[torch.device]:
    """The devices of this machine that the configuration asks for; on a CPU, one a process."""
    found = torch.accelerator.current_accelerator(check_available=True)
    kind = {"gpu": found.type if found else "cuda", "auto": found.type if found else "cpu"}
    kind = kind.get(config.accelerator, config.accelerator)
    ids, there = config.gpu_ids, torch.accelerator.device_count() if found else 0
    if kind == "cpu":
        count = 1 if ids == "auto" else ids if isinstance(ids, int) else len(ids)
        return [torch.device("cpu")] * count
    ids = range(there) if ids == "auto" else range(ids) if isinstance(ids, int) else list(ids)
    if found is None or found.type != kind or not ids or max(ids) >= there:
        raise ConfigError(
            f"this machine cannot do accelerator={config.accelerator} gpu_ids={config.gpu_ids} (it "
            f"has {there} of {kind}); set them to auto"
        )
    return [torch.device(kind, i) for i in ids]


def drawing_precision(precision: str, device: torch.device) -> AbstractContextManager:
    """In which `device` draws as the key `precision` says."""
    half = HALF.get(precision)
    return torch.autocast(device.type, half) if half else nullcontext()


def unusual_settings(config: DictConfig) -> dict:
    """What else a samples folder is drawn with, as manifests say it where it is not as usual."""
    said = {}
    if config.precision != 32:
        said["precision"] = config.precision
    if (crop := config[config.dataset].crop) != SPECS[config.dataset].crop:
        said["crop"] = crop
    return said


def sampler_settings(config: DictConfig) -> dict:
    """How `config` draws, as manifests say it; what is off is not said."""
    values = plain(config)
    extras = {key: values[key] for key in (*EXTRA_SAMPLER_KEYS, "lora_files")}
    if extras["lora_files"]:
        extras["lora_scale"] = values["lora_scale"]
    chosen = {key: values[key] for key in SAMPLER_KEYS}
    return chosen | {key: value for key, value in extras.items() if value not in (None, False, [])}


def pipeline_arguments(settings: Mapping) -> dict:
    """Those of `sampler_settings` that `StoryPipeline` takes; the others are of the model."""
    of_the_model = ("scheduler", "lora_files", "lora_scale")
    return {key: value for key, value in settings.items() if key not in of_the_model}


def sampler_arguments(config: DictConfig) -> dict:
    """What `StoryPipeline.draw` takes beside prompts."""
    chosen = pipeline_arguments(sampler_settings(config))
    return {**chosen, "seed": config.seed, "continuation": config.task == "continuation"}
