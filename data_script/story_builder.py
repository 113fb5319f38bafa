"""What the builders of published sets share: check the stories, encode in processes, report.

A builder reads its raw files into `RawStory` records; `build_stories` does the rest. Pictures are
read one story at a time and never gathered, so memory does not grow with the set.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from common.files import held, remove_leftovers
from common.interrupts import ending_at_signals
from common.processes import in_processes
from common.terminal import error_in_one_line, script_parser, setting, tqdm
from datasets.pictures import encode_picture
from datasets.story_hdf5 import SPLITS, is_story_id
from datasets.story_writer import StoryWriter, check_place

FRAMES = 5
MEND = "mend it, or leave such stories out with --skip_broken"


@dataclass(frozen=True)
class RawStory:
    """One story as the raw files tell it; a caption that they lack is empty."""

    name: str
    split: str
    source: Path  # the file that tells it
    pictures: Sequence[Path]
    texts: Mapping[str, Sequence[str]]
    labels: Sequence[Mapping] | None = None  # one a picture


@dataclass
class Report:
    """How many stories were kept a split, and how many left out a (split, reason); and what else
    there is to say."""

    kept: Counter[str]
    left_out: Counter[tuple[str, str]]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{'split':8}{'kept':>8}{'left out':>10}"]
        for split in SPLITS:
            out = sum(n for (s, _), n in self.left_out.items() if s == split)
            lines.append(f"{split:8}{self.kept[split]:8}{out:10}")
        for split in SPLITS:
            for (s, why), n in self.left_out.most_common():
                lines += [f"left out of {s}: {n}, {why}"] if s == split else []
        return "\n".join(lines + self.notes)


def load_json(path: Path) -> object:
    """A JSON file; FileNotFoundError or ValueError, one sentence with its name."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: complete the download or correct its path")
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not whole JSON in UTF-8 ({error}): get it again") from None


def caption(text: str) -> str:
    """On one line, as the originals have it; what is inside the line stays as it is."""
    return re.sub(r"[\n\r\t\0]+", " ", text).strip()


def build_stories(
    save_path: str | os.PathLike,
    stories: Sequence[RawStory],
    load: Callable[[Path], np.ndarray],
    description: str,
    left_out: Mapping[tuple[str, str], int] | None = None,
    skip_broken: bool = False,
    num_process: int | None = None,
    label_vocabulary: Mapping[str, Sequence[str]] | None = None,
) -> Report:
    """Check all stories, then encode and write them -> who was kept and who was not, and why.

    load: path -> (H, W, 3) uint8 RGB, or a ValueError that names the path; sent to the processes.
    left_out: what the set's own rules have left out before. skip_broken: leave out and count what
    is otherwise an error. label_vocabulary: all names in the stories' labels, if they have any.
    Nothing is left behind if anything fails.
    """
    report = Report(Counter(), Counter(left_out or {}))

    def broken(story: RawStory, reason: str, error: Exception) -> None:
        if not skip_broken:
            raise error
        report.left_out[story.split, reason] += 1

    good, known = [], set()
    for story in tqdm(stories, "checking", unit="story"):
        fault = _fault(story, known)
        known.add(story.name)
        broken(story, *fault) if fault else good.append(story)
    _refuse_empty(save_path, Counter(story.split for story in good), report)
    attributes: dict[str, object] = {"description": description}
    if label_vocabulary:
        attributes["label_vocabulary"] = label_vocabulary
    with StoryWriter(save_path, FRAMES, tuple(good[0].texts), attributes) as writer:
        with closing(_encoded(load, good, num_process or os.cpu_count() or 1)) as pictures:
            for story, result in zip(tqdm(good, "building", unit="story"), pictures, strict=True):
                if isinstance(result, Exception):
                    broken(story, "a picture is broken", result)
                else:
                    writer.add(story.split, result, story.texts, story.name, story.labels)
        report.kept.update(writer.counts)
        _refuse_empty(save_path, report.kept, report)
    return report


