"""A toy world of coloured pictures, written as samples folders for the evaluation tests."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from evaluation.samples import SampledStory

VOCABULARY = {"characters": ["ann", "bob"], "places": ["sea", "hill"], "clothes": ["red", "blue"],
              "actions": ["sit", "run"]}  # fmt: skip


def label(place, clothes, action="sit", **flags):
    """A frame label; `clothes` is {character: colour} and gives the cast."""
    flags = {"pronoun_only": False, "place_named": False, "held_out": False, **flags}
    return {"place": place, "cast": list(clothes), "clothes": clothes, "action": action, **flags}


def story(labels, story_id="s0", given=0):
    """A story for metrics, which look at labels only."""
    names = [f"{k}.png" for k in range(len(labels))]
    return SampledStory(story_id, ["A caption."] * len(labels), names, given=given, labels=labels)


def write_samples(
    folder, colours=((200, 30, 30), (30, 30, 200)), stories=2, references=True, size=128, **changes
):
    """Stories whose drawn frame k is plain `colours[k]` (references grey); returns the entries."""
    entries = []
    for number in range(stories):
        name = f"story{number}"
        (folder / name).mkdir(parents=True, exist_ok=True)
        frames, grey = [], []
        for k, colour in enumerate(colours):
            frames.append(f"{name}/{k:04d}.png")
            Image.new("RGB", (size, size), colour).save(folder / frames[-1])
            if references:
                grey.append(f"{name}/reference_{k:04d}.png")
                Image.new("RGB", (size, size), (120, 120, 120)).save(folder / grey[-1])
        entries.append({
            "story_id": name, "captions": [f"Frame {k}." for k in range(len(frames))],
            "frames": frames, "reference_frames": grey, "given": 0, "seed": 5,
            "checkpoint": "sha256:abcdef0123456789", "sampler": {"steps": 12}, "labels": None,
            **changes,
        })  # fmt: skip
    write_manifest(folder, entries)
    return entries


def write_manifest(folder, entries):
    text = "\n".join(json.dumps(entry) for entry in entries)
    (folder / "manifest.jsonl").write_text(text + "\n", encoding="utf-8")


def toy_frames(count, seed):
    """(count, 128, 128, 3) frames and labels: sky tells the place, two bodies who and what."""
    random = np.random.default_rng(seed)
    skies = {"sea": (150, 220, 250), "hill": (90, 160, 70)}
    shirts = {"red": (220, 30, 30), "blue": (30, 40, 220)}
    frames, labels = np.empty((count, 128, 128, 3), np.uint8), []
    for frame in frames:
        there = [["ann"], ["bob"], ["ann", "bob"]][random.integers(3)]
        clothes = {name: str(random.choice(list(shirts))) for name in there}
        place, action = str(random.choice(list(skies))), str(random.choice(["sit", "run"]))
        frame[:] = skies[place]
        frame[112 if action == "sit" else 96 :] = 20
        for name, colour in clothes.items():
            left = 16 if name == "ann" else 72
            frame[40:90, left : left + 40] = shirts[colour]
            frame[10:40, left + 10 : left + 30] = (250, 200, 170) if name == "ann" else (90, 60, 40)
        labels.append(label(place, clothes, action))
    return frames, labels
