from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sample_folders import VOCABULARY, toy_frames

from datasets.cartoon.renderer import find, render
from datasets.cartoon.wide import place_characters
from datasets.cartoon.world import ACTIONS, WIDE_LABEL_VOCABULARY, Scene
from evaluation.networks.judge import Judge, decode
from evaluation.networks.judge_parts import CELLS
from evaluation.networks.judge_training import train_judge


def test_reads_unseen_frames_also_blurred_and_larger_ones(judge):
    frames, labels = toy_frames(30, seed=6)
    assert max(judge.error(frames, labels).values()) <= 0.02
    soft = (frames.astype(int) + np.roll(frames, 2, 1) + np.roll(frames, 2, 2)) // 3
    large = soft.astype(np.uint8).repeat(2, 1).repeat(2, 2)
    assert max(judge.error(large, labels).values()) <= 0.05


def test_damage_shows_in_the_label_that_it_concerns(judge):
    """Pictures painted over: another sky is another place, another shirt other clothes."""
    frames, labels = toy_frames(20, seed=11)
    sky, field, red, blue = ([150, 220, 250], [90, 160, 70], [220, 30, 30], [30, 40, 220])
    for one, two, damaged in ((sky, field, "place"), (red, blue, "clothes")):
        painted = frames.copy()
        painted[(frames == one).all(-1)] = two
        painted[(frames == two).all(-1)] = one
        error = judge.error(painted, labels)
        assert error.pop(damaged) >= 0.95 and max(error.values()) <= 0.05


def test_error_is_the_share_of_wrong_readings(judge):
    frames, _ = toy_frames(10, seed=7)
    labels = judge.read(frames)
    assert set(judge.error(frames, labels).values()) == {0}
    labels[0]["place"], labels[1]["place"] = "nowhere", "nowhere"
    labels[2]["action"] = "fly"
    name = labels[3]["cast"][0]
    labels[3]["clothes"][name] = "green"
    worn = sum(len(label["clothes"]) for label in labels)
    assert judge.error(frames, labels) == pytest.approx(
        {"place": 0.2, "cast": 0, "clothes": 1 / worn, "action": 0.1}
    )


def test_saved_judge_reads_the_same(judge, tmp_path):
    frames, labels = toy_frames(20, seed=8)
    judge.save(tmp_path / "judge.safetensors")
    loaded = Judge.load(tmp_path / "judge.safetensors")
    assert loaded.read(frames) == judge.read(frames)
    assert loaded.vocabulary == VOCABULARY and loaded.known_error == judge.known_error
    assert [path.name for path in tmp_path.iterdir()] == ["judge.safetensors"]
    (tmp_path / "any").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1  # for the same eyes


def test_same_seed_same_judge_and_the_global_random_state_is_left_alone():
    frames, labels = toy_frames(30, seed=2)
    state = torch.get_rng_state()
    one, two, other = (
        train_judge(frames, labels, VOCABULARY, seed, steps=2, batch_size=4) for seed in (4, 4, 5)
    )
    assert torch.equal(torch.get_rng_state(), state)
    weights = [next(judge.network.parameters()) for judge in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_bad_judge_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors does not exist"):
        Judge.load(tmp_path / "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights at all")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text", "other"):
        with pytest.raises(ValueError, match=f"{name}.safetensors is not a judge's file"):
            Judge.load(tmp_path / f"{name}.safetensors")


def test_wide_answers_say_weather_and_who_carries_what():
    """In the order of place, cast, clothes, action, weather, object, colour, carrier."""
    vocabulary = {**VOCABULARY, "weathers": ["rain", "snow"], "objects": ["none", "ball"],
                  "colours": ["red", "green"]}  # fmt: skip
    place, cast, clothes, action = [0, 1], [1, 1], [1, 0, 0, 1], [1, 0]
    held = [*place, *cast, *clothes, *action, 0, 1, 0, 1, 0, 1, 0, 1]
    nothing = [*held[:-6], 1, 0, *held[-4:]]
    one, two = decode(2.0 * torch.tensor([held, nothing]) - 1, vocabulary)
    assert one == {
        "place": "hill", "cast": ["ann", "bob"], "clothes": {"ann": "red", "bob": "blue"},
        "action": "sit", "weather": "snow", "object": "ball", "colour": "green", "carrier": "bob",
    }  # fmt: skip
    assert two == {**one, "object": "none", "colour": None, "carrier": None}


def test_a_wide_judge_learns_where_to_look(tmp_path):
    """On 24 frames of one character each, told where it is; saved, it reads the same."""
    random, scenes = Random(0), []
    for number in range(24):
        name = ("bruno", "zara")[number % 2]
        (spot,) = place_characters([name], random).values()
        carried = (name, "red ball") if number % 3 else None
        scenes.append(Scene("meadow", ((name, "white"),), ACTIONS[number % 4],
                            ("clear", "rain")[number // 2 % 2], carried, (spot,)))  # fmt: skip
    frames = np.stack([render(scene) for scene in scenes])
    labels = [{**scene.label(), "at": find(scene)} for scene in scenes]
    judge = train_judge(frames, labels, WIDE_LABEL_VOCABULARY, 0, steps=60, batch_size=8)
    error = judge.error(frames, labels)
    assert max(error[kind] for kind in ("weather", "clothes", "place")) <= 0.1, error
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, 2)
    with torch.inference_mode():
        seen = judge.network(small)["where"].argmax(-1)  # (24, C + 1)
    for scene, cells in zip(scenes, seen, strict=True):
        name = scene.cast[0][0]
        cell = cells[WIDE_LABEL_VOCABULARY["characters"].index(name)].item()
        x, y = find(scene)[name]
        assert abs(cell % CELLS - CELLS * x) < 3 and abs(cell // CELLS - CELLS * y) < 3
    judge.save(tmp_path / "judge.safetensors")
    assert Judge.load(tmp_path / "judge.safetensors").read(frames) == judge.read(frames)
