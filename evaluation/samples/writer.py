"""Writes drawn stories: a folder of PNG frames each, and one line in a shared manifest.

A story's folder appears whole or not at all, its manifest line after it; so a killed run resumes
where it stopped, and several processes can fill one folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.files import replacing
from evaluation.samples.reader import MANIFEST, VOCABULARY

__all__ = ["SamplesFolder"]


class SamplesFolder:
    """One set of samples; `settings` (seed, checkpoint, given, sampler) go into every line.

    `asked` are the stories that are wanted, by id, with what their lines must say (captions, …).
    One that says something else is drawn again, and so is one whose pictures are gone.

    Raises:
        ValueError: the folder holds stories drawn with other settings.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        settings: dict,
        label_vocabulary: dict | None = None,
        asked: Mapping[str, dict] | None = None,
    ) -> None:
        self.path = Path(path)
        self.settings = settings
        self.asked = asked or {}
        self.path.mkdir(parents=True, exist_ok=True)
        self.manifest = self.path / MANIFEST
        self.done = self._resume()
        if label_vocabulary is not None:
            with replacing(self.path / VOCABULARY) as temporary:
                temporary.write_text(json.dumps(label_vocabulary))

    def _resume(self) -> set[str]:
        """Ids of the stories already there; lines cut short by a kill or outdated are dropped."""
        if not self.manifest.exists():
            return set()
        text = self.manifest.read_bytes()
        done, kept = set(), []
        for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(True), 1):
            try:
                entry = json.loads(line)
                story_id, frames = entry["story_id"], entry["frames"] + entry["reference_frames"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.manifest}, line {number} is not a story ({error}); delete this line "
                    f"to have the story drawn again"
                ) from error
            for key, value in self.settings.items():
                if entry.get(key) != value:
                    raise ValueError(
                        f"{self.path} holds stories drawn with {key} {entry.get(key)!r}, now it "
                        f"is {value!r}; choose another folder or delete this one"
                    )
            asked = self.asked.get(story_id, {})
            same = all(entry.get(key) == value for key, value in asked.items())
            once = story_id not in done  # two samplers at once may have added it twice
            if once and same and all((self.path / name).is_file() for name in frames):
                done.add(story_id)
                kept.append(line)
        if b"".join(kept) != text:
            with replacing(self.manifest) as temporary:
                temporary.write_bytes(b"".join(kept))
        return done

    def add(
        self,
        story_id: str,
        captions: Sequence[str],
        frames: np.ndarray,
        reference_frames: Iterable[np.ndarray] = (),
        labels: list[dict] | None = None,
        history_weights: list[list[float]] | None = None,
    ) -> None:
        """Write one story: frames (K, H, W, 3) uint8, given ones included.

        history_weights: (K, K), how much frame n looked at each earlier one.
        """
        if story_id in self.done:
            return
        target, temporary = self.path / story_id, self.path / f".{story_id}.{os.getpid()}"
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
        shutil.rmtree(target, ignore_errors=True)  # left by a kill before its line was written
        os.replace(temporary, target)
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
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        handle = os.open(self.manifest, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())  # one call, so that processes' lines do not mix
        finally:
            os.close(handle)
        self.done.add(story_id)
