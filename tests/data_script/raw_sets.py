"""Small raw PororoSV, FlintstonesSV and VIST sets in the types that the real ones have on disk."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from tests.noise import RNG, noise

SPLITS = ("train", "val", "test")
STORIES = {"train": 3, "val": 2, "test": 2}
VIST_SIZES = [(9, 12), (12, 9), (9, 9), (9, 11), (13, 9)]  # height, width: crops to 9x9


class Python2Pickler(pickle._Pickler):
    """Writes as Python 2 did: its plain str is bytes of no known encoding."""

    dispatch = {**pickle._Pickler.dispatch}

    def save_python2_str(self, value: bytes | str) -> None:
        if isinstance(value, str) and not value.isascii():
            return self.save_str(value)
        data = value if isinstance(value, bytes) else value.encode()
        short = len(data) < 256
        size = bytes([len(data)]) if short else struct.pack("<i", len(data))
        self.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + size + data)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_python2_str


def python2_pickle(value: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump(value)
    return stream.getvalue().replace(b"numpy._core.", b"numpy.core.")  # what NumPy 1 called it


def save_python2(path: Path, value: object) -> None:
    """As numpy.save of Python 2 wrote an object array."""
    array = value if isinstance(value, np.ndarray) else objects([value], ())
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(python2_pickle(array))


def objects(values: list, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array.reshape(shape)


Stories = dict[str, list[tuple[str, list[np.ndarray], dict[str, list[str]]]]]


def pororo(folder: Path, side: int = 8, kind: str = "S") -> Stories:
    """Writes the raw set; -> split -> (id, pictures, captions) as a story file should have them.

    kind: "S" for arrays of byte strings, "O" for object arrays of Python 2's, "U" for printed ones.
    """
    count = sum(STORIES.values())
    order = RNG.permutation(count)
    names, told, pictures, descriptions = [], [], [], {}
    for i in range(count):
        episode = f"Pororo_ENGLISH1_{i % 2}"
        (folder / episode).mkdir(parents=True, exist_ok=True)
        names.append([f"{episode}/{5 * i + k}.png" for k in range(5)])
        pictures.append([noise(side * (1 + (i + k) % 4), side) for k in range(5)])
        told.append([f"Story {i}: Pororo says café, {k}." for k in range(5)])
        for name, rgb, caption in zip(names[-1], pictures[-1], told[-1], strict=True):
            Image.fromarray(rgb).save(folder / name)
            raw = caption.replace("café", "caf\xe9" if i % 2 else "café")
            first = raw.encode("latin1" if i % 2 else "utf-8").replace(b", ", b",\n") + b"\t"
            descriptions[name.removesuffix(".png").encode()] = [first, b"another"]
    flat = [name.encode() for story in names for name in story]
    if kind == "U":
        flat = [str(name) for name in flat]
    grid = (objects(flat) if kind == "O" else np.array(flat)).reshape(count, 5)
    for name, array in (("img_cache4", grid[:, 0]), ("following_cache4", grid[:, 1:])):
        if kind == "O":
            save_python2(folder / f"{name}.npy", array)
        else:
            np.save(folder / f"{name}.npy", array)
    save_python2(folder / "descriptions.npy", descriptions)
    ends = np.cumsum(list(STORIES.values()))[:-1]
    ids = np.split(order, ends)
    save_python2(folder / "train_seen_unseen_ids.npy", objects(ids))
    return {
        split: [(f"{i:05d}", pictures[i], {"text": told[i]}) for i in sorted(part.tolist())]
        for split, part in zip(SPLITS, ids, strict=True)
    }


def flintstones(folder: Path, side: int = 8) -> Stories:
    """Writes the raw set, with one story a split too short to be kept."""
    (folder / "video_frames_sampled").mkdir(parents=True)
    followings, annotations, splits = {}, [], {}
    stories: Stories = {}
    for split in SPLITS:
        stories[split], splits[split] = [], []
        for i in range(STORIES[split]):
            ids = [f"s_01_e_{i:02d}_shot_{split}_{k}" for k in range(5)]
            shots = [RNG.integers(0, 256, (2 + k, side, side, 3), dtype=np.uint8) for k in range(5)]
            texts = [f"Fred is in {split} {i}, {k}." for k in range(5)]
            for shot, frames, text in zip(ids, shots, texts, strict=True):
                np.save(folder / "video_frames_sampled" / f"{shot}.npy", frames)
                annotations.append({"globalID": shot, "description": text + "\n"})
            followings[ids[0]] = ids[1:]
            splits[split].append(ids[0])
            strips = [np.concatenate(frames) for frames in shots]
            stories[split].append((ids[0], strips, {"text": texts}))
        splits[split].append(f"s_09_{split}_short")
        followings[f"s_09_{split}_short"] = followings[ids[0]][:3]
        splits[split].append(f"s_09_{split}_alone")
    (folder / "train-val-test_split.json").write_text(json.dumps(splits))
    (folder / "flintstones_annotations_v1-0.json").write_text(json.dumps(annotations))
    (folder / "following_cache4.pkl").write_bytes(pickle.dumps(followings))
    return stories


def pororo_labels(folder: Path, columns: int = 9, kind: str = "array") -> dict[str, list[int]]:
    """Writes labels.npy as Python 2 did, for every picture -> picture -> zeros and ones."""
    pictures = sorted(path.relative_to(folder).with_suffix("") for path in folder.glob("*/*.png"))
    rows = RNG.integers(0, 2, (len(pictures), columns))
    labels = {str(picture): row.tolist() for picture, row in zip(pictures, rows, strict=True)}
    types = {"array": np.array, "floats": lambda row: np.array(row, float), "list": list}
    saved = {picture.encode(): types[kind](row) for picture, row in labels.items()}
    save_python2(folder / "labels.npy", saved)
    return labels


def flintstones_labels(folder: Path) -> dict[str, tuple[list[int], list[int]]]:
    """Writes labels.pkl and labels_bg.pkl -> shot -> the characters and the backgrounds set.

    The first shot has two backgrounds, the second none, all others one.
    """
    shots = sorted(path.stem for path in (folder / "video_frames_sampled").glob("*.npy"))
    labels = {}
    for i, shot in enumerate(shots):
        backgrounds = {0: [3, 322], 1: []}.get(i, [int(RNG.integers(323))])
        labels[shot] = np.flatnonzero(RNG.integers(0, 2, 7)).tolist(), backgrounds
    for name, part, width in (("labels", 0, 7), ("labels_bg", 1, 323)):
        rows = {shot: np.isin(np.arange(width), both[part]) for shot, both in labels.items()}
        rows = {shot: row.astype(np.int64) if part else list(map(int, row)) for shot, row in
                rows.items()}  # fmt: skip
        content = {"label": rows, "note": "other keys may be there"} if part else rows
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(content))
    return labels


def vist(folder: Path) -> Stories:
    """Writes the raw set: a story of four pictures, one whose picture is gone, one uncaptioned."""
    for name in ("sis", "dii", "images"):
        (folder / name).mkdir(parents=True)
    stories: Stories = {}
    number = 100
    for split in SPLITS:
        sis, dii, stories[split] = [], [], []
        for i in range(STORIES[split] + 3):
            length, kept = 5 - (i == STORIES[split]), i < STORIES[split]
            ids = [str(number + k) for k in range(length)]
            number += length
            pictures = [noise(*size) for size in VIST_SIZES[:length]]
            told = [f"In {split} {i} we went out, {k}." for k in range(length)]
            seen = ["a dog"] * length  # two pictures may well have one caption
            for k, (picture, rgb) in enumerate(zip(ids, pictures, strict=True)):
                if not (i == STORIES[split] + 1 and k == 2):
                    Image.fromarray(rgb).save(folder / "images" / f"{picture}.jpg", "PNG")
                if not (i == STORIES[split] + 2 and k == 3):
                    for text in ("dog", seen[k], "a d"):
                        dii.append([{"photo_flickr_id": picture, "original_text": text}])
                frame = {"story_id": str(1000 + i), "photo_flickr_id": picture}
                sis.append([{**frame, "original_text": told[k]}])
            if kept:
                stories[split].append((f"{split}{i}", pictures, {"sis": told, "dii": seen}))
        for row in sis:
            row[0]["story_id"] = split + str(int(row[0]["story_id"]) - 1000)
        for kind, rows, name in (("sis", sis, "story-in-sequence"),
                                 ("dii", dii, "description-in-isolation")):  # fmt: skip
            content = json.dumps({"images": [], "annotations": rows})
            (folder / kind / f"{split}.{name}.json").write_text(content)
    return stories
