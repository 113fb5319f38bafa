"""What the cartoon base may see: frames of training stories, never a held-out combination."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from datasets.cartoon.build import tell_stories
from datasets.cartoon.renderer import render
from datasets.cartoon.world import SHIRTS, SPECIES
from pretraining import cartoon_source as module
from pretraining.captions import CaptionsOfExamples
from pretraining.cartoon_source import cartoon_source, draw, held_out_scenes
from pretraining.vocabulary import build_clip_tokenizer

SIZES = {"train": 30, "val": 20, "test": 200}


@pytest.fixture(scope="module")
def stories():
    return tell_stories(SIZES, 0)


@pytest.fixture(scope="module")
def source():
    return cartoon_source(SIZES, 0)


def test_examples_are_the_frames_of_the_training_stories(stories, source):
    told = [
        (scene, caption)
        for story in stories["train"]
        for scene, caption in zip(story.scenes, story.captions, strict=True)
    ]
    assert len(source.examples) == len(told) == 150
    assert len(source.frames) == len({scene for scene, _ in told}) < 150
    for example, (scene, caption) in list(zip(source.examples, told, strict=True))[::17]:
        assert example.caption == caption and example.full == scene.explicit_caption()
        frame = source.frames[example.frame].permute(1, 2, 0).numpy()
        assert np.array_equal(frame, render(scene))


def test_full_captions_of_the_wide_world_tell_its_pictures_apart():
    wide = cartoon_source({"train": 200}, 0, world="wide")
    told = {(example.full, example.frame) for example in wide.examples}
    assert len(told) == len(wide.frames) == len({full for full, _ in told})
    # These four face the front while they stand or jump: only an object tells their side.
    side = r"(?:left|right)( (?:Pip|Bruno|Momo|Zara) the \w+ in a \w+ shirt)(?! with)"
    seen = {re.sub(side, r"\1", full) if re.search(r" (stand|jump)s? ", full) else full
            for full, _ in told}  # fmt: skip
    assert len({frame.numpy().tobytes() for frame in wide.frames}) == len(seen) > 700
    tokenizer = build_clip_tokenizer(wide.captions, wide.max_length)
    cut = tokenizer([full for full, _ in told], truncation=True).input_ids
    assert len({tuple(ids) for ids in cut}) == len(told)


def test_full_captions_say_where_before_they_say_who():
    """A causal text encoder's states know nothing of what comes later in a sentence."""
    sizes = {"train": 40}
    told = tell_stories(sizes, 0, world="wide")["train"]
    scenes = [scene for story in told for scene in story.scenes]
    scenes = [scene for scene in scenes for _ in range(3 if scene.carried else 1)]
    depths, sides = {56: "far", 66: "midway", 80: "near"}, {-1: "left", 1: "right"}
    columns = ("first", "second", "third", "fourth", "fifth", "sixth")
    for example, scene in zip(cartoon_source(sizes, 0, world="wide").examples, scenes, strict=True):
        for spot, (name, shirt) in zip(scene.spots, scene.cast, strict=True):
            where = f"{columns[(spot.x - 24) // 16]} {depths[spot.size]} {sides[spot.side]}"
            who = f"{name.title()} the {SPECIES[name]} in a {shirt} shirt"
            assert f"{where} {who}" in example.full
        spots = rf"\b({'|'.join(columns)}) (far|midway|near) (left|right) "
        open_left = rf"{spots}| in a ({'|'.join(SHIRTS)}) shirt"
        assert re.sub(open_left, "", example.full) == example.short  # as stories leave it open
    assert max(len(scene.cast) for scene in scenes) == 3
    assert 0.5 < sum(scene.carried is not None for scene in scenes) / len(scenes) < 0.75


def test_a_grammar_that_leaks_is_refused(stories, monkeypatch):
    monkeypatch.setattr(module, "tell_stories", lambda *_, **__: {"train": stories["test"]})
    with pytest.raises(RuntimeError, match="shows a held-out combination"):
        cartoon_source(SIZES, 0)


def test_held_out_scenes_are_unseen_different_and_the_same_each_time(source):
    scenes = held_out_scenes(96)
    assert len(set(scenes)) == 96 and all(scene.held_out for scene in scenes)
    assert scenes == held_out_scenes(96) and scenes != held_out_scenes(96, seed=1)
    assert torch.equal(source.held_out, draw(scenes))
    seen = {frame.numpy().tobytes() for frame in source.frames}
    assert not seen & {frame.numpy().tobytes() for frame in source.held_out}
    small, large = draw(scenes[:3], 64).float(), source.held_out[:3].float()
    assert (small - torch.nn.functional.avg_pool2d(large, 2)).abs().mean() < 8


def test_captions_are_told_as_often_as_asked_and_explicit_otherwise(source):
    torch.manual_seed(0)
    tokenizer = build_clip_tokenizer(source.captions, source.max_length)
    table = CaptionsOfExamples(tokenizer, source.examples, source.short_share)
    place = next(i for i, e in enumerate(source.examples) if e.caption != e.full)
    example = source.examples[place]
    assert example.short and not set(example.short.split()) & set(SHIRTS)
    texts = list(table.row)

    def drawn(story_share: float, empty_share: float = 0.0) -> list[str]:
        chosen = torch.full((1000,), place)
        return [texts[row] for row in table.draw(chosen, story_share, empty_share)]

    captions = drawn(0.3)
    assert set(captions) == {example.full, example.short, example.caption}
    assert captions.count(example.caption) == pytest.approx(300, abs=40)
    assert captions.count(example.full) > captions.count(example.short) > 40
    assert set(drawn(1.0)) == {example.caption}
    assert example.caption not in drawn(0.0)
    assert drawn(0.0, 0.1).count("") == pytest.approx(100, abs=30)


def test_captions_read_once_are_those_read_alone(source):
    tokenizer = build_clip_tokenizer(source.captions, source.max_length)
    table = CaptionsOfExamples(tokenizer, source.examples, source.short_share)
    texts = [source.examples[i].full for i in (3, 50)] + ["", source.examples[7].caption]
    ids, mask = table.read(table.rows(texts), torch.device("cpu"))
    alone = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    assert torch.equal(ids, alone.input_ids) and torch.equal(mask, alone.attention_mask)
