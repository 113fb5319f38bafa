"""A base of any stories: made by the command, kept stage by stage, loaded by the program."""

from __future__ import annotations

import json
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from tiny_base import WIDTH, save_tiny_base

from configuration import load_config
from datasets.cartoon.renderer import render
from datasets.cartoon.world import Scene
from datasets.pictures import encode_picture
from datasets.story_writer import StoryWriter
from models.components import load_components
from pretraining import autoencoder
from pretraining.__main__ import main, write_training_file
from pretraining.align import build_blip
from pretraining.base import make_base
from pretraining.cartoon_source import cartoon_source
from pretraining.sizes import IMAGE_SIZES, SIZES, Size
from pretraining.stages import STAGES, Settings
from pretraining.starting import start_from
from pretraining.text_to_image import build_text_encoder, build_unet
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer

STRANGE = [
    "the "
    + " ".join(
        a + b for a in "xvqzk" for b in ("ari", "olu", "emba", "inat", "ust", "yor", "ecki", "onti")
    )
]
REAL_SIZES = [*zip(SIZES.values(), IMAGE_SIZES, strict=True)]


@pytest.fixture(scope="module", autouse=True)
def minute():
    """Bases of the tests are smaller than any that are offered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", Size(64, 1, (32, 32), 1, (64, 64), 1, 1))
        yield


def command(stories, out, work, more=""):
    where = f"--stories {stories} --out {out} --work {work}"
    return f"{where} --image-size 64 --steps 5 --batch-size 4 {more}".split()


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """Three stories of two pictures, one for each split."""
    path = tmp_path_factory.mktemp("stories") / "mine.h5"
    with StoryWriter(path, 2) as writer:
        for split, place in (("train", "beach"), ("val", "city"), ("test", "house")):
            scenes = [Scene(place, (("momo", "red"),), action) for action in ("jump", "sleep")]
            pictures = [encode_picture(np.ascontiguousarray(render(one))) for one in scenes]
            writer.add(split, pictures, {"text": [f"Mömö is on the {place}-side.", "She sleeps."]})
    return path


@pytest.fixture(scope="module")
def base(stories):
    """What the shortest run leaves, with what it prints."""
    folder = stories.parent
    out = folder / "1e3"  # also a number
    main(command(stories, out, folder / "work"))
    return out


@pytest.fixture(scope="module")
def work(base):
    return base.parent / "work"


def test_the_program_takes_it_as_its_training_file_says(base, stories):
    config = load_config([f"config={base / 'train.yaml'}"])
    assert (config.dataset, config.backbone, config.folder.hdf5_file, config.run_name) == (
        "folder", "tiny", str(stories), "1e3",
    )  # fmt: skip
    assert config.tiny.image_size == 64 and config.max_epochs == 3000  # one story, five a step
    parts = load_components(
        config.tiny.diffusion_model, config.tiny.blip_model, 64, config.folder.max_length
    )
    with torch.no_grad():
        latents = parts.vae.encode(torch.zeros(1, 3, 64, 64)).latent
    assert latents.shape == (1, parts.unet.config.in_channels, 8, 8)
    for tokenizer in (parts.clip_tokenizer, parts.blip_tokenizer):
        length = len(tokenizer("Mömö is on the beach-side.").input_ids)
        assert length == 10 <= config.folder.max_length  # eight words and marks, each one token


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "val")])
def test_what_draws_is_named_of_files_without_test_stories_too(tmp_path, splits):
    with StoryWriter(tmp_path / "mine.h5", 2) as writer:
        for split in splits:
            pictures = [encode_picture(np.zeros((8, 8, 3), np.uint8))] * 2
            writer.add(split, pictures, {"text": ["One.", "Two."]})
    write_training_file(tmp_path, tmp_path / "mine.h5", "folder", 64)
    said = (tmp_path / "train.yaml").read_text("utf-8").splitlines()[0]
    assert said.endswith("mode=sample draws.") == ("test" in splits)
    assert said.endswith("mode=sample story=FILE draws.") == ("test" not in splits)


def test_the_card_says_what_was_seen_and_measured(base):
    card = (base / "README.md").read_text("utf-8")
    assert "1\ntraining stories of `mine.h5`" in card and "{" not in card
    assert re.search(r"on 4 held-out pictures: \d+\.\d+ dB", card)
    assert card.count("| 1 |") >= 2 and "started from nothing" in card
    assert card.startswith("---\nlicense: other\n---\n")


def test_each_stage_shows_real_pictures_above_what_it_made(base, work):
    for stage in STAGES.values():
        sheet = np.asarray(Image.open(base / "previews" / f"{stage.folder}.png"))
        assert sheet.shape == (2 * 68 + 4, 4 * 68 + 4, 3)
    real = Image.fromarray(sheet[4:68, 4:68])
    meant = render(Scene("city", (("momo", "red"),), "jump"))
    meant = Image.fromarray(meant).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(real, int) - np.asarray(meant, int)).mean() < 2


def test_stages_that_are_done_are_kept_and_the_rest_goes_on(base, work, stories, capsys):
    before = {file: file.stat().st_mtime_ns for file in work.rglob("*.safetensors")}
    shutil.rmtree(work / "5-decoder")
    main(command(stories, base, work))
    said = capsys.readouterr().out
    assert said.count("done before") == 4 and "stage 5 of 5, decoder" in said
    assert "decoder: 1 steps: expect nothing" in said and "min" in said
    changed = {f.parents[1].name for f, time in before.items() if f.stat().st_mtime_ns != time}
    assert changed == {"5-decoder"}
    assert not list(work.glob("*.pt"))


def test_a_full_disk_leaves_the_base_that_was_there(base, work, stories):
    (base / "notes.txt").write_text("the user's")
    before = {file: file.read_bytes() for file in base.rglob("*") if file.is_file()}
    sheet = max(path.stat().st_size for path in work.glob("previews/*.png"))
    room, limit = max(map(len, before.values())) - 1, resource.getrlimit(resource.RLIMIT_FSIZE)
    assert sheet < room
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))  # of files: as on a full disk
    try:
        with pytest.raises(SystemExit, match=f"^error: cannot write {base}: .*space, or choose"):
            main(command(stories, base, work))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    after = {file: file.read_bytes() for file in base.rglob("*") if file.is_file()}
    assert after == before
    (base / "unet" / "config.json").write_text("older")
    main(command(stories, base, work))
    assert {file: file.read_bytes() for file in base.rglob("*") if file.is_file()} == before
    (base / "notes.txt").unlink()


def test_folders_are_looked_at_before_all_work(stories, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "base"
    for out, work, says in (
        (tmp_path / "file", tmp_path / "w", f"--out {tmp_path / 'file'} is a file: give a folder"),
        (tmp_path / "b", tmp_path / "file", f"--work {tmp_path / 'file'} is a file: give a folder"),
        (inside, tmp_path / "w", f"cannot write {inside}.*is a file; move it away, or ch"),
    ):
        with pytest.raises(SystemExit, match=f"^error: {says}"):
            main(command(stories, out, work))
    with pytest.raises(SystemExit, match="2"):
        main(command(stories, tmp_path / "b", tmp_path / "b"))
    assert "give another folder than --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_others_made_is_not_replaced(stories, tmp_path):
    theirs = tmp_path / "weights" / "vae" / "config.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(SystemExit, match="^error: --out .*weights holds vae, which this program"):
        main(command(stories, tmp_path / "weights", tmp_path / "w"))
    assert theirs.read_text() == '{"_class_name": "AutoencoderKL"}'
    assert not [*(tmp_path / "w").glob("[!.]*")]


def test_two_runs_do_not_share_a_folder_and_leftovers_go(base, work, stories, tmp_path):
    for option, held in (("--out", base), ("--work", work)):
        with FileLock(held / ".lock"):
            with pytest.raises(SystemExit, match=f"^error: {option}: {held} is in use by another"):
                main(command(stories, base, work))
    for name in ("5-decoder", "5-decoder.state.pt", "previews/5-decoder.png"):
        (work / name).with_name(f".{Path(name).name}.4711.tmp").mkdir()
    (base / f".{base.name}.4711.tmp").mkdir()
    main(command(stories, base, work))
    assert not [*work.rglob(".*"), *base.rglob(".*")]


def test_stages_of_other_settings_are_not_mixed(base, work, stories):
    for other, what in (("--seed 1", "seed 0"), ("--image-size 128", "64")):
        with pytest.raises(SystemExit, match=f"{what}.*give another --work"):
            main(command(stories, base, work, other))


@pytest.mark.parametrize("size, image_size", REAL_SIZES)
@torch.no_grad()
def test_networks_of_every_size_fit_together(size, image_size):
    clip, blip = (build(["A frog."], 32) for build in (build_clip_tokenizer, build_blip_tokenizer))
    vae = autoencoder.build_autoencoder(image_size, size)
    latents = vae.encode(torch.zeros(1, 3, image_size, image_size)).latent
    assert latents.shape == (1, 64, 8, 8)
    states = build_text_encoder(clip, size)(**clip(["A frog."], return_tensors="pt"))
    unet = build_unet(latents.shape[1], size)
    drawn = unet(latents, 5, encoder_hidden_states=states.last_hidden_state).sample
    assert vae.decode(drawn).sample.shape == (1, 3, image_size, image_size)
    width = build_blip(blip, size.width, size.vision_layers).config.text_config.hidden_size
    assert width == states.last_hidden_state.shape[-1]


def test_what_cannot_be_is_refused_at_once(stories):
    for bad in (
        "--steps 0",
        "--minutes nan",
        "--minutes 1 --steps 5",
        "--image-size 65",
        "--strangers 5",
    ):
        with pytest.raises(SystemExit, match="2"):
            main(f"--stories {stories} {bad}".split())


@pytest.mark.long
def test_a_base_starts_from_another(base, work, stories, tmp_path, capsys):
    main(command(stories, tmp_path / "b", tmp_path / "w", f"--start {base}"))
    said = capsys.readouterr().out
    assert "100% of vae" in said
    for part in ("text_encoder", "blip"):
        assert f"100% of {part} (8 of 8 words)" in said
    with pytest.raises(SystemExit, match="has no vae/"):
        main(command(stories, tmp_path / "b", tmp_path / "c", f"--start {tmp_path}"))


def test_rows_of_words_that_another_base_lacks_are_not_taken_from_it(tmp_path):
    save_tiny_base(tmp_path)
    tokenizers = [build(STRANGE, 32) for build in (build_clip_tokenizer, build_blip_tokenizer)]
    blip = build_blip(tokenizers[1], WIDTH)
    said = start_from(tmp_path, {"blip": blip}, *tokenizers, STRANGE)
    vocabulary = tokenizers[1].get_vocab().keys() - build_blip_tokenizer([], 32).get_vocab().keys()
    new = (len(vocabulary) - 1) * WIDTH  # "the" is known, what else the tokenizer has by itself
    share = 1 - new / sum(value.numel() for value in blip.state_dict().values())
    assert share < 0.99 and said == {"blip": f"{share:.0%} of blip (1 of 41 words)"}


@pytest.mark.long
def test_the_cartoon_world_goes_the_same_way(tmp_path, monkeypatch, capsys):
    source = cartoon_source({"train": 2}, image_size=64)
    settings = Settings(64, steps=5, batch_size=4)
    report = make_base(source, tmp_path / "base", tmp_path / "work", settings)
    assert report["count"] == 96 and list(report["stages"]) == list(STAGES)
    assert "six characters" in (tmp_path / "base" / "README.md").read_text("utf-8")
    assert json.loads((tmp_path / "work" / "5-decoder" / "done.json").read_text())["steps"] == 1
    assert f"{report['psnr_held_out']} dB" in capsys.readouterr().out
    spent = sum(Settings(minutes=10).plan(name, tmp_path).seconds for name in STAGES)
    assert spent == pytest.approx(600)
