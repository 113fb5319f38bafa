"""Draws frames of finished samples again: `python main.py mode=sample redraw.frame=N`.

A story keeps what comes before the frame, to the byte, and unless `redraw.rest` what comes after.
With `redraw.candidates` the story stays as it is: pictures to choose among come beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from building import (
    build_pipeline,
    check_scheduler,
    check_weights_file,
    drawing_precision,
    own_stories,
    pipeline_arguments,
    sampler_settings,
)
from common.documents import parse_json
from common.files import file_hash, replacing
from configuration import ConfigError, checkpoint_to_draw_with
from evaluation.samples import CANDIDATES, MANIFEST, SampledStory, read_picture, read_samples
from models.frames import refuse_black

__all__ = ["redraw"]

GAP = 8  # pixels between candidates side by side
DRAWN = "drawn"  # of a candidate's PNG: the text that says how, for the manifest


def redraw(config: DictConfig, device: torch.device) -> list[str]:
    """Draw what `config.redraw` says in `sample_output_dir`; the ids of all its stories.

    Raises:
        ConfigError: there is no such story, frame or candidate, or the samples are of another
            model or of other captions.
    """
    wanted, folder = config.redraw, Path(config.sample_output_dir)
    try:
        samples = read_samples(folder)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"sample_output_dir: {error}") from error
    stories = [s for s in samples.stories if wanted.story in (None, s.story_id)]
    if not stories:
        known = ", ".join(story.story_id for story in samples.stories[:5])
        raise ConfigError(f"redraw.story: {folder} has no {wanted.story}; it has {known}")
    told = {one.story_id: one.captions for one in own_stories(config)} if config.story else {}
    for story in stories:
        _check(story, wanted, folder)
        if told.get(story.story_id, story.captions) != story.captions:
            raise ConfigError(
                f"story: {config.story} has other captions of {story.story_id} than {folder} was "
                f"drawn with; draw it anew, without redraw.frame, or leave story out"
            )
    checkpoint = checkpoint_to_draw_with(config)
    check_weights_file("test_model_file", checkpoint)
    if (said := stories[0].checkpoint) != (own := file_hash(checkpoint)):
        raise ConfigError(
            f"test_model_file: {folder} was drawn with a checkpoint of the hash {said[:12]}…, "
            f"{checkpoint} has {own[:12]}…; give the one it was drawn with"
        )
    check_scheduler(config)
    scorer = None
    if wanted.scorer and wanted.choose is None:
        from evaluation.networks.caption_scorer import CaptionScorer  # CLIP takes long to import

        try:
            scorer = CaptionScorer(wanted.scorer, device)
        except ValueError as error:
            raise ConfigError(f"redraw.scorer: {error}") from error
    now, first = (config.seed, sampler_settings(config), config.precision), stories[0]
    as_then = now == (first.seed, first.sampler, first.precision)
    if as_then and wanted.candidates == 1 and wanted.choose is None:
        print(f"seed={config.seed} is what {folder} was drawn with: frames come as they did then")
    drawer = _Drawer(config, checkpoint, device)
    with drawing_precision(config.precision, device):
        for story in stories:
            if wanted.candidates == 1 or wanted.choose is not None:
                drawer.replace(story, folder, wanted.choose)
                continue
            path, pictures = drawer.offer(story, folder)
            if scorer is None:
                how = f"choose one with redraw.frame={wanted.frame} redraw.choose=1 (or 2 …)"
            else:
                scores = scorer(story.captions[wanted.frame], pictures)
                best = 1 + int(np.argmax(scores))
                drawer.replace(story, folder, best)
                how = f"{best} takes its place, of scores {', '.join(f'{s:.2f}' for s in scores)}"
            print(f"{path}: {how}")
    return [story.story_id for story in samples.stories]


def _check(story: SampledStory, wanted: DictConfig, folder: Path) -> None:
    name, count = story.story_id, len(story.frames)
    if wanted.frame >= count:
        raise ConfigError(
            f"redraw.frame={wanted.frame}: {name} has frames 0 to {count - 1}; give one of these, "
            f"or a longer story's id as redraw.story"
        )
    if wanted.frame < story.given:
        raise ConfigError(f"redraw.frame={wanted.frame}: that frame of {name} was given, not drawn")
    path = _candidate(folder, name, wanted.frame, wanted.choose or 0)
    if wanted.choose and not path.is_file():
        raise ConfigError(
            f"redraw.choose={wanted.choose}: there is no {path}; draw some first with "
            f"redraw.candidates=4"
        )


def _candidate(folder: Path, story_id: str, frame: int, number: int) -> Path:
    return folder / story_id / CANDIDATES / f"{frame:04}-{number}.png"


class _Drawer:
    """The pipeline, and how the configuration wants it to draw."""

    def __init__(self, config: DictConfig, checkpoint: Path, device: torch.device) -> None:
        self.pipeline = build_pipeline(config, checkpoint, device)
        self.pipeline.set_progress_bar_config(desc="frames")
        self.wanted, self.seed = config.redraw, config.seed
        self.sampler, self.precision = sampler_settings(config), config.precision

    def draw(self, story: SampledStory, keep: dict[int, np.ndarray], what: str) -> tuple:
        """Frames (K, H, W, 3) uint8 and history weights (K, K) or None; `what` names the noise;
        none: what the story was drawn with."""
        used = () if what else [k for k in keep if k >= story.given]
        how = {**pipeline_arguments(self.sampler), "noise_used_by": used}
        name = story.story_id + what
        drawn = self.pipeline.redraw(story.captions, keep, self.seed, name, **how)
        ((frames, weights),) = drawn.stories()
        refuse_black(story.story_id, [frames[k] for k in range(len(frames)) if k not in keep])
        return frames, weights

    def offer(self, story: SampledStory, folder: Path) -> tuple[Path, list[np.ndarray]]:
        """Write candidates for the frame, in place of all there were, and one picture that shows
        them side by side; its path, and they."""
        frame, there = self.wanted.frame, _read(story)
        keep = {k: there[k] for k in range(len(there)) if k != frame}
        pictures = []
        for number in range(1, self.wanted.candidates + 1):
            drawn, _ = self.draw(story, keep, f"/{frame}/{number}")
            pictures.append(drawn[frame])
            path, about = _candidate(folder, story.story_id, frame, number), PngInfo()
            about.add_text(DRAWN, json.dumps(self.note(number)))
            with replacing(path) as temporary:
                Image.fromarray(pictures[-1]).save(temporary, "PNG", pnginfo=about)
        while (old := _candidate(folder, story.story_id, frame, number := number + 1)).is_file():
            old.unlink()
        path = path.with_name(f"{frame:04}.png")
        with replacing(path) as temporary:
            _side_by_side([there[frame], *pictures]).save(temporary, "PNG")
        return path, pictures

    def replace(self, story: SampledStory, folder: Path, choose: int | None) -> None:
        """Draw the frame, or take the chosen one, and what comes after it unless it is kept."""
        frame, there = self.wanted.frame, _read(story)
        keep = {k: there[k] for k in range(len(there)) if k < frame or not self.wanted.rest}
        keep.pop(frame, None)
        if choose:
            path = _candidate(folder, story.story_id, frame, choose)
            keep[frame] = read_picture(path)
        drawn, weights = there, None
        if len(keep) < len(there):
            as_it_was = self.seed == story.seed and not choose
            drawn, weights = self.draw(story, keep, "" if as_it_was else f"/{frame}/0")
        else:
            drawn[frame] = keep[frame]
        changed = [k for k in range(len(there)) if k == frame or k not in keep]
        for k in changed:
            with replacing(story.frames[k]) as temporary:
                Image.fromarray(drawn[k]).save(temporary, "PNG")
        notes = dict.fromkeys(changed, self.note(choose or 0))
        if choose:
            with Image.open(path) as picture:
                if DRAWN in picture.info:  # an editor that saved it anew may drop it
                    notes[frame] = parse_json(picture.info[DRAWN])
        looked = {k: weights[k] for k in changed if k not in keep} if weights else {}
        if choose:  # not kept with the candidate: rather nothing than the frame's before
            looked[frame] = [0.0] * len(there)
        notes = {str(k): note for k, note in notes.items()}
        _note(folder / MANIFEST, story.story_id, notes, looked)

    def note(self, candidate: int) -> dict:
        """How a frame is drawn now; candidate: its number, 0 for none."""
        unusual = {} if self.precision == 32 else {"precision": self.precision}
        return {"seed": self.seed, "candidate": candidate, "sampler": self.sampler, **unusual}


def _read(story: SampledStory) -> list[np.ndarray]:
    return [read_picture(path) for path in story.frames]


def _side_by_side(pictures: Sequence[np.ndarray]) -> Image.Image:
    """The frame as it is and its candidates, numbered from 1."""
    height, width = pictures[0].shape[:2]
    page = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height + 20), "#ffffff")
    draw = ImageDraw.Draw(page)
    for n, picture in enumerate(pictures):
        page.paste(Image.fromarray(picture), (n * (width + GAP), 20))
        draw.text((n * (width + GAP) + 2, 4), str(n) if n else "now", "#1d1f23")
    return page


def _note(manifest: Path, story_id: str, redrawn: dict, weights: dict) -> None:
    """Put down in the story's line how its frames were drawn, and which earlier ones they looked
    at; other lines stay, to the byte."""
    lines = manifest.read_bytes().splitlines(keepends=True)
    for i, line in enumerate(lines):
        entry = json.loads(line) if line.strip() else {}
        if entry.get("story_id") == story_id:
            entry["redrawn"] = {**entry.get("redrawn", {}), **redrawn}
            if "history_weights" in entry:  # not where it was drawn without history
                for k, row in weights.items():
                    entry["history_weights"][k] = row
            lines[i] = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
    with replacing(manifest) as temporary:
        temporary.write_bytes(b"".join(lines))
