"""`python -m models.export`: what a run made, as a folder, and back again."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers.models import modeling_utils
from outcomes import frames, picture, read, same
from safetensors.torch import load_file, save_file

import building
import train
from models import StoryPipeline
from models.export import Export, export
from models.seeds import story_generator
from models.sharing.model_card import write_model_card
from models.training.tuning import has_lora
from page.model import load_model


@pytest.mark.long
def test_a_folder_draws_what_the_checkpoint_does(exported, sampled, own_story):
    samples, entries = sampled(own_story())
    (entry,) = entries.values()
    pipeline = StoryPipeline.from_pretrained(exported)
    how = {key: entry["sampler"][key] for key in ("num_inference_steps", "guidance_scale", "eta")}
    frames = pipeline(
        entry["captions"], output_type="uint8", **how,
        generator=story_generator(0, entry["story_id"]),
    ).frames[0]  # fmt: skip
    for k, frame in enumerate(frames):
        drawn = picture(samples / entry["story_id"] / f"{k:04}.png")
        assert torch.equal(torch.from_numpy(drawn), frame.permute(1, 2, 0))


def test_back_again_it_is_the_checkpoint_to_the_bit(exported, trained, shrunk, sampled, tmp_path):
    back = export(Export(str(exported), str(tmp_path / "back.ckpt")))
    ours, theirs = read(trained), read(back)
    assert same(ours["state_dict"], theirs["state_dict"])
    assert theirs["tokenization"] == ours["tokenization"]
    first, _ = sampled(to="first")
    again, _ = sampled(f"test_model_file={back}", to="again")
    for path in sorted(first.glob("*/0*.png")):
        assert path.read_bytes() == (again / path.relative_to(first)).read_bytes()


def test_halves_become_a_checkpoint_too(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(modeling_utils.logger, "warning", pytest.fail)  # of what is as it should be
    half = export(Export(str(trained), str(tmp_path / "half"), dtype="float16"))
    back = read(export(Export(str(half), str(tmp_path / "back.ckpt"))))["state_dict"]
    ours = read(trained)["state_dict"]
    assert same({k: v.half().float() for k, v in ours.items()}, back)


def test_the_card_says_what_it_is(trained, sampled, tmp_path):
    samples, _ = sampled()
    metric = {"value": 0.5, "interval": [0.25, 0.75], "protocol": "as told"}
    none = {"value": None, "interval": None, "protocol": "of nothing"}
    metrics = {"some/accuracy": metric, "other": none}
    measured = {"stories": 2, "frames": 10, "metrics": metrics}
    (samples / "metrics.json").write_text(json.dumps(measured))
    out = export(Export(str(trained), str(tmp_path / "handed-on"), samples=str(samples)))
    card = (out / "README.md").read_text(encoding="utf-8")
    for words in (
        'StoryPipeline.from_pretrained("handed-on")', "| `task` | visualization |",
        "(storyboard.png)", "| some/accuracy | 0.5 | 0.25 to 0.75 | as told |",
        "| other | – | – | of nothing |", "## Licence",
    ):  # fmt: skip
        assert words in card
    assert (out / "storyboard.png").read_bytes() == (samples / "storyboard.png").read_bytes()
    (samples / "metrics.json").write_text(json.dumps({**measured, "manifest": "another"}))
    with pytest.raises(ValueError, match="before frames were drawn again or added; measure anew"):
        export(Export(str(trained), str(tmp_path / "stale"), samples=str(samples)))
    (samples / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="metrics.json is not whole .*; measure anew"):
        export(Export(str(trained), str(tmp_path / "stale"), samples=str(samples)))
    assert not (tmp_path / "stale").exists()


def test_the_card_says_nothing_that_the_checkpoint_does_not(trained, shrunk, tmp_path):
    """Of an older one what was no key then, of a foreign one how it was trained."""
    content, older = read(trained), tmp_path / "older.ckpt"
    del content["config"]["unet_lr_scale"]
    torch.save(content, older)
    card = (export(Export(str(older), str(tmp_path / "handed-on"))) / "README.md").read_text()
    assert "| `init_lr` |" in card and "unet_lr_scale" not in card
    beside = {"causal_story": False, "lora": False, "variant": None}
    write_model_card(tmp_path, "foreign", shrunk(), {}, None, **beside)
    card = (tmp_path / "README.md").read_text()
    assert "does not say how it was trained" in card and "init_lr" not in card


@pytest.fixture(scope="module")
def lora(shrunk, trained):
    words = ["tune=lora", "lora_rank=2", "run_name=lora", "init_lr=1e-2", "max_epochs=2"]
    return train.train(shrunk(*words, f"base_model_file={trained}"))


def test_a_base_that_has_moved_can_be_named(lora, trained, tmp_path):
    content, moved, out = read(lora), tmp_path / "moved.ckpt", tmp_path / "out"
    content["config"]["base_model_file"] = str(tmp_path / "gone.ckpt")
    torch.save(content, moved)
    says = "base_model_file: there is no file .*gone.ckpt"
    with pytest.raises(ValueError, match=says):
        export(Export(str(moved), str(out)))
    with pytest.raises(ValueError, match=says):
        load_model(moved, "cpu")
    assert export(Export(str(moved), str(out), base_model_file=str(trained))) == out
    page = load_model(moved, "cpu", str(trained))
    whole = StoryPipeline.from_pretrained(out)
    assert same(page.pipeline.unet.state_dict(), whole.unet.state_dict())


@pytest.mark.long
def test_a_lora_is_merged_or_lies_beside(lora, exported, tmp_path):
    def draw(pipeline):
        noise = torch.Generator().manual_seed(0)
        how = {"num_inference_steps": 2, "output_type": "uint8", "generator": noise}
        return pipeline(["Pip waves.", "He sleeps."], **how).frames.int()

    merged = StoryPipeline.from_pretrained(export(Export(str(lora), str(tmp_path / "merged"))))
    out = export(Export(str(lora), str(tmp_path / "beside"), merge_lora=False))
    beside = StoryPipeline.from_pretrained(out)
    base = draw(StoryPipeline.from_pretrained(exported))
    assert not has_lora(merged.unet) and torch.equal(draw(beside), base)
    beside.load_lora_weights(out)
    assert (draw(beside) - draw(merged)).abs().max() <= 1
    assert not torch.equal(draw(merged), base)
    assert (out / "pytorch_lora_weights.safetensors").stat().st_size < 100_000
    back = read(export(Export(str(tmp_path / "merged"), str(tmp_path / "whole.ckpt"))))
    assert back["config"]["tune"] == "all" and not any("lora" in key for key in back["state_dict"])


def test_what_cannot_be_exported_is_said_before_weights_are_read(
    trained, exported, tmp_path, monkeypatch
):
    monkeypatch.setattr(building, "load_parts", lambda *_: pytest.fail("weights are read"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for options, says in (
        (Export("gone.ckpt", "out"), "checkpoint: there is no gone.ckpt"),
        (Export(str(trained), str(tmp_path / "mine")), "mine is there already; give another name"),
        (Export(str(exported / "README.md"), str(tmp_path / "x")), "README.md"),
        (Export(str(tmp_path / "mine"), str(tmp_path / "x")), "is a folder; give a checkpoint"),
        (Export(str(trained.parent), str(tmp_path / "x")), "give a checkpoint file, such as "),
        (Export(str(trained), str(tmp_path / "y"), samples="gone"), "samples: there is no folder"),
        (Export(str(exported), str(tmp_path / "x"), "original"), "layout: .* is a folder, but"),
        (Export(str(trained), str(tmp_path / "empty"), "original"), "empty is there already; give"),
        (
            Export(str(trained), str(tmp_path / "x"), "original", "float16"),
            "dtype: layout=original",
        ),
        (
            Export(str(next(exported.glob("unet/*.safetensors"))), str(tmp_path / "x"), "original"),
            "does not say how it was trained, which layout=original needs",
        ),
    ):
        with pytest.raises((ValueError, OSError), match=says):
            export(options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]


@pytest.mark.long
def test_loras_are_added_by_the_configuration(lora, trained, sampled, tmp_path):
    out = export(Export(str(lora), str(tmp_path / "beside"), merge_lora=False))
    file = out / "pytorch_lora_weights.safetensors"
    words = [f"test_model_file={trained}", f"lora_files=[{file}]"]
    plain, _ = sampled(to="plain")
    added, entries = sampled(*words, to="added")
    tuned, _ = sampled(f"test_model_file={lora}", to="tuned")
    off, _ = sampled(*words, "lora_scale=0", to="off")

    assert abs(frames(added) - frames(tuned)).max() <= 1
    assert (frames(added) != frames(plain)).any()
    assert abs(frames(off) - frames(plain)).max() <= 1
    assert next(iter(entries.values()))["sampler"]["lora_files"] == [str(file)]
    sampled(*words, to="added")  # all is there
    save_file({name: 2 * tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ValueError, match="holds stories drawn with loras"):
        sampled(*words, to="added")
