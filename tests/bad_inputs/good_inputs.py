"""Good inputs of programs, and the programs, which run in this process through what their command
lines call."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from safetensors.torch import save_file
from spoils import CAPTIONS, clip_settings, jsonl, lines, story, written
from tiny_base import IMAGE_SIZE, save_tiny_base

import main
from data_script import flintstones_hdf5, folder_hdf5, pororo_hdf5, vist_hdf5
from datasets import check
from datasets.story_hdf5 import SPLITS
from datasets.story_writer import StoryWriter
from models.components import load_components
from models.training.tuning import add_lora, take_off_lora
from tests.data_script import raw_sets

ROOT = Path(__file__).parents[2]
MODEL: list[Path] = []  # a small checkpoint


def png(path: Path, *size: int) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(path)


def folder(home: Path) -> None:
    """`d`: two stories of two pictures."""
    (home / "d").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        png(home / "d" / name, 6, 9)
    jsonl(story("x"), story("y"))(home)


def story_file(home: Path) -> None:
    """`mine.yaml`, and a checkpoint that only its first bytes are looked at."""
    shutil.copy(MODEL[0], home / "model.ckpt")
    png(home / "pip.png", 8, 8)
    written({"captions": CAPTIONS})(home)


def hdf5(home: Path) -> None:
    """`s.h5`: two labelled stories of two pictures in each split; and a checkpoint."""
    shutil.copy(MODEL[0], home / "model.ckpt")
    rgb = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with StoryWriter(home / "s.h5", 2, attributes={"label_vocabulary": {"places": ["a"]}}) as out:
        for split in SPLITS:
            for i in range(2):
                labels = [{"place": "a"}] * 2
                out.add(split, [rgb, rgb], {"text": ["One.", "Two."]}, f"{split}{i}", labels)


def samples(home: Path) -> None:
    """`out`: a folder of samples with one story of two frames."""
    (home / "out" / "s0").mkdir(parents=True)
    for k in range(2):
        png(home / "out" / "s0" / f"{k}.png", 16, 16)
    lines({"story_id": "s0", "captions": ["One.", "Two."], "frames": ["s0/0.png", "s0/1.png"]})(
        home
    )


def plain(home: Path) -> None:
    """`out`: folders of pictures, without a manifest."""
    for name in ("1", "2"):
        (home / "out" / name).mkdir(parents=True)
        for k in range(2):
            png(home / "out" / name / f"{k}.png", 16, 16)


def clip(home: Path) -> None:
    """`clip`: open_clip's settings of a model whose weights are not there; and samples."""
    samples(home)
    (home / "clip").mkdir()
    clip_settings()(home)


def base(home: Path) -> None:
    """`base`: the pretrained parts, weights as links; and a story."""
    story_file(home)
    shutil.copytree(ROOT / "assets/cartoon-base", home / "base", copy_function=os.symlink)


def lora(home: Path) -> None:
    """`lora.safetensors`: one of rank 2 for a minute U-Net, and a model to put it on."""
    story_file(home)
    names = ("whole.safetensors", "lora.safetensors", "base")
    whole, small, base = map(MODEL[0].with_name, names)
    if not small.is_file():
        save_tiny_base(base)
        parts = load_components(str(base), str(base / "blip"), IMAGE_SIZE, 20)
        save_file({k: v.contiguous() for k, v in parts.modules().state_dict().items()}, whole)
        add_lora(parts.unet, 2)
        save_file({f"unet.{key}": v for key, v in take_off_lora(parts.unet).items()}, small)
    shutil.copy(small, home)
    (home / "whole.ckpt").symlink_to(whole)


def new_character(home: Path) -> None:
    """`milo`: three pictures, one with a caption; and a base."""
    shutil.copy(MODEL[0], home / "model.ckpt")
    (home / "milo").mkdir()
    for n in range(3):
        png(home / "milo" / f"{n}.png", 8, 9)
    (home / "milo" / "0.txt").write_text("Milo waves.")


def nothing(home: Path) -> None:
    """A configuration needs no files."""


# Programs -----------------------------------------------------------------------------------------


