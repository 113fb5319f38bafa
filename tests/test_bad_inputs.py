"""Whatever people hand to the programs: the exit status, one sentence, and nothing half-written.

Each row: a program, what spoils a good input of it, and a part of the sentence. The programs run in
this process through what their command lines call.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_base import IMAGE_SIZE, save_tiny_base

import main
from configuration import load_config
from data_script import folder_hdf5
from datasets import check
from datasets.story_hdf5 import SPLITS
from datasets.story_writer import StoryWriter
from models.components import load_components
from models.training.tuning import add_lora, take_off_lora

ROOT = Path(__file__).parents[1]
CAPTIONS = ["Pip is in the meadow.", "He waves.", "He falls asleep."]
HEAD = "story,image,caption\n"
Spoil = Callable[[Path], object]


# Good inputs --------------------------------------------------------------------------------------


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


# Programs: a function that makes a good input, one that runs on it --------------------------------

MODEL: list[Path] = []  # a small checkpoint


@pytest.fixture(scope="module", autouse=True)
def model(tmp_path_factory):
    MODEL[:] = [tmp_path_factory.mktemp("model") / "model.ckpt"]
    torch.save({"state_dict": {"unet.conv_in.weight": torch.zeros(1)}}, MODEL[0])


def script(module, *words: object) -> None:
    sys.argv = ["script", *map(str, words)]
    module.main()


def build(home: Path) -> None:
    script(folder_hdf5, "--data_dir", home / "d", "--save_path", home / "s.h5")


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


GOOD = {build: folder, look: hdf5, draw_data: hdf5, tell: story_file, tell_json: story_file,
        go_on: story_file, judge: samples, measure: clip, load: base, dress: lora,
        start_with_lora: lora, learn: new_character, configure: nothing}  # fmt: skip


# What spoils them ---------------------------------------------------------------------------------


def content(name: str, data: bytes | str) -> Spoil:
    def spoil(home: Path) -> None:
        path = home / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return spoil


def both(*spoils: Spoil) -> Spoil:
    return lambda home: [spoil(home) for spoil in spoils]


def gone(name: str) -> Spoil:
    return lambda home: (home / name).unlink()


def fifo(name: str) -> Spoil:
    return lambda home: ((home / name).unlink(missing_ok=True), os.mkfifo(home / name))


def words(*told: str) -> Spoil:
    return content("words", "\n".join(told))


def given(text: str, *more: str) -> Spoil:
    return both(content("c.yaml", text), words("config={home}/c.yaml", *more))


def story(name: object, images=("a.png", "b.png"), **more) -> dict:
    frames = [{"image": image, "caption": f"{name} sees {image}."} for image in images]
    return {"story": name, "frames": frames, **more}


def told(caption: object, **more) -> dict:
    """A story whose first caption is this."""
    frames = [{"image": "a.png", "caption": caption}, {"image": "b.png", "caption": "B."}]
    return {"story": "x", "frames": frames, **more}


def jsonl(*stories: object) -> Spoil:
    told_lines = [one if isinstance(one, str) else json.dumps(one) for one in stories]
    return content("d/captions.jsonl", "\n".join(told_lines))


def table(text: str | bytes) -> Spoil:
    return both(gone("d/captions.jsonl"), content("d/captions.csv", text))


def picture(data: bytes) -> Spoil:
    return both(content("d/bad.png", data), jsonl(story("x"), story("y", ["a.png", "bad.png"])))


def written(value: object) -> Spoil:
    text = value if isinstance(value, str | bytes) else yaml.safe_dump(value, allow_unicode=True)
    return content("mine.yaml", text)


def lines(*entries: object) -> Spoil:
    told_lines = [one if isinstance(one, str) else json.dumps(one) for one in entries]
    return content("out/manifest.jsonl", "\n".join(told_lines) + "\n")


def entry(**changes: object) -> Spoil:
    return lines({"story_id": "s0", "captions": ["One.", "Two."],
                  "frames": ["s0/0.png", "s0/1.png"], **changes})  # fmt: skip


def edited(change: Callable[[h5py.File], object]) -> Spoil:
    def spoil(home: Path) -> None:
        with h5py.File(home / "s.h5", "a") as file:
            change(file)

    return spoil


def column(key: str, *how: object, **more: object) -> Spoil:
    """Another column in place of the one that is there."""
    return edited(lambda file: (file.pop(key), file.create_dataset(key, *how, **more)))


def cells(key: str, *values: object) -> Spoil:
    """Other cells, as many as given."""

    def change(file: h5py.File) -> None:
        dtype = file[key].dtype
        del file[key]
        new = file.create_dataset(key, (len(values),), dtype)
        for i, value in enumerate(values):
            new[i] = value

    return edited(change)


def elsewhere(kind: str) -> Spoil:
    """The test captions are kept in another file."""

    def spoil(home: Path) -> None:
        (home / "secret").write_bytes(b"root:x:0:0".ljust(64))
        with h5py.File(home / "other.h5", "w") as other:
            other.create_dataset("text", data=["a|b", "c|d"], dtype=h5py.string_dtype())
        with h5py.File(home / "s.h5", "a") as file:
            group = file["test"]
            del group["text"]
            if kind == "external storage":
                raw = [(str(home / "secret"), 0, 64)]
                group.create_dataset("text", (2,), "S32", external=raw)
            elif kind == "external link":
                group["text"] = h5py.ExternalLink(str(home / "other.h5"), "text")
            elif kind == "link to a group":
                del file["test"]
                file["test"] = h5py.ExternalLink(str(home / "other.h5"), "/")
            else:
                layout = h5py.VirtualLayout((2,), h5py.string_dtype())
                layout[:] = h5py.VirtualSource(str(home / "other.h5"), "text", (2,))
                group.create_virtual_dataset("text", layout)

    return spoil


def clip_settings(**text: object) -> Spoil:
    """A model whose text tower is so."""
    size = {"embed_dim": 4, "vision_cfg": {"image_size": 16, "layers": 1, "width": 8,
                                           "patch_size": 8}}  # fmt: skip
    tower = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 2, "layers": 1, **text}
    settings = {"model_cfg": {**size, "text_cfg": tower}, "preprocess_cfg": {}}
    return content("clip/open_clip_config.json", json.dumps(settings))


def tensors(change: Callable[[str, torch.Tensor], tuple]) -> Spoil:
    """Other names or tensors in the LoRA."""

    def spoil(home: Path) -> None:
        state = load_file(home / "lora.safetensors")
        save_file(dict(change(*one) for one in state.items()), home / "lora.safetensors")

    return spoil


def resized(of_a: tuple[int, int], of_b: tuple[int, int]) -> Spoil:
    """With matrices A and B so many times as large."""
    return tensors(lambda k, v: (k, v.repeat(*(of_a if ".lora_A." in k else of_b))))


def renamed(part: str, other: str) -> Spoil:
    return tensors(lambda name, tensor: (name.replace(part, other), tensor))


def with_key(name: str, **more: object) -> Spoil:
    """A JSON file of the base with other keys; one that is None is taken out."""

    def spoil(home: Path) -> None:
        path = home / "base" / name
        value = json.loads(path.read_text()) | more
        path.unlink()
        kept = {key: one for key, one in value.items() if one is not None}
        path.write_text(json.dumps(kept))

    return spoil


def in_place(name: str, data: bytes | str) -> Spoil:
    """Another file instead of the one that a link leads to."""
    return both(gone(name), content(name, data))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bytes(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def saved(kind: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (8, 8)).save(stream, kind)
    return stream.getvalue()


POSTSCRIPT = saved("EPS")  # opening one runs another program: must not be tried
MINUS = io.BytesIO()
Image.fromarray(np.full((4, 4), -7, np.float32)).save(MINUS, "TIFF")
ANIMATION = io.BytesIO()
Image.new("L", (8, 8)).save(
    ANIMATION, "GIF", save_all=True, append_images=[Image.new("L", (8, 8), n) for n in (90, 200)]
)
BOMB = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
JUNK = np.frombuffer(b"<html>gone</html>", np.uint8)
DEEP = "[" * 100_000
G = {"captions": CAPTIONS}
LIST = "must be a list of sentences"

FOLDERS: dict[str, tuple[Spoil, str]] = {
    "no folder": (lambda h: shutil.rmtree(h / "d"), "d is not a folder: correct the path"),
    "no captions": (gone("d/captions.jsonl"), "holds no captions.jsonl or captions.csv: name one"),
    "two files": (content("d/captions.csv", HEAD), "holds both captions.jsonl and captions.csv"),
    "nothing told": (jsonl("", ""), "captions.jsonl tells no story: write some"),
    "not json": (jsonl(story("x"), "{story"), "line 2 is not .*: correct it, see --h"),
    "a list": (jsonl("[1]"), "line 1 is not .*TypeError"),
    "zero frames": (jsonl(story("x", ())), "line 1: 'image' is missing or empty: fill"),
    "deep json": (jsonl(DEEP), "line 1 is not .*nested too deeply"),
    "key twice": (jsonl('{"story": "x", "frames": [], "frames": []}'), "'frames' is there twice"),
    "no name": (jsonl(story(None)), "line 1: 'story' is missing or empty: fill it in"),
    "id twice": (
        jsonl(story("x"), "", story("y"), story(" x ", ["b.png", "a.png"])),
        "line 4: story 'x' is told by .*, line 1: give it another id, or put all its frames on",
    ),
    "path name": (jsonl(story("../x")), "line 1: story '../x': use 1-100 letters"),
    "one frame": (jsonl(story("x", ["a.png"])), "'x' has 1 frames .* 2 or more"),
    "uneven": (
        jsonl(story("x"), story("y", ["a.png", "b.png", "c.png"])),
        "captions.jsonl: story 'y' has 3 frames and 'x' 2: give every story the same number",
    ),
    "no picture": (jsonl(story("x", ["a.png", "no.png"])), "no.png does not exist: correct the"),
    "pipe as picture": (both(fifo("d/f.png"), jsonl(story("x", ["f.png"]))), "does not exist"),
    "caption is a list": (jsonl(told(["A.", "B."])), r"'caption' is \[.A.*, not a text: put it in"),
    "caption is NaN": (jsonl(told(float("nan"))), "NaN is no number"),
    "half a letter": (jsonl(told("A \ud83d frog")), "half a letter"),
    "separator": (jsonl(told("a|b")), r"line 1: remove '\|' from the caption 'a\|b'"),
    "split": (jsonl(story("x", split="dev")), "split 'dev' is unknown: use train, val"),
    "half split": (
        jsonl(story("x", split="train"), story("y")),
        "story 'y' names no split: add it or say --split hash",
    ),
    "csv head": (table("name,picture\nx,a.png\n"), "begin with the line 'story,image,caption'"),
    "csv semicolons": (table("story;image;caption\n"), "commas, not semicolons.*: add it"),
    "csv short": (table(HEAD + "x,a.png,A.\nx,b.png\n"), "line 3: 'caption' is missing or empty"),
    "csv comma": (table(HEAD + "x,a.png,A frog, green\n"), "line 2 has 4 fields, more than the 3"),
    "csv huge": (table(HEAD + 'x,a.png,"' + "A" * 200_000), "line 2: .*"),
    "csv giant head": (table("story," * 40_000 + "A" * 200_000), "captions.csv, line 1: field la"),
    "csv column twice": (table("story,image,caption,caption\n"), "line 1: column 'caption' is th"),
    "csv open quote": (
        table(HEAD + 'x,a.png,A.\nx,b.png,"B.\ny,a.png,"C."\ny,b.png,D.\n'),
        "line 3: a quote that opens here is not closed on its line",
    ),
    "csv rows twice": (table(HEAD + "x,a.png,A\n" * 2), "line 3 says again what .*, line 2 says"),
    "csv two splits": (
        table("story,image,caption,split\nx,a.png,A,val\nx,b.png,B,test\n"),
        "line 3: story 'x' is in two splits: choose one",
    ),
    "csv utf-16": (table((HEAD + "x,a.png,A").encode("utf-16")), "is not UTF-8"),
    "zero bytes": (picture(b""), "picture .*bad.png cannot be used .*: replace it"),
    "cut short": (picture(png_bytes(64, 64)), "bad.png cannot be used .*truncated"),
    "bomb": (picture(png_bytes(9_000, 9_000)), "9000x9000 pixels are too many"),
    "huge bomb": (picture(png_bytes(90_000, 90_000)), "bad.png .*bomb.*replace"),
    "postscript": (picture(POSTSCRIPT), "bad.png cannot be used .cannot identify"),
    "an animation": (picture(ANIMATION.getvalue()), "bad.png .*it is an animation of 3 frames"),
    "negative floats": (picture(MINUS.getvalue()), "its values go from -7 to -7, not from 0 to 1"),
    "a picture as target": (content("s.h5", saved("PNG")), "s.h5 is there and is no story file"),
    "a folder as target": (lambda h: (h / "s.h5").mkdir(), "s.h5 is a folder: give the name of a"),
}

STORY_FILES: dict[str, tuple[Spoil, str]] = {
    "empty file": (written(""), "holds no story"),
    "no stories": (written({"stories": []}), "holds no story"),
    "stories is one story": (written({"stories": G}), "holds no story"),
    "key beside stories": (written({"stories": [G], "title": "a"}), "'title' stands beside"),
    "broken YAML": (written("captions: [He waves."), "cannot be read as YAML or JSON"),
    "YAML that runs code": (written("!!python/object/apply:os.system ['true']"), "cannot be read"),
    "deep": (written("captions: " + DEEP), "nested too deeply"),
    "aliases": (written("a0: &a0 [a]\n" + BOMB), "has more than 100,000 entries"),
    "alias of itself": (written("captions: &a [*a]"), "has more than 100,000 entries"),
    "key twice": (
        written("captions: [A.]\ncaptions: [B.]"),
        "'captions' is there twice",
    ),
    "half a letter": (written('captions: ["Luna \\ud83d waves."]'), "has half a letter"),
    "second has none": (written([G, {"story_id": "b"}]), "story 2 has no captions"),
    "captions is a text": (written({"captions": "He waves."}), LIST),
    "empty caption": (written({"captions": ["He waves.", "  "]}), LIST),
    "caption is a number": (written({"captions": ["He waves.", 5]}), LIST),
    "caption with a colon": (
        written("captions:\n- Pip says: hello\n"),
        "in quotes where they",
    ),
    "caption with #": (
        written("captions:\n- Luna meets\n- cat #7 and\n- no. #1"),
        "in quotes|LIST",
    ),
    "caption in brackets": (
        written("captions: [He waves]"),
        "put the caption 'He waves' in quotes, as in brackets a comma would end it",
    ),
    "caption before #": (
        written("captions:\n- Luna is no. #1\n- Luna is # 1"),
        "would be a comment",
    ),
    "unknown key": (written({**G, "first_picture": "a"}), "'first_picture' is unknown"),
    "id with a path": (written({**G, "story_id": "../pip"}), "'../pip' cannot name a folder"),
    "same id twice": (written([{**G, "story_id": "a"}] * 2), "'a' is used twice"),
    "id of the manifest": (written({**G, "story_id": "manifest.jsonl"}), "would take the place of"),
    "first frame unasked": (written({**G, "first_frame": "pip.png"}), "set task=continuation"),
    "checkpoint is a text": (content("model.ckpt", "hello"), "test_model_file: .*is a text file"),
}

JSON_STORY_FILES: dict[str, tuple[Spoil, str]] = {
    "single quotes": (written("{'captions': []}"), "cannot be read as YAML or JSON"),
    "key twice": (written('{"captions": ["A."], "captions": ["B."]}'), "'captions' is there twice"),
    "NaN": (written('{"captions": [NaN]}'), "NaN is no number"),
    "deep": (written(DEEP), "nested too deeply"),
}


def starts_from(name: object) -> Spoil:
    return written({**G, "first_frame": name})


FIRST_FRAMES: dict[str, tuple[Spoil, str]] = {
    "none": (written(G), "has no first_frame, which task=continuation starts from"),
    "nothing to draw": (
        written({"captions": CAPTIONS[:1], "first_frame": "pip.png"}),
        "has 1 captions; give 2 or more, as",
    ),
    "missing": (starts_from("missing.png"), "does not exist; give a picture's path"),
    "a pipe": (both(fifo("pip.png"), starts_from("pip.png")), "does not exist; give a picture's"),
    "text": (
        both(content("pip.png", "hello"), starts_from("pip.png")),
        "first_frame: picture ",
    ),
    "postscript": (both(content("pip.png", POSTSCRIPT), starts_from("pip.png")), "cannot be used"),
    "an animation": (
        both(content("pip.png", ANIMATION.getvalue()), starts_from("pip.png")),
        "first_frame: picture .*it is an animation of 3 frames; save some as pictures",
    ),
}

HDF5: dict[str, tuple[Spoil, str]] = {
    "missing": (gone("s.h5"), "does not exist|there is no file"),
    "empty": (content("s.h5", b""), "is not an HDF5 file"),
    "cut short": (
        lambda h: (h / "s.h5").write_bytes((h / "s.h5").read_bytes()[:-500]),
        "is cut short: copy or build the file again",
    ),
    "no group": (edited(lambda f: f.pop("test")), "no group 'test' .*build it again"),
    "no pictures": (
        edited(lambda f: (f.pop("test/image0"), f.pop("test/image1"))),
        "no data set 'image0' in 'test'",
    ),
    "no text": (edited(lambda f: f.pop("test/text")), "no data set 'text' in 'test' .*choose"),
    "numbers for text": (column("test/text", data=[1, 2]), "'text' in 'test' is no text: build"),
    "lengths": (cells("test/image1", JUNK), "'test' differ .*'image1': 1|is broken"),
    "captions": (cells("test/text", "a", "a|b|c"), "none of the 2 stories of 'test' is whole"),
    "html": (cells("test/image0", JUNK, JUNK), "story 0 of 'test': the picture cannot|is broken"),
    "bomb": (
        cells("test/image0", *[np.frombuffer(png_bytes(1_000, 100_000), np.uint8)] * 2),
        "1000x100000 pixels are too many",
    ),
    "left_out is text": (
        edited(lambda f: f["test"].create_dataset("left_out", (2,), h5py.string_dtype())),
        "'left_out' in 'test' is no list of numbers",
    ),
    "vocabulary": (edited(lambda f: f.attrs.update(label_vocabulary="[{")), "is damaged"),
    "labels are cut": (cells("test/labels/frames", "[{", "[{"), "is broken .its labels"),
    "labels of one picture": (cells("test/labels/frames", "[{}]", "[{}]"), "its labels: 1 of 2"),
    "external storage": (elsewhere("external storage"), "keeps its data in other files"),
    "external link": (elsewhere("external link"), "'text' of '/test' is a link to elsewhere"),
    "virtual": (elsewhere("virtual"), "keeps its data in other files"),
    "link to a group": (elsewhere("link to a group"), "'test' of '/' is a link to elsewhere"),
}  # fmt: skip

DRAWN_HDF5: dict[str, tuple[Spoil, str]] = {  # and what is no fault of a whole file
    **{name: HDF5[name] for name in ("missing", "empty", "captions", "html", "external link")},
    "no story": (
        edited(lambda f: [f["test"][key].resize((0,)) for key in f["test"] if key != "labels"]),
        "'test' holds no story; build|differ",
    ),
    "ids twice": (
        cells("test/story_id", "a", "a"),
        "story_id 'a' is there twice in the test",
    ),
    "an id of the manifest": (cells("test/story_id", "metrics.json", "b"), "would take the place"),
}

FOLDERS_OF_SAMPLES: dict[str, tuple[Spoil, str]] = {
    "nowhere": (lambda h: shutil.rmtree(h / "out"), "out does not exist: give the folder"),
    "no manifest": (
        lambda h: shutil.rmtree(h / "out") or (h / "out").mkdir(),
        "has no manifest.jsonl",
    ),
    "empty manifest": (lines(""), "lists no story: sample at least one"),
    "half a line": (lines('{"story_id": "half'), "line 1 is not JSON"),
    "deep": (lines(DEEP), "line 1 is not JSON .it is nested too deeply"),
    "key twice": (lines('{"story_id": "a", "story_id": "b"}'), "'story_id' is there twice"),
    "half a letter": (entry(captions=["\ud83d", "b"]), "has half a letter"),
    "twice": (
        lambda h: (h / "out/manifest.jsonl").write_text((h / "out/manifest.jsonl").read_text() * 2),
        "'s0' 2 times",
    ),
    "gone": (entry(frames=["gone.png", "s0/1.png"]), "'gone.png', which is not in"),
    "above": (entry(frames=["../secret.png", "s0/1.png"]), "outside the samples folder"),
    "one caption": (entry(captions=["only one"]), "2 frames but 1 captions"),
    "captions are a text": (entry(captions="ab"), "'captions' is 'ab', not a list of texts"),
    "given": (entry(given=3), "'given' is 3"),
    "seed": (entry(seed="x"), "'seed' is 'x', not a whole number"),
    "vocabulary is cut": (content("out/label_vocabulary.json", "{"), "vocabulary.json is not JSON"),
    "picture is a page": (content("out/s0/1.png", "<html>"), "1.png cannot be used"),
    "picture is a pipe": (fifo("out/s0/1.png"), "'s0/1.png', which is not in"),
    "picture is a bomb": (content("out/s0/1.png", png_bytes(9_000, 9_000)), "pixels are too many"),
}


def evaluated(make: Callable[[Path], object]) -> Spoil:
    """A plain folder in place of the samples."""
    return lambda home: (shutil.rmtree(home / "out"), plain(home), make(home))


FOLDERS_OF_SAMPLES |= {
    f"plain folder: {name}": (evaluated(make), says)
    for name, (make, says) in {
        "both kinds": (lambda h: png(h / "out/x.png", 8, 8), "holds both pictures and folders"),
        "one name twice": (
            lambda h: (h / "out/1/0.jpg").write_bytes(saved("JPEG")),
            "0.jpg and 0.png have one name: keep one",
        ),
        "heic": (lambda h: (h / "out/1/3.heic").touch(), "3.heic is of a kind that is not read"),
        "nothing": (
            lambda h: [shutil.move(h / "out", h / "x"), (h / "out/.hidden").mkdir(parents=True)],
            "has no manifest.jsonl",
        ),
    }.items()
}  # fmt: skip

CODE = "which asks for Python code of its own to be run"
CLIPS: dict[str, tuple[Spoil, str]] = {
    "code of a tokenizer": (
        clip_settings(hf_tokenizer_name="{home}", tokenizer_kwargs={"trust_remote_code": True}),
        f"open_clip_config.json has 'trust_remote_code', {CODE}",
    ),
    "code beside it": (
        both(clip_settings(), content("clip/tokenizer_config.json", '{"auto_map": {"A": "b.C"}}')),
        f"tokenizer_config.json has 'auto_map', {CODE}",
    ),
    "a tokenizer of the hub": (
        clip_settings(hf_tokenizer_name="someone/else"),
        "its hf_tokenizer_name 'someone/else' is no folder, and would be fetched",
    ),
    "a text model of the hub": (clip_settings(hf_model_name="someone/else"), "would be fetched"),
    "no JSON": (content("clip/open_clip_config.json", "{"), "cannot be read as JSON"),
    "no settings": (gone("clip/open_clip_config.json"), "cannot be loaded"),
    "no weights": (clip_settings(), "cannot be loaded"),
}

BASES: dict[str, tuple[Spoil, str]] = {
    "code of BLIP": (with_key("blip/config.json", auto_map={"AutoConfig": "x.Y"}), CODE),
    "code of its pictures": (
        with_key("blip/preprocessor_config.json", auto_map={"AutoImageProcessor": "x.Y"}),
        f"^error: tiny.blip_model: .*preprocessor_config.json has 'auto_map', {CODE}",
    ),
    "code of the tokenizer": (
        with_key("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
        CODE,
    ),
    "code of the U-Net": (with_key("unet/config.json", custom_pipelines={"x": 1}), CODE),
    "no autoencoder": (with_key("vae/config.json", _class_name=None), "says _class_name 'None'"),
    "a pipeline for an autoencoder": (
        with_key("vae/config.json", _class_name="StableDiffusionPipeline"),
        "which is no autoencoder of diffusers",
    ),
    "settings cut": (
        in_place("base/unet/config.json", '{"act_fn": '),
        "unet/config.json cannot",
    ),
    "settings deep": (in_place("base/vae/config.json", DEEP), "it is nested too deeply"),
}

NO_LORA = "^error: lora_files: .*lora.safetensors does not go onto this U-Net .*%s.*; give a LoRA"
LORAS: dict[str, tuple[Spoil, str]] = {
    "another width": (resized((1, 2), (2, 1)), NO_LORA % "size mismatch"),
    "other blocks": (renamed("down_blocks", "layers"), NO_LORA % "only [0-9]+ of its [0-9]+"),
    "another model": (renamed("unet.", "transformer."), NO_LORA % "it holds nothing for the U-Net"),
    "not finite": (tensors(lambda k, v: (k, v / 0)), NO_LORA % "is not finite"),
    "no LoRA": (tensors(lambda k, v: ("unet.conv_in.weight", v)), NO_LORA % "Invalid LoRA"),
    "a page": (content("lora.safetensors", "<html>"), NO_LORA % "Unable to load"),
    "gone": (gone("lora.safetensors"), NO_LORA % "there is no such folder"),
}
AS_A_MODEL = {"itself": (lambda home: None, "holds a LoRA alone; .* as lora_files=.*model.ckpt")}

CONFIGURATIONS: dict[str, tuple[Spoil, str]] = {
    "the environment": (words("run_name=${{oc.env:HOME}}"), "calls a function in ..oc.env:"),
    "the environment, nested": (words("run_name=a${{oc.decode:${{oc.env:HOME}}}}"), "calls a"),
    "the environment, in a file": (given("run_name: ${oc.env:HOME}\n"), "c.yaml .* calls a"),
    "the environment, in a list": (given("metrics: ['${oc.env:HOME}']\n"), "calls a function in"),
    "the environment, in a key": (given("tiny: {'${oc.env:HOME}': 1}\n"), "calls a function in"),
    "a function of dicts": (given("seed: ${oc.dict.values:tiny}\n"), "calls a function in"),
    "unknown key, in a file": (given("batchsize: 1\n"), "c.yaml: 'batchsize' is not a key "),
    "file missing": (words("config={home}/none.yaml"), "none.yaml cannot be read .*; mend it"),
    "file is broken": (given("seed: [1\n"), "cannot be read"),
    "file has a key twice": (given("seed: 1\nseed: 2\n"), "'seed' is there twice in the mapping"),
    "file is its own default": (given("defaults: [c]\n"), "it names itself in defaults"),
    "file is deep": (given("seed: " + DEEP + "\n"), "nested too deeply"),
    "file is a bomb": (given("a0: &a0 [a]\n" + BOMB), "with its aliases it has more than 100,000"),
    "file is its own alias": (given("tiny: &a [*a]\n"), "with its aliases it has more than"),
    "file runs code": (given("seed: !!python/object/apply:os.system [true]\n"), "cannot be read"),
    "an address": (words("sample_output_dir=s3://bucket/x"), "sample_output_dir: .* is an address"),
}  # fmt: skip

NEW_CHARACTERS = {
    "no picture": (
        lambda home: [gone(f"milo/{n}.png")(home) for n in range(3)],
        "milo holds no picture of 'milo' .*; put three to five there",
    ),
    "a broken picture": (content("milo/1.png", b"no"), r"milo/1.png cannot be used .*: replace it"),
    "an animated GIF": (
        content("milo/a.gif", ANIMATION.getvalue()),
        "a.gif cannot be used .it is an animation of 3 frames; save some",
    ),
    "a caption without the word": (
        content("milo/1.txt", "A dog, Camilo."),
        "milo/1.txt: the caption 'A dog, Camilo.' of 1.png does not "
        "say 'milo' as a word; name the character in every caption",
    ),
    "a caption without spaces": (
        both(words("word: 小明"), content("milo/0.txt", "小明在跑。")),
        "the caption '小明在跑。' of 0.png does not say '小明' as a word; words are found between "
        "spaces, so put these around it",
    ),
    "a caption of Windows": (
        content("milo/1.txt", "Milo, très beau.".encode("cp1252")),
        "milo/1.txt is not UTF-8",
    ),
    "two captions for a picture": (
        content("milo/captions.csv", HEAD + "a,0.png,Milo.\n"),
        "milo/0.txt: 0.png is 'Milo waves.', but 'Milo.' in .*csv, line 2; keep one of them",
    ),
    "two captions beside a picture": (
        content("milo/0.TXT", "Milo."),
        "milo/0.txt: 0.png is 'Milo waves.', but 'Milo.' in .*/milo/0.TXT; keep one of them",
    ),
    "two captions files": (
        both(content("milo/captions.csv", HEAD), content("milo/captions.jsonl", "")),
        "milo holds both captions.jsonl and captions.csv: keep one of them",
    ),
    "a caption that is a list": (
        content(
            "milo/captions.jsonl",
            '{"story": "a", "frames": [{"image": "1.png", "caption": ["Milo."]}]}',
        ),
        "jsonl, line 1: 'caption' is .*Milo.*, not a text: put it in quotes",
    ),
    "a picture of another kind": (
        content("milo/a.HEIC", b""),
        "milo/a.HEIC is of a kind that is not read: save it as PNG",
    ),
    "a captions file of others": (
        content("milo/captions.csv", HEAD + "a,x.png,Milo.\n"),
        "picture .*milo/x.png does not exist: correct the name",
    ),
    "an unknown class word": (
        words("class_word: dog"),
        "has never seen class_word 'dog'; give a word that it knows",
    ),
    "a common word": (
        words("word: waves", "caption: waves"),
        "knows the word 'waves' already, as another one; choose a word",
    ),
    "a known word but for its accent": (
        both(words("word: lúna"), gone("milo/0.txt")),
        "knows the word 'lúna' already, as another one, which BLIP reads as 'luna'; choose a word",
    ),
    "a digit": (
        both(words("word: '7'"), gone("milo/0.txt")),
        "the word '7' gets no token of its own, .*; choose another word",
    ),
    "two words": (words("word: Milo Dog"), "word is 'Milo Dog'; give one word of letters"),
    "no folder": (words("pictures: nowhere"), "there is no folder nowhere with pictures of 'milo'"),
    "a key that is none": (words("picture: x"), "new_characters is .*; it must be a list of char"),
}
CONFIGURATIONS |= {
    "new characters without a base": (
        words("new_characters=[{{word: milo, class_word: bear, pictures: .}}]"),
        "base_model_file is null; set base_model_file to that model's checkpoint",
    ),
    "the same word twice": (
        words("new_characters=[{{word: milo, class_word: bear, pictures: .}}, "
              "{{word: Milo, class_word: cat, pictures: .}}]", f"base_model_file={__file__}"),
        "give one word of letters and digits for each, all of them different",
    ),
    "the same word but for its accent": (
        words("new_characters=[{{word: \"andré\", class_word: bear, pictures: .}}, "
              "{{word: andre, class_word: cat, pictures: .}}]", f"base_model_file={__file__}"),
        "word is 'andré'; .* all of them different, not only in accents, which BLIP does not read",
    ),
    "words to tune without words": (
        words("tune=words", f"base_model_file={__file__}"), "tune is words, but new_characters is"
    ),
}  # fmt: skip
ROWS = [
    pytest.param(program, spoil, says, id=f"{program.__name__}: {name}")
    for program, table_of in (
        (build, FOLDERS), (tell, STORY_FILES), (tell_json, JSON_STORY_FILES), (go_on, FIRST_FRAMES),
        (look, HDF5), (draw_data, DRAWN_HDF5), (judge, FOLDERS_OF_SAMPLES),
        (measure, CLIPS), (load, BASES), (dress, LORAS), (start_with_lora, AS_A_MODEL),
        (learn, NEW_CHARACTERS), (configure, CONFIGURATIONS),
    )
    for name, (spoil, says) in table_of.items()
]  # fmt: skip


def everything(home: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else None
        for path in home.rglob("*")
    }


@pytest.fixture
def quick(monkeypatch):
    """Only the configuration's own words are composed; a story's file goes over one made before."""

    def load(words):
        chosen = dict(word.split("=", 1) for word in words)
        place = {key: chosen.pop(key) for key in PLACES if key in chosen}
        base = tuple(f"{key}={value}" for key, value in chosen.items())
        if base not in COMPOSED:
            there = [f"{key}={__file__}" for key in place if key in FILES]
            COMPOSED[base] = load_config([*base, *there])
        config = COMPOSED[base].copy()
        for key, value in place.items():
            OmegaConf.update(config, key, value)
        return config

    monkeypatch.setattr(main, "load_config", load)


FILES = ("test_model_file", "story", "folder.hdf5_file")
PLACES = (*FILES, "sample_output_dir", "tiny.diffusion_model", "tiny.blip_model")
COMPOSED: dict[tuple, object] = {}


@pytest.mark.parametrize("program, spoil, says", ROWS)
def test_a_bad_input_ends_in_one_sentence(program, spoil, says, tmp_path, capsys, request):
    GOOD[program](tmp_path)
    spoil(tmp_path)
    if program in (tell, tell_json, go_on, draw_data, load, dress, start_with_lora):
        request.getfixturevalue("quick")
    before = everything(tmp_path)
    request.getfixturevalue("monkeypatch").setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as caught:
        program(tmp_path)
    out, err = capsys.readouterr()
    sentence = str(caught.value.code)
    if caught.value.code == 1:  # the check of story files lists its findings
        (sentence,) = ["error: " + line for line in out.splitlines() if "s.h5" in line][:1]
    assert sentence.startswith("error: ") and "\n" not in sentence and "Traceback" not in err
    assert re.search(says, sentence), sentence
    after = everything(tmp_path)
    for found in (before, after):  # a file of this test's, and what a samples folder begins with
        for name in (
            "words",
            "cache.sqlite",
            "new",
            "new/manifest.jsonl",
            "new/label_vocabulary.json",
        ):
            found.pop(name, None)
    if program is dress:
        before["model.ckpt"] = before.pop("whole.ckpt")
    if program is start_with_lora:
        before["model.ckpt"] = before.pop("lora.safetensors")
    if program is tell_json:
        before["mine.json"] = before.pop("mine.yaml")
    assert after == before


def test_good_inputs_of_the_same_forms_pass(tmp_path, capsys):
    """So that no row fails for another reason than what spoils it."""
    folder(tmp_path)
    build(tmp_path)
    (tmp_path / "s.h5").unlink()
    hdf5(tmp_path)
    with pytest.raises(SystemExit) as caught:
        look(tmp_path)
    assert caught.value.code == 0
    samples(tmp_path)
    judge(tmp_path)
    assert (tmp_path / "out" / "storyboard.png").is_file()
    shutil.rmtree(tmp_path / "out")
    plain(tmp_path)
    (tmp_path / "out" / ".ipynb_checkpoints").mkdir()
    png(tmp_path / "out" / ".ipynb_checkpoints" / "0.png", 8, 8)
    (tmp_path / "out" / "1" / "._0.png").write_text("left by another system")
    judge(tmp_path)
