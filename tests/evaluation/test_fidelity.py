"""Fidelity of drawn frames to the renderer's pictures, by a judge that always reads one scene."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sample_folders import write_manifest

from datasets.cartoon.renderer import render
from datasets.cartoon.world import LABEL_VOCABULARY, Scene
from evaluation.__main__ import main
from evaluation.metrics import fidelity as measuring
from evaluation.metrics.fidelity import fidelity, scene_of
from evaluation.networks.judge import Judge, JudgeNetwork

ALONE = Scene("beach", (("momo", "red"),), "jump")
PAIR = Scene("city", (("tiko", "blue"), ("zara", "white")), "wave")
STRANGERS = Scene("house", (("pip", "red"), ("bruno", "red")), "wave")  # two hes never meet


def write_judge(path, scene):
    network = JudgeNetwork(LABEL_VOCABULARY)
    names, places, shirts, actions = LABEL_VOCABULARY.values()
    worn = dict(scene.cast)
    answers = [place == scene.place for place in places] + [name in worn for name in names]
    answers += [worn.get(name) == shirt for name in names for shirt in shirts]
    answers += [action == scene.action for action in actions]
    last = network.body[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(2 * torch.tensor(answers).float() - 1)
    Judge(network, LABEL_VOCABULARY, {}).save(path)


def measured(tmp_path, scene):
    """Of a story of two frames, what the judge reads and the same with brighter columns; its mean
    squared error too."""
    write_judge(tmp_path / "judge.safetensors", scene)
    samples = tmp_path / "samples"
    (samples / "s").mkdir(parents=True)
    clean = render(scene)
    worse = clean.copy()
    worse[:, ::2] = np.minimum(clean[:, ::2].astype(int) + 20, 255)
    for name, frame in (("s/0.png", clean), ("s/1.png", worse)):
        Image.fromarray(frame).save(samples / name)
    write_manifest(samples, [{
        "story_id": "s", "captions": ["One.", "Two."], "frames": ["s/0.png", "s/1.png"],
        "reference_frames": [], "given": 0, "seed": 0, "checkpoint": "c", "sampler": {},
        "labels": [ALONE.label()] * 2,
    }])  # fmt: skip
    judge = f"judge={tmp_path / 'judge.safetensors'}"
    main([f"samples={samples}", judge, f"cache={tmp_path / 'cache'}", "draws=5", "stories=1"])
    found = json.loads((samples / "metrics.json").read_text())["metrics"]
    error = np.square(worse.astype(float) - clean).mean()
    page = (samples / "storyboard.html").read_text("utf-8")
    return {name: found[f"cartoon/{name}"] for name in found_names()}, error, page


def found_names():
    names = ("psnr", "ssim", "figure_psnr")
    return [name + suffix for name in names for suffix in ("", "_one", "_two")]


@pytest.mark.parametrize(("scene", "own", "other"), [(ALONE, "one", "two"), (PAIR, "two", "one")])
def test_a_frame_is_compared_with_what_the_judge_reads_in_it(tmp_path, scene, own, other):
    found, error, page = measured(tmp_path, scene)
    decibels = 10 * np.log10(255**2 / error)
    assert found["psnr"]["by_frame"] == pytest.approx([50, decibels], rel=1e-5)
    assert found["psnr"]["value"] == pytest.approx((50 + decibels) / 2, rel=1e-5)
    assert found["ssim"]["by_frame"][0] == pytest.approx(1, abs=1e-3)
    assert 0.3 < found["ssim"]["by_frame"][1] < 0.99
    for name in ("psnr", "ssim", "figure_psnr"):
        assert found[f"{name}_{own}"]["value"] == found[name]["value"]
        assert found[f"{name}_{other}"]["value"] is None and found[f"{name}_{other}"]["n"] == 0
    assert found["psnr"]["interval"] is found["psnr"]["chance"] is None  # of a single story
    assert "psnr 50.00" in page and f"psnr {decibels:.2f}" in page


def test_figures_are_measured_apart_from_what_is_behind_them():
    """A spoilt corner is not theirs. Where the same error covers them alone, all of it is."""
    clean = torch.from_numpy(render(PAIR)).permute(2, 0, 1)
    corner = clean.clone()
    corner[:, :8, :8] = 255 - corner[:, :8, :8]
    whole, _, figure, characters = fidelity(corner, PAIR.label()).tolist()
    assert whole < 40 and figure == 50 and characters == 2
    behind = torch.from_numpy(render(Scene(PAIR.place, (), PAIR.action))).permute(2, 0, 1)
    covered = (clean - behind != 0).any(0)
    share = covered.float().mean()
    assert 0.3 < share < 0.8
    spoilt = torch.where(covered, clean // 2, clean)
    whole, _, figure, _ = fidelity(spoilt, PAIR.label()).tolist()
    assert whole - figure == pytest.approx(-10 * share.log10().item(), abs=1e-3)


def test_the_scene_of_a_reading():
    assert fidelity(torch.zeros(3, 128, 128, dtype=torch.uint8), ALONE.label()).all()
    assert not fidelity(torch.zeros(3, 64, 64, dtype=torch.uint8), ALONE.label()).any()
    reading = PAIR.label()
    reading["clothes"] = dict(reversed(PAIR.cast))
    assert scene_of(reading) == PAIR  # he stands left, whatever the order of names
    assert scene_of(ALONE.label()) == ALONE
    nobody = {**ALONE.label(), "cast": [], "clothes": {}}
    crowd = {"tiko": "red", "zara": "red", "luna": "red"}
    elsewhere = {"place": "moon"}, {"action": "fly"}, {"clothes": {"momo": "pink"}}
    others = [nobody, STRANGERS.label(), {**ALONE.label(), "clothes": crowd}]
    others += [{**ALONE.label(), **change} for change in elsewhere]
    others += [{**ALONE.label(), "clothes": {"ann": "red"}}]
    others += [{**ALONE.label(), "weather": "rain"}]  # where in the wide world is not known
    assert [scene_of(other) for other in others] == [None] * 8


def test_what_is_kept_is_of_one_renderer(tmp_path, monkeypatch):
    seen, hashed = [], measuring._renderer.__wrapped__
    judge = SimpleNamespace(sha256="j", encoders={"answers": SimpleNamespace(network=None)})
    judge.vocabulary = {}
    material = SimpleNamespace(drawn=[], pictures=np.array([]), per_frame=lambda *_: None)

    def features(pictures, encoder):
        seen.append(encoder.key)
        return np.zeros((0, len(measuring.COLUMNS)))

    for source in ("a", "a", "b"):
        (tmp_path / "renderer.py").write_text(source)
        kept = hashed(tmp_path)
        monkeypatch.setattr(measuring, "_renderer", lambda kept=kept: kept)
        measuring.psnr(material, judge, features)
    assert seen[0] == seen[1] != seen[2]
