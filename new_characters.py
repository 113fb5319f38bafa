"""The stories that a new character is learnt from: its own pictures, and old stories beside them.

Without the old ones the model would forget its cast (prior preservation, DreamBooth, 2208.12242):
they are the data set's, or drawn beforehand by the model itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from building import (
    build_pipeline,
    choose_tokenization,
    drawing_precision,
    find_devices,
    known_words,
    open_stories,
    sampler_arguments,
    sampler_settings,
    story_spec,
)
from common.accents import without_accents
from common.files import file_hash
from configuration import ConfigError
from data_script.character_pictures import read_character
from datasets.cartoon.build import WORLD_SEED
from datasets.cartoon.build import tell_stories as tell_cartoon_stories
from datasets.cartoon.world import SPECIES
from datasets.new_characters import AUTO, Frame, NewCharacter, resized, tell_stories
from datasets.notices import unknown_words
from datasets.pictures import encode_picture
from datasets.specs import SPECS
from datasets.story_frames import StoryFrames
from datasets.story_hdf5 import StoryFile
from datasets.story_prompts import StoryPrompt
from datasets.story_writer import StoryWriter
from models.components import load_tokenizers
from models.conditioning import HISTORY_SLOTS
from models.frames import sides
from models.main_process import say
from models.training.fitting_words import MOST_WORDS, candidates

__all__ = ["NEW_STORIES", "learnt_pictures", "read_characters", "write_stories"]

STORIES, DRAWN = 100, 40  # of new characters and of old ones; of old ones if they are drawn
NEW_STORIES = "new_characters.h5"


def read_characters(config: DictConfig) -> list[NewCharacter]:
    """Those of `new_characters`, checked.

    Raises:
        ValueError: pictures or captions that cannot be used (see `read_character`), a word that the
            model knows already or cannot be told apart, a class word that it does not know.
    """
    characters = [read_character(one) for one in OmegaConf.to_container(config.new_characters)]
    if characters:
        _check_words(config)
        if _prior(config) == "drawn" and config.dataset != "cartoon" and not _old_names(config):
            raise ConfigError(
                f"new_characters: old stories are to be drawn first, but no old name is known: "
                f"class_word is {AUTO} and {config.dataset}.new_tokens is empty; give a "
                f"class_word, or set prior_stories=none"
            )
    for one in characters:
        if (count := len(one.pictures)) < 3:
            say(f"new_characters: pictures of {one.word!r}: {count}; three to five teach more")
        if one.oblong:
            say(
                f"new_characters: {one.oblong} of {count} pictures of {one.word!r} are not square: "
                f"their middle alone is learnt"
            )
    return characters


def write_stories(config: DictConfig, characters: Sequence[NewCharacter], folder: Path) -> Path:
    """`folder`/new_characters.h5, the stories to tune with; made only if it is not there.

    Raises:
        ConfigError: the run's training, which is to go on, was with others.
    """
    prior = _prior(config)
    size = _size(config)
    made_of = {
        "characters": [[one.word, one.captions, one.pronoun] for one in characters],
        "pictures": [[sha256(p.tobytes()).hexdigest() for p in one.pictures] for one in characters],
        "prior": [prior, file_hash(config.base_model_file), *_prior_is_of(config, prior)],
        "size": [size, STORIES, DRAWN],
        "seed": config.seed,
    }
    path, key = folder / NEW_STORIES, SPECS[config.dataset].text_key
    attributes = {"content_hash": sha256(json.dumps(made_of).encode()).hexdigest()}
    if path.is_file():
        if StoryFile(path, "train", key).content_hash == attributes["content_hash"]:
            return path
        start = config.train_model_file
        if start and Path(start).resolve().parent == folder.resolve():
            raise ConfigError(
                f"run_name: pictures or captions of new_characters, or the old stories beside "
                f"them, have changed since {start}, which learnt from {path}; give another "
                f"run_name, or resume=never to train in its place"
            )
    rows: list[list[Frame]] = []
    if prior == "data":
        rows = list(_of_data(config))
    elif prior == "drawn":
        rows = list(_drawn(config, characters))
    frames = len(rows[0]) if rows else HISTORY_SLOTS
    old = [story[0] for story in rows]
    told = {
        "train": [
            *tell_stories(characters, old, STORIES, frames, size, config.seed),
            *(rows[n % len(rows)] for n in range(STORIES if rows else 0)),
        ],
        "val": tell_stories(characters, [], len(characters), frames, size, -1),  # for previews
    }
    with StoryWriter(path, frames, (key,), attributes) as writer:
        for split, stories in told.items():
            for story in stories:
                pictures, captions = zip(*story, strict=True)
                writer.add(split, pictures, {key: captions})
    path.with_suffix(".latents.h5").unlink(missing_ok=True)  # of the stories that were there
    return path


def learnt_pictures(
    characters: Sequence[NewCharacter], stories: StoryFile, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """New pictures, and those of the old stories, each (N, 3, size, size) uint8."""
    new = [picture for one in characters for picture in one.pictures]
    rows, frames = range(STORIES, len(stories)), range(stories.pictures_per_story)
    old = [Image.fromarray(stories.picture(n, k)) for n in rows for k in frames]
    squares = ([resized(picture, size) for picture in some] for some in (new, old))
    both = (np.array(some, np.uint8).reshape(-1, size, size, 3) for some in squares)
    new, old = (torch.from_numpy(some).permute(0, 3, 1, 2) for some in both)
    return new, old


def _check_words(config: DictConfig) -> None:
    backbone, tokenization = config[config.backbone], choose_tokenization(config)
    tokenization.pop("max_length")
    tokenizers = load_tokenizers(backbone.diffusion_model, backbone.blip_model, **tokenization)
    learnt = [*tokenization["new_tokens"], *tokenization["new_words"]]
    known = known_words(config, tokenization["new_words"])
    taken = {without_accents(word): word for word in (known or learnt)}
    words = [one.word for one in config.new_characters]
    new = [*tokenization["new_words"], *words]
    looked_for = any(one.class_word == AUTO for one in config.new_characters)
    count = len(candidates(*tokenizers, new)) if looked_for else 0
    for one in config.new_characters:
        if one.class_word == AUTO:
            if not count:
                raise ConfigError(
                    f"new_characters: class_word of {one.word!r} is {AUTO}, but no word of three "
                    f"letters or more is one token to both tokenizers of this model; give a word "
                    f"that it knows"
                )
            if count > MOST_WORDS:
                raise ConfigError(
                    f"new_characters: class_word of {one.word!r} is {AUTO}, which tries all words "
                    f"of a small model; this one has {count}: give one for something like it"
                )
        elif unknown_words([one.class_word], tokenizers, known):
            such = f", such as {', '.join(SPECIES.values())}" if config.dataset == "cartoon" else ""
            raise ConfigError(
                f"new_characters: this model has never seen class_word {one.class_word!r}; give a "
                f"word that it knows for something like {one.word!r}{such}"
            )
        if same := taken.get(without_accents(one.word)):
            as_read = "" if same.lower() == one.word.lower() else f", which BLIP reads as {same!r}"
            raise ConfigError(
                f"new_characters: this model knows the word {one.word!r} already, as another one"
                f"{as_read}; choose a word for the character that it has never seen"
            )
        rows = [t([one.word], add_special_tokens=False)["input_ids"][0] for t in tokenizers]
        if all(len(ids) == 1 for ids in rows):
            say(
                f"new_characters: {one.word!r} is a word of the language, which from now on means "
                f"this character alone"
            )
    for tokenizer in tokenizers:
        tokenizer.add_words(words)


def _size(config: DictConfig) -> int:
    """Of squares, which frames that are none are made of as of any picture."""
    return max(sides(config[config.backbone].image_size))


def _prior(config: DictConfig) -> str:
    """`data`, `drawn` or `none`, where the configuration leaves it open."""
    if config.prior_stories != "auto":
        return config.prior_stories
    data = config[config.dataset].hdf5_file
    return "data" if data is None or Path(data).is_file() else "drawn"


def _prior_is_of(config: DictConfig, prior: str) -> list:
    """What decides the old stories, beside the base and the seed."""
    if prior == "data":
        return [file_hash(open_stories(config, "train").path), story_spec(config).crop]
    if prior == "none":
        return []
    classes = [one.class_word for one in config.new_characters]
    wide = config.dataset == "cartoon" and config.cartoon.world != "small"
    return [classes, sampler_settings(config), *([config.cartoon.world] if wide else [])]


def _of_data(config: DictConfig) -> Iterator[list[Frame]]:
    stories = open_stories(config, "train")
    frames, size = StoryFrames(stories, story_spec(config), config.seed), _size(config)
    chosen = Random(config.seed).sample(range(len(stories)), min(STORIES, len(stories)))
    for index in chosen:
        pictures = [resized(Image.fromarray(frame), size) for frame in frames(index)[0]]
        yield list(zip(pictures, stories.captions(index), strict=True))


def _drawn(config: DictConfig, characters: Sequence[NewCharacter]) -> Iterator[list[Frame]]:
    """Stories that the base draws: of the cartoon world its own, else the new captions with the
    class words and the words of the data set in place of the new ones."""
    base = OmegaConf.merge(config, {"new_characters": [], "tune": "all", "task": "visualization"})
    if config.dataset == "cartoon":
        sizes, world = {"train": DRAWN}, config.cartoon.world
        told = tell_cartoon_stories(sizes, WORLD_SEED + 1, world=world)["train"]
        captions = [list(story.captions) for story in told]
    else:
        captions = list(_of_old_words(config, characters))
    device = find_devices(config)[0]
    pipeline = build_pipeline(base, Path(config.base_model_file), device)
    pipeline.set_progress_bar_config(disable=True)
    say(f"new_characters: the base draws {len(captions)} stories first, to keep its cast")
    for start in range(0, len(captions), config.batch_size):
        batch = captions[start : start + config.batch_size]
        prompts = [StoryPrompt(f"prior-{start + n}", list(told)) for n, told in enumerate(batch)]
        with drawing_precision(config.precision, device):
            frames = pipeline.draw(prompts, **sampler_arguments(base)).frames
        for told, story in zip(batch, frames.permute(0, 1, 3, 4, 2).cpu().numpy(), strict=True):
            pictures = [encode_picture(np.ascontiguousarray(frame)) for frame in story]
            yield list(zip(pictures, told, strict=True))


def _old_names(config: DictConfig) -> list[str]:
    old = [one.class_word for one in config.new_characters if one.class_word != AUTO]
    return [*dict.fromkeys(old), *config[config.dataset].new_tokens]


def _of_old_words(config: DictConfig, characters: Sequence[NewCharacter]) -> Iterator[list[str]]:
    old = _old_names(config)
    for n in range(DRAWN):
        random = Random(f"{config.seed}/old/{n}")
        character = random.choice(characters)
        said = [random.choice(character.captions) for _ in range(HISTORY_SLOTS)]
        others = (one for one in characters if one is not character)
        for k, one in enumerate((character, *others)):  # captions may name several
            said = [one.called(caption, old[(n + k) % len(old)]) for caption in said]
        yield said
