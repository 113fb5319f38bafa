"""Frames drawn again: what is kept stays to the byte, what changes is noted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from outcomes import CAPTIONS, picture
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from configuration import ConfigError
from redraw import _note


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
    if not rest:
        once = contents(folder)
        sampled(*words)  # the same seed, the same picture
        assert not different(once, contents(folder))


def test_what_drawn_frames_look_at_takes_the_place_of_what_they_did(tmp_path, monkeypatch):
    looked = [[0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]
    lines = [json.dumps({"story_id": name, "history_weights": looked}) + "\n" for name in "ab"]
    (tmp_path / "m").write_text("".join(lines))
    _note(tmp_path / "m", "b", {"2": {"seed": 3}}, {2: [0.25, 0.75, 0]})
    first, second = (tmp_path / "m").read_text().splitlines(keepends=True)
    assert first == lines[0]
    assert json.loads(second)["history_weights"] == [*looked[:2], [0.25, 0.75, 0]]
    (tmp_path / "m").write_text('{"story_id": "b"}\n')  # drawn without history
    _note(tmp_path / "m", "b", {"2": {"seed": 3}}, {2: [0.25, 0.75, 0]})
    assert json.loads((tmp_path / "m").read_text()).keys() == {"story_id", "redrawn"}
    before, write = (tmp_path / "m").read_bytes(), Path.write_bytes
    half = lambda path, content: (write(path, content[:9]), {}["killed"])  # noqa: E731
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyError, match="killed"):
        _note(tmp_path / "m", "b", {"2": {"seed": 4}}, {})
    assert (tmp_path / "m").read_bytes() == before


@pytest.mark.long
def test_the_seed_of_the_story_gives_each_frame_as_it_was(sampled, capfd):
    """Whatever has been drawn over it since; first frames take more steps, and so more noise."""
    words = ["batch_size=1", "num_stories=1", "first_frame_inference_steps=3"]
    folder, entries = sampled(*words)
    before = contents(folder)
    sampled(*words, "redraw.frame=2", "seed=9")
    assert len(different(before, contents(folder))) == 3 * len(entries)
    sampled(*words, "redraw.frame=2", "redraw.rest=false")
    assert not any(2 in drawn(different(before, contents(folder)), name) for name in entries)
    sampled(*words, "redraw.frame=3")
    assert not different(before, contents(folder))
    assert "frames come as they did then" in capfd.readouterr().out
    sampled(*words, "redraw.frame=3", "num_inference_steps=1")
    sampled(*words, "redraw.frame=4", "precision=bf16-mixed")
    assert "as they did" not in capfd.readouterr().out
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        redrawn = json.loads(line)["redrawn"]
        assert (redrawn["4"]["precision"], "precision" in redrawn["3"]) == ("bf16-mixed", False)


@pytest.mark.long
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
    manifest = folder / "manifest.jsonl"
    told = [json.loads(line) | {"history_weights": np.eye(5, k=-1).tolist()}
            for line in manifest.read_text().splitlines()]  # fmt: skip
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in told))
    _, after = sampled(*words, "redraw.choose=2", "redraw.rest=false")
    looked = np.array(after[name]["history_weights"])
    assert not looked[1].any() and np.array_equal(looked[2:], np.eye(5, k=-1)[2:])
    assert np.array_equal(picture(folder / f"{name}/0001.png"), shown[1])
    changed = different(before, contents(folder)) - offered
    assert changed == {f"{name}/0001.png"}
    assert after[name]["redrawn"]["1"]["candidate"] == 2
    sampled(*words, "redraw.choose=1")
    assert np.array_equal(picture(folder / f"{name}/0001.png"), shown[0])
    assert drawn(different(before, contents(folder)), name) == {1, 2, 3, 4}


def test_a_chosen_candidate_is_noted_as_it_was_drawn(sampled):
    """Not as the command that chooses it would draw; older candidates cannot be chosen any more."""
    folder, entries = sampled()
    name = next(iter(entries))
    words = [f"redraw.story={name}", "redraw.frame=3"]
    sampled(*words, "redraw.candidates=3")
    sampled(*words, "redraw.candidates=2", "seed=7", "num_inference_steps=1")
    with pytest.raises(ConfigError, match="redraw.choose=3: there is no"):
        sampled(*words, "redraw.choose=3")
    _, after = sampled(*words, "redraw.choose=2")
    chosen, rest = (after[name]["redrawn"][k] for k in "34")
    assert (chosen["seed"], chosen["candidate"]) == (7, 2)
    assert chosen["sampler"]["num_inference_steps"] == 1
    assert rest["seed"] == 0 and rest["sampler"] == entries[name]["sampler"]


def test_a_story_file_that_says_something_else_by_now_is_not_passed_over(sampled, own_story):
    sampled(own_story())
    told = own_story(captions=["He jumps.", *CAPTIONS[1:]])
    with pytest.raises(ConfigError, match="has other captions of mine than .* was drawn with"):
        sampled(told, "redraw.frame=1", "seed=3")


@pytest.fixture
def clip(tmp_path):
    """A small one of random weights, with the tokenizer of the base."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    config = CLIPConfig(
        text_config={**small, "vocab_size": 49408, "eos_token_id": 49407},
        vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=8,
    )  # fmt: skip
    folder = tmp_path / "clip"
    CLIPModel(config).save_pretrained(folder)
    CLIPTokenizer.from_pretrained("assets/cartoon-base/tokenizer").save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


