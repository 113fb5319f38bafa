"""Writes drawn stories: a folder of PNG frames each, and one line in a shared manifest.

A story's folder appears whole or not at all, its manifest line before it; so a killed run resumes
where it stopped, and several processes can fill one folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from common.documents import parse_json
from common.files import is_address, replacing
from common.picture_files import is_whole
from evaluation.samples.plain_folders import PLOT, STORYBOARD
from evaluation.samples.reader import MANIFEST, VOCABULARY

try:
    import fcntl
except ImportError:  # on Windows, where only one process may draw into a folder
    fcntl = None

__all__ = ["CANDIDATES", "RESERVED", "SamplesFolder", "remove_stories"]

CANDIDATES = "candidates"  # the folder in a story's where `redraw` offers some

# What the programs write beside the stories.
RESERVED = {MANIFEST, VOCABULARY, STORYBOARD, PLOT, "storyboard.html", "metrics.json"}

# What lines say only where it is something else: all is drawn alike in this, too.
USUAL = {"precision": 32, "crop": "as usual"}
# Why a story that is there is drawn again: it was …
OTHER = {
    "captions": "other captions",
    "first_frame": "another first picture",
    "pictures": "other pictures of the data set",
}
LOST = "left with a picture missing or cut short"


class SamplesFolder:
    """One set of samples; `settings` (seed, checkpoint, given, sampler) go into every line.

    `asked` are the stories that are wanted, by id, with what their lines must say (captions, …).
    One that says something else is drawn again, and so is one whose pictures are gone or cut short.
    What older lines do not say counts as the same. Only what a line of the manifest names is ever
    removed. `again` says of those of `asked` that are there and are not kept why not.

    Raises:
        ValueError: the folder holds stories drawn with other settings, something of the user's
            where a story or the storyboard must go, or frames drawn again that would be lost.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        settings: dict,
        label_vocabulary: dict | None = None,
        asked: Mapping[str, dict] | None = None,
    ) -> None:
        if is_address(path):
            raise ValueError(f"{path} is an address on the net: give a folder of this machine")
        self.path = Path(path)
        self.settings = settings
        self.asked = asked or {}
        self.path.mkdir(parents=True, exist_ok=True)
        self.manifest = self.path / MANIFEST
        with self._locked():  # or another process's new manifest would be taken for a user's
            self.done = self._resume()
            for story_id in self.asked:
                if story_id not in self.done:
                    self._refuse_redrawn(story_id)
                    _refuse_taken(self.path, story_id, self.outdated.get(story_id))
            self.manifest.touch()  # from now on what is beside it is ours
        for left in sorted(self.path.glob(".*.[0-9]*")):
            warnings.warn(
                f"{left} is left of an interrupted run: delete it if no other run draws into "
                f"{self.path}",
                stacklevel=2,
            )
        if label_vocabulary is not None:
            with replacing(self.path / VOCABULARY) as temporary:
                temporary.write_text(json.dumps(label_vocabulary))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time, where the file system knows locks; a kill ends its lock."""
        if fcntl is None:
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _resume(self) -> set[str]:
        """Ids of the stories that need not be drawn; lines without pictures are dropped."""
        self.outdated: dict[str, bytes] = {}
        self.again: dict[str, str] = {}
        if not self.manifest.exists():
            others = RESERVED - {MANIFEST}  # another process may have made that meanwhile
            taken = next((name for name in others if (self.path / name).exists()), None)
            if taken:
                raise ValueError(
                    f"{self.path} has a {taken} but no {MANIFEST} that shows it as ours: choose "
                    "another folder, or move that file away"
                )
            return set()
        text = self.manifest.read_bytes()
        self._remove_half_written(text[text.rfind(b"\n") + 1 :])
        done, kept = set(), []
        for line, entry in _entries(self.manifest, text):
            story_id = entry["story_id"]
            paths = [self.path / name for name in _pictures(entry)]
            for key, value in {**USUAL, **self.settings}.items():
                if (was := entry.get(key, USUAL.get(key))) != value:
                    raise ValueError(
                        f"{self.path} holds stories drawn with {key} {was!r}, now it is "
                        f"{value!r}; choose another folder or delete this one"
                    )
            asked = self.asked.get(story_id, {})
            other = next((k for k, v in asked.items() if entry.get(k, v) != v), None)
            gone = not any(path.is_file() for path in paths)
            if gone or story_id in done or story_id in self.outdated:
                continue  # its pictures are gone, or a line before says the same
            kept.append(line)
            if other is None and all(map(is_whole, paths)):
                done.add(story_id)
                continue
            self.outdated[story_id] = line  # stays till it is replaced: it says what is ours
            if story_id in self.asked:
                self.again[story_id] = f"drawn from {OTHER.get(other, other)}" if other else LOST
        if b"".join(kept) != text:
            self._rewrite(kept)
        return done

    def _refuse_redrawn(self, story_id: str) -> None:
        """ValueError if frames that somebody had drawn again or chosen would be drawn over."""
        line = self.outdated.get(story_id)
        if line and json.loads(line).get("redrawn"):
            folder = self.path / story_id
            raise ValueError(
                f"{folder} has frames that were drawn again or chosen, but the story was "
                f"{self.again[story_id]} and would be drawn anew: delete that folder or move it "
                "away, or choose another folder"
            )

    def _remove_half_written(self, line: bytes) -> None:
        """Remove the pictures of a story whose line a kill or a full disk has cut short."""
        found = re.match(rb'\{"story_id": ("(?:[^"\\]|\\.)*")', line)
        name = json.loads(found[1]) if found else ""
        folder = self.path / name
        if Path(name).parts != (name,) or name == ".." or not folder.is_dir():
            return
        for picture in folder.glob("*.png"):
            if re.fullmatch(r"(reference_)?\d{4,}\.png", picture.name):
                picture.unlink()
        with suppress(OSError):  # something of the user's is in it
            folder.rmdir()

    def _rewrite(self, lines: Iterable[bytes]) -> None:
        with replacing(self.manifest) as temporary:
            temporary.write_bytes(b"".join(lines))

    def add(
        self,
        story_id: str,
        captions: Sequence[str],
        frames: np.ndarray,
        reference_frames: Iterable[np.ndarray] = (),
        labels: list[dict] | None = None,
        history_weights: list[list[float]] | None = None,
        captions_read: list[int | None] | None = None,
    ) -> None:
        """Write one story: frames (K, H, W, 3) uint8, given ones included.

        history_weights: (K, K), how much frame n looked at each earlier one. captions_read: K, how
        many characters the model reads of a caption, None for all. A story that another process has
        added meanwhile stays as it is.
        """
        if story_id in self.done:
            return
        temporary = self.path / f".{story_id}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        sets = {"": frames, "reference_": reference_frames}
        names = {}
        for prefix, pictures in sets.items():
            names[prefix] = []
            for k, picture in enumerate(pictures):
                name = f"{prefix}{k:04d}.png"
                Image.fromarray(picture).save(temporary / name)
                names[prefix].append(f"{story_id}/{name}")
        entry = {
            "story_id": story_id,
            "captions": list(captions),
            "frames": names[""],
            "reference_frames": names["reference_"],
            **self.settings,
            "labels": labels,
            **self.asked.get(story_id, {}),
        }
        if history_weights is not None:
            entry["history_weights"] = history_weights
        if captions_read and any(read is not None for read in captions_read):
            entry["captions_read"] = captions_read
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        with self._locked():
            self._put(story_id, temporary, line.encode())
        self.done.add(story_id)

    def _put(self, story_id: str, drawn: Path, line: bytes) -> None:
        """Let a story appear, first in the manifest: a kill leaves nothing that no line names."""
        lines = self.manifest.read_bytes().splitlines(True) if self.manifest.exists() else []
        start = json.dumps({"story_id": story_id}, ensure_ascii=False)[:-1].encode()
        there = next((one for one in lines if one.startswith(start)), None)
        if there is not None and there != self.outdated.get(story_id):
            shutil.rmtree(drawn)  # another process was faster
            return
        if there is None:
            self.outdated.pop(story_id, None)
        _refuse_taken(self.path, story_id, self.outdated.get(story_id))
        folder, old = self.path / story_id, self.path / f".{story_id}.old.{os.getpid()}"
        if folder.exists():  # Windows lets no folder take the place of another
            os.replace(folder, old)
        try:
            self._say(lines, line, there)
        except BaseException:
            if old.exists() and line not in self.manifest.read_bytes():  # the line has its pictures
                os.replace(old, folder)
            raise
        os.replace(drawn, folder)
        shutil.rmtree(old, ignore_errors=True)

    def _say(self, lines: list[bytes], line: bytes, there: bytes | None) -> None:
        """Put a story's line into the manifest, in place of the one that is there."""
        if there is None:
            handle = os.open(self.manifest, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        else:
            self._rewrite(line if one == there else one for one in lines)


def remove_stories(path: str | os.PathLike) -> None:
    """Take out the stories that a samples folder's manifest lists, for others in their place.

    Raises:
        ValueError: the manifest cannot be read, or something of the user's is in a story's folder;
            nothing is removed.
    """
    path = Path(path)
    manifest = path / MANIFEST
    if not manifest.exists():
        return
    text = manifest.read_bytes()
    stories = [story for story in _entries(manifest, text) if _pictures(story[1])]
    for line, entry in stories:
        _refuse_taken(path, entry["story_id"], line)
    for _, entry in stories:
        for name in _pictures(entry):
            (path / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            (path / entry["story_id"]).rmdir()
    with replacing(manifest) as temporary:  # what a kill has cut short stays to be removed
        temporary.write_bytes(text[text.rfind(b"\n") + 1 :])


def _refuse_taken(path: Path, story_id: str, line: bytes | None) -> None:
    """ValueError if a story's folder in `path` would be, or has in it, something that its line of
    the manifest does not name as ours."""
    if story_id.lower() in RESERVED:
        raise ValueError(
            f"story {story_id!r} would take the place of {path / story_id}, which lists or shows "
            "the stories: give it another story_id"
        )
    folder = path / story_id
    pictures = _pictures(json.loads(line)) if line else ()
    ours = {folder, *(path / name for name in pictures)}
    inside = folder.rglob("*") if folder.is_dir() else ()
    strange = next((one for one in (folder, *inside) if one.exists() and one not in ours), None)
    if line and strange == folder / CANDIDATES:
        raise ValueError(
            f"{strange} holds candidates for frames of story {story_id!r}, which now is to be "
            "drawn otherwise: delete them or move them away, or choose another folder"
        )
    if strange or (folder.exists() and not folder.is_dir()):
        raise ValueError(
            f"{strange or folder} is there, but {MANIFEST} does not list it as ours: move it "
            "away, or choose another folder"
        )


def _entries(manifest: Path, text: bytes) -> Iterator[tuple[bytes, dict]]:
    """The whole lines of a manifest's text, and what each says of its story."""
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(True), 1):
        try:
            entry = parse_json(line)
            story_id = entry["story_id"]
            outside = any(Path(name).parts[:-1] != (story_id,) for name in _pictures(entry))
            if outside or story_id == "..":
                raise ValueError("its pictures are not in its folder")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{manifest}, line {number} is not a story ({error}); delete this line to have "
                f"the story drawn again"
            ) from error
        yield line, entry


def _pictures(entry: Mapping) -> list[str]:
    """What a line of the manifest names, as paths within the folder."""
    return entry["frames"] + entry["reference_frames"]
