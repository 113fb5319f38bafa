"""What spoils a good input: functions that change the files in its folder."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

CAPTIONS = ["Pip is in the meadow.", "He waves.", "He falls asleep."]
HEAD = "story,image,caption\n"
Spoil = Callable[[Path], object]


def rows(tables: Mapping[Callable, Mapping[str, tuple[Spoil, str]]]) -> list:
    """Of each program's table, by names: what spoils its good input, a part of the sentence."""
    return [
        pytest.param(program, spoil, says, id=f"{program.__name__}: {name}")
        for program, table in tables.items()
        for name, (spoil, says) in table.items()
    ]


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
