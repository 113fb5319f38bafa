from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sample_folders import VOCABULARY, toy_frames

from evaluation.networks.judge import Judge
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


def test_same_seed_same_judge_and_the_global_random_state_is_left_alone():
    frames, labels = toy_frames(30, seed=2)
    state = torch.get_rng_state()
    one, two, other = (
        train_judge(frames, labels, VOCABULARY, seed, steps=2, batch_size=4) for seed in (4, 4, 5)
    )
    assert torch.equal(torch.get_rng_state(), state)
    weights = [next(judge.network.parameters()) for judge in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_bad_training_input():
    frames, labels = toy_frames(2, seed=0)
    with pytest.raises(ValueError, match="2 frames and 1 labels"):
        train_judge(frames, labels[:1], VOCABULARY, 0)
    labels[0]["place"] = "moon"
    with pytest.raises(ValueError, match="'moon'"):
        train_judge(frames, labels, VOCABULARY, 0)
    with pytest.raises(ValueError, match="list of different names 'places'"):
        train_judge(frames, labels, {"characters": ["ann"]}, 0)


def test_bad_judge_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors does not exist"):
        Judge.load(tmp_path / "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights at all")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text", "other"):
        with pytest.raises(ValueError, match=f"{name}.safetensors is not a judge's file"):
            Judge.load(tmp_path / f"{name}.safetensors")
