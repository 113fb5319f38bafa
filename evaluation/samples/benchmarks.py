"""Benchmarks' folders: ViStoryBench's drawings read and written, VinaBench's written.

    OUT/METHOD/MODE/LANGUAGE/YYYYMMDD-HHMMSS/NN/shots/shot_01.png     by the shot's index
    OUT/SUBSET_inf/EXPERIMENT/SETTING/INDEX_TID.jpg                   512x224, TID from 0

A long story that was drawn in parts, NN-part1, NN-part2, …, is one story again in either.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from PIL import Image

from common.files import replacing
from common.picture_files import SUFFIXES
from common.vistorybench import BenchmarkStory, read_benchmark
from evaluation.samples.reader import MANIFEST, SampledStory, Samples, read_picture, read_samples

__all__ = ["open_benchmark", "whole_stories", "write_vinabench", "write_vistorybench"]

VINABENCH_SIZE = (512, 224)


def open_benchmark(folder: Path, root: str | os.PathLike) -> Samples:
    """Drawn shots with the captions, casts and characters of ViStoryBench's stories in `root`;
    what else labels say stays.

    folder: one that mode=sample wrote, or the benchmark's own that holds NN/shots. Captions are of
    the language that it was drawn from, as its captions or LANGUAGE in its path tell; else English.
    """
    known = _by_id(root, "en")
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist: give a folder of drawn shots")
    if (folder / MANIFEST).is_file():
        samples = read_samples(folder)
        drawn = {one.story_id: one for one in whole_stories(samples.stories)}
        with suppress(ValueError):  # it may lack the other language
            known = max(known, _by_id(root, "ch"), key=lambda told: _told_in(drawn, told))
    else:
        samples = Samples(folder, [])
        if folder.resolve().parent.name == "ch":
            known = _by_id(root, "ch")
        inner = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
        drawn = {path.name: None for path in inner}
    if not drawn:
        raise ValueError(f"{folder} holds no story NN: give the folder that holds NN/shots")
    stories = []
    for name, one in drawn.items():
        if name not in known:
            raise ValueError(f"{folder} has a story {name!r}, which is not in {root}: take it out")
        told = known[name]
        one = one or SampledStory(name, [], _shots(folder / name, told))
        if len(one.frames) != len(told.shots):
            raise ValueError(
                f"{folder}: story {name!r} has {len(one.frames)} frames for the {len(told.shots)} "
                f"shots in {root}: draw it again"
            )
        own = one.labels or [{}] * len(told.shots)
        labels = [
            {**label, "cast": list(shot.cast)} for label, shot in zip(own, told.shots, strict=True)
        ]
        captions = [shot.caption for shot in told.shots]
        one = replace(one, captions=captions, captions_read=[], labels=labels)
        stories.append(replace(one, characters=told.characters))
    return replace(samples, stories=stories)


def _by_id(root: str | os.PathLike, language: str) -> dict[str, BenchmarkStory]:
    return {story.story_id: story for story in read_benchmark(root, language=language)}


def _told_in(drawn: dict[str, SampledStory], known: dict[str, BenchmarkStory]) -> int:
    """Letters of `known` that the drawn captions hold; a template may have put more around them."""
    return sum(
        len(shot.caption)
        for name, story in drawn.items()
        if name in known
        for shot, caption in zip(known[name].shots, story.captions, strict=False)
        if shot.caption in caption
    )


def whole_stories(stories: Sequence[SampledStory]) -> Iterator[SampledStory]:
    """Stories drawn in parts, put together in the order of the parts; NN-part2 without NN-part1 is
    a story of that name."""
    parts: dict[str, dict[int, SampledStory]] = {}
    ids = {story.story_id for story in stories}
    for story in stories:
        name, _, number = story.story_id.rpartition("-part")
        if not number.isdecimal() or f"{name}-part1" not in ids or name in ids:
            name, number = story.story_id, "1"
        parts.setdefault(name, {})[int(number)] = story
    for name, found in parts.items():
        if gap := next((n for n in range(1, max(found) + 1) if n not in found), None):
            raise ValueError(f"story {name!r} lacks part {gap}: draw it again")
        ordered = [found[number] for number in sorted(found)]
        first = ordered[0]
        if name != first.story_id:
            joined = {
                key: [one for story in ordered for one in getattr(story, key) or ()]
                for key in ("captions", "frames", "reference_frames", "labels")
            }
            joined |= {"history_weights": None, "captions_read": []}  # benchmarks show neither
            first = replace(first, story_id=name, **joined)
        yield first


def write_vistorybench(
    samples: Samples,
    root: str | os.PathLike,
    out: str | os.PathLike,
    method: str,
    mode: str,
    language: str,
    timestamp: str,
) -> Path:
    """Copy every drawn shot to where the benchmark looks for it; the folder of the run."""
    if not re.fullmatch(r"\d{8}-\d{6}", timestamp):
        raise ValueError(f"timestamp={timestamp} is not of the form YYYYMMDD-HHMMSS")
    known = _by_id(root, language)
    run, work = Path(out, method, mode, language, timestamp), []
    for story in whole_stories(samples.stories):
        told = known.get(story.story_id)
        if told is None or len(told.shots) != len(story.frames):
            raise ValueError(
                f"{samples.folder}: story {story.story_id!r} has {len(story.frames)} frames, "
                f"{'but is not there' if told is None else f'not {len(told.shots)}'} in {root}"
            )
        for shot, frame in zip(told.shots, story.frames, strict=True):
            work.append((frame, run / story.story_id / "shots" / f"shot_{shot.index:02d}.png"))
    _refuse_mixture(run, {path for _, path in work})
    for frame, path in work:
        with replacing(path) as temporary:
            if frame.suffix.lower() == ".png":
                shutil.copyfile(frame, temporary)
            else:
                Image.fromarray(read_picture(frame)).save(temporary, "PNG")
    return run


def write_vinabench(
    samples: Samples, out: str | os.PathLike, subset: str, experiment: str, setting: str
) -> Path:
    """Write every frame as the benchmark's JPEG, squashed to its size; the folder of the run.

    INDEX is the story's id where all ids are different numbers, else its place.
    """
    run = Path(out, f"{subset}_inf", experiment, setting)
    stories = list(whole_stories(samples.stories))
    indices = [int(story.story_id) for story in stories if story.story_id.isdecimal()]
    if len({*indices}) < len(stories):  # 01 and 1 are one number
        indices = range(len(stories))
    work = {
        run / f"{index}_{number}.jpg": frame
        for index, story in zip(indices, stories, strict=True)
        for number, frame in enumerate(story.frames)
    }
    _refuse_mixture(run, work)
    for path, frame in work.items():
        picture = Image.fromarray(read_picture(frame)).resize(VINABENCH_SIZE)
        with replacing(path) as temporary:
            picture.save(temporary, "JPEG", quality=95)
    return run


def _refuse_mixture(run: Path, written: Collection[Path]) -> None:
    """ValueError if the folder of a run has pictures that are not `written` over."""
    there = (path for path in sorted(run.rglob("*")) if path.suffix.lower() in SUFFIXES)
    if other := next((path for path in there if path not in written), None):
        raise ValueError(
            f"out: {other} is there, which these samples do not have: the benchmark would take "
            f"both together; give another method, or delete {run}"
        )


def _shots(folder: Path, told: BenchmarkStory) -> list[Path]:
    """The picture of every shot, by the number after the last underscore of its name."""
    inner = next((folder / name for name in ("shots", "shot") if (folder / name).is_dir()), folder)
    found: dict[int, Path] = {}
    for path in sorted(inner.iterdir()):
        number = path.stem.rpartition("_")[2]
        if path.suffix.lower() in SUFFIXES and number.isdecimal():
            if int(number) in found:
                raise ValueError(f"{inner} has two pictures of shot {number}: keep one")
            found[int(number)] = path
    if missing := [shot.index for shot in told.shots if shot.index not in found]:
        raise ValueError(f"{inner} has no picture shot_{missing[0]:02d}: draw that story again")
    return [found[shot.index] for shot in told.shots]