def _fault(story: RawStory, known: set[str]) -> tuple[str, Exception] | None:
    """(reason in a few words, the error) if the story cannot be used."""
    where = f"{story.source}: story {story.name!r}"
    if story.name in known:
        return "there twice", ValueError(f"{where} is there twice: {MEND}")
    if not is_story_id(story.name):
        return "an unsafe id", ValueError(f"{where} has an id that cannot name a folder: {MEND}")
    for text in (text for texts in story.texts.values() for text in texts):
        if not text:
            return "a caption is missing", ValueError(f"{where} lacks a caption: {MEND}")
        if "|" in text:
            return (
                "'|' in a caption",
                ValueError(f"{where} has '|', which separates captions, in {text!r}: {MEND}"),
            )
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            return "a caption is no text", ValueError(
                f"{where} has half a letter in {text!r}: {MEND}"
            )
    for path in story.pictures:
        if not path.is_file():
            return "a picture is missing", FileNotFoundError(
                f"picture {path} of story {story.name!r} does not exist: complete the download, "
                "or leave such stories out with --skip_broken"
            )
    return None


def _refuse_empty(save_path: str | os.PathLike, kept: Counter, report: Report) -> None:
    for split in SPLITS:
        if not kept[split]:
            why = "; ".join(f"{n}: {w}" for (s, w), n in report.left_out.items() if s == split)
            raise ValueError(
                f"{save_path} was not written: split {split!r} has no story "
                f"({why or 'the raw files name none'}): complete the raw data"
            )


def _encode(load: Callable[[Path], np.ndarray], story: RawStory) -> list[np.ndarray] | Exception:
    try:
        return [encode_picture(load(path)) for path in story.pictures]
    except (OSError, ValueError) as error:
        return error


def _encoded(
    load: Callable, stories: Sequence[RawStory], processes: int
) -> Iterator[list[np.ndarray] | Exception]:
    encode = partial(_encode, load)
    if processes == 1:
        yield from map(encode, stories)
        return
    yield from in_processes(
        encode, stories, processes, 4 * processes,
        "a process that encodes pictures was killed, perhaps for memory: "
        "start again with a smaller --num_process",
    )  # fmt: skip


def argument_parser(doc: str, example: str, raw_folder: bool = False) -> argparse.ArgumentParser:
    """A parser with the arguments that all builders have, for a script to add its own.

    raw_folder: the set is one folder, and whole, unless --skip_broken is given.
    """
    parser = script_parser(doc, example)
    parser.add_argument("--save_path", required=True, help="story file to write, such as x.h5")
    parser.add_argument(
        "--num_process", type=int, help="processes that encode pictures (one a processor core)"
    )
    if raw_folder:
        parser.add_argument("--data_dir", required=True, help="folder of the raw download")
        skip = "leave out and count stories that are not whole"
        parser.add_argument("--skip_broken", action="store_true", help=skip)
    return parser


def preset_command(preset: str, key: str, path: str | os.PathLike) -> str:
    """The command that trains as published on a story file, and how to make it fit."""
    return (
        f"python main.py config=presets/{preset}.yaml {setting(key, path)}\n"
        "(for a GPU of 48 GB or more; after the preset, config=presets/fits-40gb.yaml, fits-24gb "
        "or fits-12gb makes it smaller)"
    )


def check_save_path(path: Path) -> None:
    """End the script in one line where no story file can be written."""
    with error_in_one_line():
        try:
            check_place(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"--save_path: {error}") from None


@contextmanager
def only_build_of(path: Path) -> Iterator[None]:
    """Ends the script in one line where the file `path` is being built already, on an error, or
    from outside.

    What builds of it that were killed have left is removed.
    """
    with ending_at_signals("nothing is written"), error_in_one_line():
        with held(path.with_name(f".{path.name}.lock"), f"--save_path: {path} is"):
            if left := remove_leftovers(path.parent, [path.name]):
                print(f"removed {', '.join(left)}, left by a build that was killed", flush=True)
            yield


def run(build: Callable[..., Report], args: argparse.Namespace, next_step: str) -> None:
    """Say what will happen, build, report; errors are one line on standard error."""
    path = Path(args.save_path)
    if args.num_process is not None and args.num_process < 1:
        sys.exit(f"error: --num_process {args.num_process} is too few: give 1 or more")
    check_save_path(path)
    state = "replaces the file that is there" if path.exists() else "writes it"
    print(f"building {path} ({state} when whole)", flush=True)
    with only_build_of(path):
        report = build(**vars(args))
    print(f"{report}\n{path}: {path.stat().st_size / 1e6:,.1f} MB\nnext: {next_step}")