def script(module, *words: object) -> None:
    sys.argv = ["script", *map(str, words)]
    module.main()


def build(home: Path) -> None:
    script(folder_hdf5, "--data_dir", home / "d", "--save_path", home / "s.h5")


def build_raw(home: Path, module, *words: str) -> None:
    with chdir(home):  # where a command that a raw file holds would leave its mark
        script(module, *words, "--save_path", "s.h5", "--num_process", 1)


def build_pororo(home: Path) -> None:
    build_raw(home, pororo_hdf5, "--data_dir=.")


def build_flintstones(home: Path) -> None:
    build_raw(home, flintstones_hdf5, "--data_dir=.")


def build_vist(home: Path) -> None:
    build_raw(home, vist_hdf5, "--sis_json_dir=sis", "--dii_json_dir=dii", "--img_dir=images")


def look(home: Path) -> None:
    script(check, home / "s.h5", "--tokenizer", ROOT / "assets/cartoon-base/tokenizer")


def draw(home: Path, *words: str) -> None:
    main.main([f"test_model_file={home / 'model.ckpt'}", "mode=sample", "accelerator=cpu",
               f"sample_output_dir={home / 'new'}", "num_inference_steps=1", *words])  # fmt: skip


def tell(home: Path) -> None:
    draw(home, f"story={home / 'mine.yaml'}")


def tell_json(home: Path) -> None:
    (home / "mine.yaml").rename(home / "mine.json")
    draw(home, f"story={home / 'mine.json'}")


def go_on(home: Path) -> None:
    draw(home, f"story={home / 'mine.yaml'}", "task=continuation")


def draw_data(home: Path) -> None:
    draw(home, "dataset=folder", f"folder.hdf5_file={home / 's.h5'}")


def judge(home: Path, *words: str) -> None:
    from evaluation.__main__ import main as evaluate

    evaluate([f"samples={home / 'out'}", f"cache={home / 'cache.sqlite'}", *words])


def measure(home: Path) -> None:
    judge(home, "metrics=clip_t", f"clip_model=local-dir:{home / 'clip'}")


def load(home: Path) -> None:
    parts = [f"tiny.diffusion_model={home / 'base'}", f"tiny.blip_model={home / 'base/blip'}"]
    draw(home, f"story={home / 'mine.yaml'}", *parts)


def draw_tiny(home: Path, *words: str) -> None:
    base = MODEL[0].with_name("base")
    parts = [f"tiny.diffusion_model={base}", f"tiny.blip_model={base / 'blip'}"]
    draw(home, f"story={home / 'mine.yaml'}", f"tiny.image_size={IMAGE_SIZE}", *parts, *words)


def dress(home: Path) -> None:
    (home / "whole.ckpt").replace(home / "model.ckpt")
    draw_tiny(home, f"lora_files=[{home / 'lora.safetensors'}]")


def start_with_lora(home: Path) -> None:
    """As if it were the whole model."""
    (home / "lora.safetensors").replace(home / "model.ckpt")
    draw_tiny(home)


def learn(home: Path) -> None:
    entry = {"word": "milo", "class_word": "bear", "pictures": f"{home}/milo"}
    if (home / "words").is_file():
        entry |= yaml.safe_load((home / "words").read_text())
    told = ", ".join(f"{key}: '{value}'" for key, value in entry.items())
    main.main([f"new_characters=[{{{told}}}]", f"base_model_file={home / 'model.ckpt'}",
               f"ckpt_dir={home / 'new'}", "accelerator=cpu"])  # fmt: skip


def configure(home: Path) -> None:
    words = [word.format(home=home) for word in (home / "words").read_text().splitlines()]
    (home / "words").unlink()
    main.main(words)


GOOD = {build: folder, build_pororo: raw_sets.pororo, build_flintstones: raw_sets.flintstones,
        build_vist: raw_sets.vist, look: hdf5, draw_data: hdf5, tell: story_file,
        tell_json: story_file, go_on: story_file, judge: samples, measure: clip, load: base,
        dress: lora, start_with_lora: lora, learn: new_character, configure: nothing}  # fmt: skip