@pytest.mark.long
def test_a_clip_may_choose(sampled, clip, capsys):
    folder, entries = sampled()
    words = ["redraw.frame=1", "redraw.candidates=3", "redraw.rest=false"]
    _, after = sampled(*words, f"redraw.scorer={clip}")
    said = capsys.readouterr().out
    model = CLIPModel.from_pretrained(clip).eval()
    tokenizer = CLIPTokenizer.from_pretrained(clip)
    for name, entry in entries.items():
        shown = [picture(folder / f"{name}/candidates/0001-{n}.png") for n in (1, 2, 3)]
        scores = []
        for one in shown:
            small = Image.fromarray(one.astype(np.uint8)).resize((32, 32), Image.BICUBIC)
            pixels = (np.asarray(small) / 255 - OPENAI_CLIP_MEAN) / OPENAI_CLIP_STD
            pixels = torch.tensor(pixels).permute(2, 0, 1)[None].float()
            words = tokenizer(entry["captions"][1], return_tensors="pt")
            with torch.inference_mode():
                scores.append(model(pixel_values=pixels, **words).logits_per_image.item())
        best = int(np.argmax(scores))
        assert after[name]["redrawn"]["1"]["candidate"] == best + 1
        assert np.array_equal(picture(folder / f"{name}/0001.png"), shown[best])
        told = re.search(rf"{name}.*: {best + 1} takes its .*of scores (-?[\d.]+)", said)
        assert float(told[1]) == pytest.approx(scores[0], abs=0.006)
    (clip / "config.json").unlink()
    with pytest.raises(ConfigError, match="redraw.choose is 1, but redraw.frame is null"):
        sampled("redraw.choose=1")
    for many, says in ((3, "redraw.scorer: .* is no folder of a CLIP"),
                       (1, "chooses among candidates")):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            sampled("redraw.frame=1", f"redraw.candidates={many}", f"redraw.scorer={clip}")


@pytest.mark.long
def test_a_continuation_is_redrawn_after_its_given_frame(sampled):
    words = ["task=continuation", "num_stories=1"]
    folder, entries = sampled(*words)
    before = contents(folder)
    sampled(*words, "redraw.frame=1", "seed=3")
    changed = different(before, contents(folder))
    assert all(drawn(changed, name) == {1, 2, 3, 4} for name in entries)
    with pytest.raises(ConfigError, match="frame=0: that frame of .* was given, not drawn"):
        sampled(*words, "redraw.frame=0")


@pytest.mark.parametrize(
    "words, says",
    [
        (["redraw.frame=5"], "redraw.frame=5: .* has frames 0 to 4; .* redraw.story"),
        (["redraw.frame=1", "redraw.story=gone"], "redraw.story: .* has no gone; it has test-0"),
        (["redraw.frame=1", "redraw.choose=4"], "redraw.choose=4: there is no .*; draw some first"),
        (["redraw.frame=1", "redraw.candidates=0"], "redraw.candidates is 0"),
        # stories of any other data set, whose file need not be there
        (["redraw.frame=5", "dataset=folder", "folder.hdf5_file=gone.h5"], "has frames 0 to 4"),
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
