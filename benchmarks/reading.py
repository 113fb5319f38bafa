"""How fast stories with strips of frames are read: the originals' way against this repository's.

    python -m benchmarks.reading

Two story files are made of the same strips: one as the originals write it (one PNG a strip, with
their library's settings; --adaptive for those of other encoders), one by our builder. Three readers
take turns on the same stories, so that whatever else the machine does falls on all; each makes the
target and history pictures and the tokens of all five frames, at full size (512 and 224), with
frames drawn at random as in training. Rates are in processor time, which a busy machine disturbs
less than the clock. The first turn is a warm-up, as the first epoch of fifty.

The originals' way is stated anew here from what they do: decode every strip whole, cut one frame
out, resize it twice as a PIL picture, to float, normalise, tokenise.
"""

from __future__ import annotations

import argparse
import io
import statistics
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision import transforms

from datasets.cartoon.build import tell_stories
from datasets.cartoon.grammar import FRAMES
from datasets.cartoon.renderer import render
from datasets.pictures import decode_frame
from datasets.specs import SPECS
from datasets.story_dataset import StoryDataset
from datasets.story_hdf5 import StoryWriter
from models.components import load_tokenizers
from models.frames import HistoryTransform

BASE = "assets/cartoon-base"
SIDE, TARGET, HISTORY, TOKENS = 128, 512, 224, 85
MEAN, STD = (0.481, 0.458, 0.408), (0.269, 0.261, 0.276)
STRIP_FRAMES = 12  # frames a shot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stories", type=int, default=12, help="stories in each file")
    parser.add_argument("--frames", type=int, default=STRIP_FRAMES, help="frames a strip")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each reader")
    parser.add_argument(
        "--adaptive", action="store_true", help="upstream PNGs with every kind of row filter"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker
    clip, blip = load_tokenizers(BASE, f"{BASE}/blip")
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.h5" for name in ("upstream", "ours")}
        write_files(paths, args.stories, args.frames, args.adaptive)
        how = {"spec": SPECS["pororo"], "task": "visualization", "image_size": TARGET}
        how |= {"history_transform": HistoryTransform(HISTORY, MEAN, STD), "max_length": TOKENS}
        how |= {"clip_tokenizer": clip, "blip_tokenizer": blip}
        readers = {
            "originals' reader, their file": OriginalReader(paths["upstream"], clip, blip),
            "our reader, their file": StoryDataset(paths["upstream"], "train", **how),
            "our reader, our file": StoryDataset(paths["ours"], "train", **how),
        }
        theirs, ours = (path.stat().st_size for path in paths.values())
        check_pictures(readers, args.stories, args.frames)
        rates = take_turns(readers, args.stories, args.repeats)
    print(f"strips of {args.frames} frames, {args.stories} stories, {args.repeats} turns each")
    print(f"file sizes: upstream {theirs / 1e6:.2f} MB, ours {ours / theirs:.4f} times that")
    first = next(iter(rates.values()))
    for name, per_turn in rates.items():
        ratio = statistics.median(
            ours / theirs for ours, theirs in zip(per_turn, first, strict=True)
        )
        print(
            f"{name:32} {statistics.median(per_turn):6.1f} stories/s "
            f"({min(per_turn):.1f} to {max(per_turn):.1f}), ratio {ratio:.2f}"
        )


def check_pictures(readers: dict, stories: int, frames: int) -> None:
    """AssertionError unless all three come to the same pixels of every frame of every strip."""
    original, *ours = readers.values()
    for index, k in product(range(stories), range(FRAMES)):
        strip = original.strip(index, k)
        for n, reader in product(range(frames), ours):
            frame = decode_frame(reader.stories.encoded(index, k), n)
            assert np.array_equal(frame, original.frame(strip, n)), (index, k, n)


def take_turns(readers: dict, stories: int, repeats: int) -> dict[str, list[float]]:
    """Stories a second of every reader and turn; the first turn, a warm-up, is left out."""
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(1 + repeats):
        for name, reader in readers.items():
            begin = time.process_time()
            for index in range(stories):
                reader[turn * stories + index]  # each turn shows other frames
            rates[name].append(stories / (time.process_time() - begin))
    return {name: per_turn[1:] for name, per_turn in rates.items()}


def write_files(paths: dict[str, Path], stories: int, frames: int, adaptive: bool) -> None:
    """The same strips in both layouts: drawn scenes with the grain and blur of video frames."""
    rng = np.random.default_rng(0)
    told = tell_stories({"train": stories, "val": 0, "test": 0}, 0)["train"]

    def frame(scene) -> np.ndarray:
        picture = Image.fromarray(render(scene)).filter(ImageFilter.GaussianBlur(1))
        grain = rng.normal(0, 2, (SIDE, SIDE, 3))
        return (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)

    with StoryWriter(paths["ours"], FRAMES) as ours, h5py.File(paths["upstream"], "w") as theirs:
        group = theirs.create_group("train")
        columns = [
            group.create_dataset(f"image{k}", (stories,), h5py.vlen_dtype(np.uint8))
            for k in range(FRAMES)
        ]
        text = group.create_dataset("text", (stories,), h5py.string_dtype("utf-8"))
        for i, story in enumerate(told):
            strips = [
                np.concatenate([frame(scene) for _ in range(frames)]) for scene in story.scenes
            ]
            ours.add("train", strips, {"text": story.captions})
            text[i] = "|".join(story.captions)
            for column, strip in zip(columns, strips, strict=True):
                column[i] = np.frombuffer(upstream_png(strip[..., ::-1], adaptive), np.uint8)


def upstream_png(pixels: np.ndarray, adaptive: bool) -> bytes:
    """(H, W, 3) as a PNG: with the settings of the originals' library, or as Pillow saves it."""
    if adaptive:
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")
        return stream.getvalue()
    height, width = pixels.shape[:2]
    first = np.zeros((height, 1, 3), np.uint8)
    differences = np.diff(pixels, axis=1, prepend=first).reshape(height, -1)
    rows = np.insert(differences, 0, 1, axis=1)  # 1: every row is stored as differences
    deflate = zlib.compressobj(1, memLevel=8, strategy=zlib.Z_RLE)
    body = deflate.compress(np.ascontiguousarray(rows)) + deflate.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [(b"IDAT", body[i : i + 8192]) for i in range(0, len(body), 8192)]
    png = b"\x89PNG\r\n\x1a\n"
    for kind, content in (*chunks, (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        png += struct.pack(">I", len(content)) + kind + content + checksum
    return png


class OriginalReader:
    """Stories as the originals read them."""

    def __init__(self, path: Path, clip: Callable, blip: Callable) -> None:
        self.group = h5py.File(path)["train"]
        self.tokenizers = (clip, blip)
        to_float, to_picture = transforms.ToTensor(), transforms.ToPILImage()
        self.target = transforms.Compose([
            to_picture, transforms.Resize([TARGET, TARGET]), to_float,
            transforms.Normalize([0.5], [0.5]),
        ])  # fmt: skip
        self.history = transforms.Compose([
            to_picture, transforms.Resize([HISTORY, HISTORY]), to_float,
            transforms.Normalize(MEAN, STD),
        ])  # fmt: skip

    def strip(self, index: int, k: int) -> np.ndarray:
        data = self.group[f"image{k}"][index]
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))  # BGR: read as RGB

    @staticmethod
    def frame(strip: np.ndarray, n: int) -> np.ndarray:
        return np.ascontiguousarray(strip[n * SIDE : (n + 1) * SIDE, :, ::-1])

    def __getitem__(self, index: int) -> tuple:
        frames, index = [], index % len(self.group["text"])
        for k in range(FRAMES):
            strip = self.strip(index, k)
            frames.append(self.frame(strip, np.random.randint(len(strip) // SIDE)))
        captions = self.group["text"][index].decode().split("|")
        tokens = [
            tokenizer(
                captions, padding="max_length", max_length=TOKENS, truncation=False,
                return_tensors="pt",
            )
            for tokenizer in self.tokenizers
        ]  # fmt: skip
        target = torch.stack([self.target(frame) for frame in frames])
        return target, torch.stack([self.history(frame) for frame in frames]), tokens


if __name__ == "__main__":
    main()
