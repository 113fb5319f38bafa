"""Looks through a story file: is it whole, what is in it, how long are its captions.

Every picture is decoded and every caption counted; the exit status is 1, and the problems are
listed, if anything is wrong. `--quick` decodes no pictures but the first of each split. Files of
the original programs are read as well.

Stories without as many captions as pictures are left out by every program and only counted here. A
picture that cannot be decoded is a problem, as training would stop at it; `--leave_out` notes such
stories in the file, and from then on they are left out too.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from common.files import check_writable
from common.model_folders import refuse_code
from common.terminal import error_in_one_line, in_one_line, script_parser, tqdm
from datasets.contact_sheet import draw_contact_sheet
from datasets.damage import decode_stories, leave_out, problem
from datasets.pictures import frames_in_strip
from datasets.story_hdf5 import (
    SPLITS,
    StoryFile,
    member,
    naming_damage,
    open_story_file,
    validate_story_file,
)  # fmt: skip

LISTED = 20  # problems that are printed, and stories that are left out


@dataclass
class Captions:
    """The captions of one split under one text key."""

    stories: int  # whole ones
    left_out: list[str] = field(default_factory=list)  # the others, and what is wrong with them
    lengths: list[int] = field(default_factory=list)  # in tokens
    empty: int = 0

    def longer_than(self, most: int) -> int:
        return sum(length > most for length in self.lengths)


@dataclass
class Findings:
    """What a story file holds, and what is wrong with it."""

    keys: list[str]
    description: str
    frames: int = 0  # pictures a story
    captions: dict[tuple[str, str], Captions] = field(default_factory=dict)  # by split and key
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # pictures by height, width
    problems: list[str] = field(default_factory=list)
    unreadable: dict[tuple[str, int], str] = field(default_factory=dict)  # (split, row) -> problem


def check_story_file(
    path: str | os.PathLike, count_tokens: Callable[[str], int], quick: bool = False
) -> Findings:
    """Go through all splits and text keys of a story file.

    count_tokens: caption -> tokens, the special ones included. FileNotFoundError or ValueError if
    the file cannot be opened at all; whatever else is wrong is among the findings.
    """
    path = Path(path)
    with open_story_file(path) as file, naming_damage(path):
        groups = [group for s in SPLITS if isinstance(group := member(file, s), h5py.Group)]
        texts = (k for group in groups[:1] for k in group if _is_text(member(group, k)))
        keys = [key for key in texts if key != "story_id"] or ["text"]
        found = Findings(keys, str(file.attrs.get("description", "")))
    for split in SPLITS:
        problems: list[str] = []
        decoded: set[int] = set()
        for key in keys:
            try:
                stories = StoryFile(path, split, key)
                found.captions[split, key] = _read_captions(stories, count_tokens, problems)
            except ValueError as error:
                problems.append(str(error))
                continue
            found.frames = found.frames or stories.pictures_per_story
            if stories.pictures_per_story != found.frames:
                problems.append(
                    f"{path}: {split!r} has {stories.pictures_per_story} pictures a story, other "
                    f"splits {found.frames}; build it again"
                )
            if not quick:
                unreadable = _read_pictures(stories, decoded, found.sizes)
                decoded.update(stories.rows)
                found.unreadable |= unreadable
                problems += unreadable.values()
        here = [found.captions[split, key] for key in keys if not problems]
        if any(one.stories or one.left_out for one in here):
            try:  # what neither pass sees, such as columns of different lengths
                validate_story_file(path, (split,), keys)
            except ValueError as error:
                problems.append(str(error))
        found.problems += problems
    if not found.problems and not any(c.stories for c in found.captions.values()):
        found.problems.append(f"{path} holds no story; build it with some")
    return found


def _is_text(column: object) -> bool:
    return isinstance(column, h5py.Dataset) and h5py.check_string_dtype(column.dtype) is not None


def _read_captions(
    stories: StoryFile, count_tokens: Callable[[str], int], problems: list[str]
) -> Captions:
    left_out = [f"story {i} of {stories.split!r}: {why}" for i, why in stories.left_out.items()]
    captions = Captions(len(stories), sorted(left_out))
    for i in tqdm(range(len(stories)), f"{stories.split} {stories.text_key}", unit="story"):
        try:
            told = stories.captions(i)
        except ValueError as error:
            problems.append(problem(stories, i, error))
            continue
        captions.lengths += [count_tokens(text) for text in told]
        captions.empty += sum(not text.strip() for text in told)
    return captions


def _read_pictures(
    stories: StoryFile, decoded: set[int], sizes: Counter[tuple[int, int]]
) -> dict[tuple[str, int], str]:
    """Decode the pictures of all stories but `decoded`, and count their sizes (height, width); what
    is wrong with stories, by split and number in the file."""
    unreadable: dict[tuple[str, int], str] = {}
    indices = [i for i, row in enumerate(stories.rows) if row not in decoded]
    done = decode_stories(stories, indices)
    bar = tqdm(done, f"{stories.split} pictures", len(indices), unit="story", disable=not indices)
    for i, (found, wrong) in zip(indices, bar, strict=True):
        sizes.update(found)
        if wrong:
            unreadable[stories.split, stories.rows[i]] = wrong
    return unreadable


def token_counter(folder: str | None = None) -> tuple[Callable[[str], int], str]:
    """A function that counts a caption's tokens, and its name: a tokenizer's, or CLIP's own.

    ValueError if the folder has no tokenizer.
    """
    if folder:
        from transformers import AutoTokenizer

        try:
            refuse_code(folder)
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            reason = in_one_line(error)
            raise ValueError(
                f"--tokenizer {folder} cannot be read: give a folder with a tokenizer ({reason})"
            ) from None
        return lambda text: len(tokenizer(text)["input_ids"]), f"tokens of {folder}"
    from open_clip.tokenizer import SimpleTokenizer

    encode = SimpleTokenizer().encode
    return lambda text: len(encode(text)) + 2, "CLIP tokens"  # 2: the start and the end


def summary(found: Findings, unit: str, max_length: int | None) -> str:
    """The findings as a table for people."""
    lines = [found.description] if found.description else []
    lines += [f"{found.frames} pictures a story, captions under {', '.join(found.keys)}"]
    over = f"{f'over {max_length}':>10}" if max_length else ""
    head = f"{'stories':>9}{'left out':>10}{'captions':>10}{'empty':>7}{'mean':>7}{'longest':>9}"
    lines += ["", f"{'split':7}{'key':6}{head}{over}  ({unit})"]
    for (split, key), captions in found.captions.items():
        n = len(captions.lengths)
        mean, longest = sum(captions.lengths) / max(n, 1), max(captions.lengths, default=0)
        row = f"{captions.stories:9}{len(captions.left_out):10}"
        row += f"{n:10}{captions.empty:7}{mean:7.1f}{longest:9}"
        over = f"{captions.longer_than(max_length):10}" if max_length else ""
        lines.append(f"{split:7}{key:6}{row}{over}")
    if found.sizes:
        lines += ["", _sizes(found.sizes)]
    left_out = dict.fromkeys(line for one in found.captions.values() for line in one.left_out)
    lines += _listed(list(left_out), "left out")
    lines += _listed(found.problems, f"problem{'s' * (len(found.problems) > 1)}")
    return "\n".join(lines)


def _listed(what: list[str], title: str) -> list[str]:
    more = [f"… and {len(what) - LISTED} more"] if len(what) > LISTED else []
    return ["", f"{len(what)} {title}:", *what[:LISTED], *more] if what else []


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    (height, width), most = sizes.most_common(1)[0]
    text = f"{sizes.total()} pictures decode, {len(sizes)} sizes, most often {width}x{height}"
    frames = [frames_in_strip(*size) for size in sizes]
    if min(frames) < 1 or max(frames) < 2:
        return f"{text} ({most})"
    return f"{text} ({most}): columns of {min(frames)} to {max(frames)} square frames"


def main() -> None:
    example = "python -m datasets.check data/pororo.h5 --max_length 85 --sheet x.png"
    parser = script_parser(__doc__, example)
    parser.prog = "python -m datasets.check"
    parser.add_argument("file", help="story file (HDF5)")
    parser.add_argument("--max_length", type=int, help="count captions of more tokens than this")
    parser.add_argument("--tokenizer", help="folder of a tokenizer to count with (CLIP's own)")
    parser.add_argument("--quick", action="store_true", help="structure and captions only")
    parser.add_argument(
        "--leave_out", action="store_true", help="note in the file which stories cannot be read"
    )
    parser.add_argument("--sheet", help="draw a few stories into this PNG")
    parser.add_argument("--stories", type=int, default=6, help="how many of them (6)")
    args = parser.parse_args()
    if args.sheet and not args.sheet.lower().endswith(".png"):
        parser.error(f"--sheet {args.sheet} is no PNG: give a name that ends in .png")
    if args.sheet and os.path.exists(args.sheet):
        parser.error(f"--sheet {args.sheet} is there already: give another name or remove it")
    if args.leave_out and args.quick:
        parser.error("--quick decodes no pictures, so there is nothing to --leave_out: give one")
    if args.stories < 1 or (args.max_length or 1) < 1:
        parser.error("--stories and --max_length must be 1 or more")
    with error_in_one_line():
        if args.sheet:
            check_writable(args.sheet)
        count_tokens, unit = token_counter(args.tokenizer)
        found = check_story_file(args.file, count_tokens, args.quick)
        print(summary(found, unit, args.max_length))
        if args.leave_out and found.unreadable:
            rows = {split: [] for split, _ in found.unreadable}
            for split, row in found.unreadable:
                rows[split].append(row)
            leave_out(args.file, rows)
            print(f"left out from now on: {len(found.unreadable)} of the stories above")
            found.problems = [p for p in found.problems if p not in found.unreadable.values()]
        if args.sheet and not found.problems:
            draw_contact_sheet(args.file, args.sheet, found.keys, args.stories)
            print(f"stories drawn: {args.sheet}")
    sys.exit(1 if found.problems else 0)


if __name__ == "__main__":
    main()
