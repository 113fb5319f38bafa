"""Reads other systems' pictures: two plain folders and, if wanted, a file of captions.

A sub-folder is a story and its pictures, in natural order, the frames; a folder without sub-folders
is cut into stories of `story_length` pictures.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from common.picture_files import OTHER_SUFFIXES, SUFFIXES
from evaluation.samples.benchmarks import open_benchmark
from evaluation.samples.labels import read_labels
from evaluation.samples.reader import MANIFEST, SampledStory, Samples, read_samples

__all__ = ["PLOT", "STORYBOARD", "open_samples"]

PLOT, STORYBOARD = "metrics_by_frame.png", "storyboard.png"  # what an evaluation leaves there


def open_samples(
    folder: str | os.PathLike,
    reference: str | os.PathLike | None = None,
    captions: str | os.PathLike | None = None,
    story_length: int = 1,
    labels: str | os.PathLike | None = None,
    benchmark: str | os.PathLike | None = None,
) -> Samples:
    """A samples folder by its manifest, or plain folders as samples; ValueError says what is off.

    Stories of `folder` and `reference` of one name belong together; where no name agrees, they are
    matched by their order, as lines of `captions` are. `labels` name pictures, see `labels.py`.
    benchmark: folder of ViStoryBench's stories, which `folder` shows; it takes nothing else beside.
    """
    folder = Path(folder)
    if benchmark:
        if reference or captions or labels:
            raise ValueError("benchmark= tells captions and labels: leave the others out")
        return open_benchmark(folder, benchmark)
    plain = reference or captions or labels or (folder.is_dir() and _pictures(folder))
    if (folder / MANIFEST).is_file() or not plain:
        samples = read_samples(folder)
        if reference or captions or labels:
            raise ValueError(
                f"{folder} has a manifest, which names references, captions and labels: leave "
                "reference=, captions= and labels= out"
            )
        return samples
    drawn = _stories(folder, story_length)
    real = _matched(folder, drawn, Path(reference), story_length) if reference else {}
    total = sum(map(len, drawn.values()))
    lines = [""] * total
    if captions:
        try:
            # only these end a line here: a caption may hold other separators
            text = re.sub(r"\r\n?", "\n", Path(captions).read_text("utf-8-sig"))
            lines = text.removesuffix("\n").split("\n")
        except (OSError, ValueError) as error:
            raise ValueError(f"captions={captions} cannot be read ({error})") from error
        if len(lines) != total:
            raise ValueError(
                f"captions={captions} has {len(lines)} lines for {total} pictures of {folder}: "
                "give one caption a line, in the order of the pictures"
            )
    told, vocabulary = read_labels(labels) if labels else ({}, None)
    names = {path.relative_to(folder).as_posix() for frames in drawn.values() for path in frames}
    if told and (strange := told.keys() - names):
        raise ValueError(f"{labels} labels {min(strange)!r}, which is not in {folder}: mend it")
    if told and (bare := names - told.keys()):
        raise ValueError(f"{labels} has no label for {min(bare)!r} of {folder}: label all pictures")
    stories = []
    for name, frames in drawn.items():
        said, lines = lines[: len(frames)], lines[len(frames) :]
        own = [told[path.relative_to(folder).as_posix()] for path in frames] if told else None
        stories.append(SampledStory(name, said, frames, real.get(name, []), labels=own))
    return Samples(folder, stories, vocabulary)


def _matched(
    folder: Path, drawn: dict[str, list[Path]], reference: Path, length: int
) -> dict[str, list[Path]]:
    """The real pictures of every drawn story: by its name, or by order if no name agrees."""
    real = _stories(reference, length)
    if shared := drawn.keys() & real.keys():
        if missing := drawn.keys() - real.keys():
            raise ValueError(
                f"{reference} has no {min(missing)!r}, though it has {len(shared)} other stories "
                f"of {folder} by name: add its real pictures, or take it out of {folder}"
            )
        real = {name: _by_name(frames, real[name]) for name, frames in drawn.items()}
    if [len(one) for one in real.values()] != [len(one) for one in drawn.values()]:
        raise ValueError(
            f"{folder} has {_count(drawn)} but {reference} has {_count(real)}: give as many "
            "reference pictures as drawn ones, in the same order"
        )
    return dict(zip(drawn, real.values(), strict=True))


def _by_name(drawn: list[Path], real: list[Path]) -> list[Path]:
    """Real frames of the drawn ones' names; all of them where no name agrees."""
    named = {path.stem: path for path in real}
    found = {path: named.get(path.stem) for path in drawn}
    if not any(found.values()):
        return real
    if missing := [path for path, one in found.items() if one is None]:
        raise ValueError(
            f"{real[0].parent} has no picture of the name of {missing[0]}, but of others: give all "
            "their names, or none"
        )
    return list(found.values())


def _stories(folder: Path, length: int) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist: give a folder of pictures")
    folders = sorted(filter(_is_story, folder.iterdir()), key=_natural)
    inner = {path.name: pictures for path in folders if (pictures := _of(path))}
    flat = _of(folder)
    if inner and flat:
        raise ValueError(f"{folder} holds both pictures and folders of pictures: keep one kind")
    if inner:
        return inner
    if not flat:
        raise ValueError(f"{folder} holds no picture ({', '.join(sorted(SUFFIXES))})")
    if len(flat) % length:
        raise ValueError(
            f"{folder} holds {len(flat)} pictures, not a multiple of story_length={length}"
        )
    starts = range(0, len(flat), length)
    return {flat[start].stem: flat[start : start + length] for start in starts}


def _pictures(folder: Path) -> bool:
    return bool(_of(folder)) or any(map(_of, filter(_is_story, folder.iterdir())))


def _is_story(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")  # .ipynb_checkpoints


def _of(folder: Path) -> list[Path]:
    """Its pictures in order; ValueError if one cannot be read, or which is meant is not clear."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=_natural):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.name in (PLOT, STORYBOARD):  # ._x.png
            continue
        if suffix in OTHER_SUFFIXES:
            raise ValueError(f"{path} is of a kind that is not read: save it as PNG")
        if suffix not in SUFFIXES or path.is_dir():
            continue
        if (before := found.setdefault(path.stem, path)) != path:
            raise ValueError(f"{before} and {path.name} have one name: keep one of them")
    return list(found.values())


def _natural(path: Path) -> list:
    """frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name)  # numbers are at odd places; ① is no number
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _count(stories: dict[str, list[Path]]) -> str:
    return f"{len(stories)} stories with {sum(map(len, stories.values()))} pictures"
