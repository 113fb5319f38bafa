"""What the base may see: frames of training stories, never a held-out combination."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from datasets.cartoon.build import tell_stories
from datasets.cartoon.renderer import render
from datasets.cartoon.world import HELD_OUT
from pretraining import examples as module
from pretraining.examples import Example, draw, draw_caption, held_out_scenes, training_examples

SIZES = {"train": 400, "val": 20, "test": 200}


@pytest.fixture(scope="module")
def stories():
    return tell_stories(SIZES, 0)


@pytest.fixture(scope="module")
def examples():
    return training_examples(SIZES, 0)


def test_examples_are_the_frames_of_the_training_stories(stories, examples):
    told = [
        Example(scene, caption)
        for story in stories["train"]
        for scene, caption in zip(story.scenes, story.captions, strict=True)
    ]
    assert examples == told and len(examples) == 2000


def test_no_example_shows_a_held_out_combination_and_the_test_stories_do(stories, examples):
    def shown(scene):
        return HELD_OUT & {(name, scene.place, scene.action) for name, _ in scene.cast}

    assert not any(shown(example.scene) for example in examples)
    assert any(shown(scene) for story in stories["test"] for scene in story.scenes)


def test_every_place_action_and_character_is_seen_all_the_same(examples):
    seen = [example.scene for example in examples]
    assert len({scene.place for scene in seen}) == 5
    assert len({scene.action for scene in seen}) == 4
    assert len({name for scene in seen for name, _ in scene.cast}) == 6


def test_a_grammar_that_leaks_is_refused(stories, monkeypatch):
    monkeypatch.setattr(module, "tell_stories", lambda sizes, seed: {"train": stories["test"]})
    with pytest.raises(RuntimeError, match="shows a held-out combination"):
        training_examples(SIZES, 0)


def test_held_out_scenes_are_unseen_different_and_the_same_each_time(examples):
    scenes = held_out_scenes(96)
    assert len(set(scenes)) == 96 and all(scene.held_out for scene in scenes)
    assert not set(scenes) & {example.scene for example in examples}
    assert scenes == held_out_scenes(96) and scenes != held_out_scenes(96, seed=1)


def test_drawing_keeps_order_and_colours():
    scenes = held_out_scenes(3)
    frames = draw(scenes)
    assert frames.shape == (3, 3, 128, 128) and frames.dtype == torch.uint8
    assert np.array_equal(frames[2].permute(1, 2, 0).numpy(), render(scenes[2]))


def test_captions_are_told_as_often_as_asked_and_explicit_otherwise(examples):
    example = next(e for e in examples if e.story_caption != e.scene.explicit_caption())
    full = example.scene.explicit_caption()
    short = example.scene.explicit_caption(name_clothes=False)
    assert len({full, short, example.story_caption}) == 3
    rng = random.Random(0)
    drawn = [draw_caption(example, 0.3, rng) for _ in range(2000)]
    assert set(drawn) == {full, short, example.story_caption}
    assert drawn.count(example.story_caption) == pytest.approx(600, abs=80)
    assert drawn.count(full) > drawn.count(short) > 80
    assert {draw_caption(example, 1.0, rng) for _ in range(50)} == {example.story_caption}
    assert example.story_caption not in {draw_caption(example, 0.0, rng) for _ in range(50)}
