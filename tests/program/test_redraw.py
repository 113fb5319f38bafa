"""Frames drawn again: what is kept stays to the byte, what changes is noted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from outcomes import picture

from configuration import ConfigError


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def drawn(changed, name, count=5):
    return {k for k in range(count) if f"{name}/{k:04}.png" in changed}


def different(before, after):
    return {key for key in after if before.get(key) != after[key] and "storyboard" not in key}


@pytest.mark.parametrize("rest", [True, False])
def test_a_frame_is_drawn_again(sampled, rest):
    folder, entries = sampled()
    first, other = entries
    before, lines = contents(folder), (folder / "manifest.jsonl").read_bytes().splitlines()
    words = [
        f"redraw.story={first}",
        "redraw.frame=2",
        f"redraw.rest={str(rest).lower()}",
        "seed=9",
    ]
    _, after = sampled(*words)
    changed = different(before, contents(folder))
    expected = {2, 3, 4} if rest else {2}
    assert drawn(changed, first) == expected and len(changed) == len(expected)
    assert (folder / "manifest.jsonl").read_bytes().splitlines()[1] == lines[1]
    assert after[other] == entries[other]
    redrawn = after[first].pop("redrawn")
    assert after[first] == entries[first]
    assert set(redrawn) == {str(k) for k in expected} and redrawn["2"]["seed"] == 9
    once = contents(folder)
    sampled(*words)  # the same seed, the same picture
    assert not different(once, contents(folder))


def test_the_seed_of_the_story_gives_each_frame_as_it_was(sampled):
    """Whatever has been drawn over it since; first frames take more steps, and so more noise."""
    words = ["batch_size=1", "first_frame_inference_steps=3"]
    folder, entries = sampled(*words)
    before = contents(folder)
    sampled(*words, "redraw.frame=2", "seed=9")
    assert len(different(before, contents(folder))) == 3 * len(entries)
    sampled(*words, "redraw.frame=2", "redraw.rest=false")
    assert not any(2 in drawn(different(before, contents(folder)), name) for name in entries)
    sampled(*words, "redraw.frame=3")
    assert not different(before, contents(folder))


def test_candidates_change_nothing_until_one_is_chosen(sampled):
    folder, entries = sampled()
    name = next(iter(entries))
    before = contents(folder)
    words = [f"redraw.story={name}", "redraw.frame=1", "redraw.candidates=3"]
    sampled(*words)
    offered = different(before, contents(folder))
    assert offered == {
        f"{name}/candidates/0001{end}.png" for end in ("", "-1", "-2", "-3")
    }  # fmt: skip
    shown = [picture(folder / f"{name}/candidates/0001-{n}.png") for n in (1, 2, 3)]
    assert not np.array_equal(shown[0], shown[1])
    _, after = sampled(*words, "redraw.choose=2", "redraw.rest=false")
    assert np.array_equal(picture(folder / f"{name}/0001.png"), shown[1])
    changed = different(before, contents(folder)) - offered
    assert changed == {f"{name}/0001.png"}
    assert after[name]["redrawn"]["1"]["candidate"] == 2
    sampled(*words, "redraw.choose=1")
    assert np.array_equal(picture(folder / f"{name}/0001.png"), shown[0])
    assert drawn(different(before, contents(folder)), name) == {1, 2, 3, 4}


def test_a_continuation_is_redrawn_after_its_given_frame(sampled):
    folder, entries = sampled("task=continuation")
    before = contents(folder)
    sampled("task=continuation", "redraw.frame=1", "seed=3")
    changed = different(before, contents(folder))
    assert all(drawn(changed, name) == {1, 2, 3, 4} for name in entries)
    with pytest.raises(ConfigError, match="frame=0: that frame of .* was given, not drawn"):
        sampled("task=continuation", "redraw.frame=0")


@pytest.mark.parametrize(
    "words, says",
    [
        (["redraw.frame=5"], "redraw.frame=5: .* has frames 0 to 4"),
        (["redraw.frame=1", "redraw.story=gone"], "redraw.story: .* has no gone; it has test-0"),
        (["redraw.frame=1", "redraw.choose=4"], "redraw.choose=4: there is no .*; draw some first"),
        (["redraw.frame=1", "redraw.candidates=0"], "redraw.candidates is 0"),
    ],
)
def test_what_cannot_be_redrawn_is_said(sampled, words, says):
    folder, _ = sampled()
    before = contents(folder), (folder / "manifest.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=says):
        sampled(*words)
    assert before == (contents(folder), (folder / "manifest.jsonl").read_bytes())


def test_samples_of_another_model_are_not_mixed(sampled, trained, tmp_path):
    folder, _ = sampled()
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    entries = [{**json.loads(line), "checkpoint": "0" * 64} for line in lines]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    with pytest.raises(ConfigError, match="was drawn with a checkpoint of the hash 000000000000…"):
        sampled("redraw.frame=1")
