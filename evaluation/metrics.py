"""The metrics by name: what each needs, how it is measured, and in which direction it is better.

A frame metric gives a numerator and a denominator for every frame, so that one table yields the
value, its interval over stories, its course along the story and the number under a picture. A set
metric gives one distance between all drawn and all real frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from evaluation.cartoon_metrics import METRICS as CARTOON
from evaluation.cartoon_metrics import count_frames
from evaluation.features import CHUNK, Encoder, FeatureCache, chunks, extract
from evaluation.frechet import FrechetAgainst
from evaluation.judge import Judge
from evaluation.kid import KernelAgainst
from evaluation.material import Material
from evaluation.samples import places_of


@dataclass
class Tools:
    """Networks by name (`inception64`, `clip image`, …), where features are kept, and the judge."""

    cache: FeatureCache
    encoders: dict[str, Encoder] = field(default_factory=dict)
    judge: Judge | None = None
    vocabulary: dict | None = None  # the classifier's characters and places
    batch_size: int = 32
    processes: int = 1
    _readings: dict[tuple, list] = field(default_factory=dict)

    def features(self, items: np.ndarray, encoder: str) -> np.ndarray:
        """(n,) items -> (n, width)."""
        found = self.encoders[encoder]
        return extract(items.tolist(), found, self.cache, self.batch_size, self.processes)

    def readings(self, material: Material) -> list[list[dict]]:
        """The judge's reading of every frame of the material."""
        key = (material.folder, material.variant)
        if key not in self._readings:
            answers = self.features(material.pictures.ravel(), "judge answers")
            read = self.judge.decode(torch.from_numpy(np.array(answers)))
            self._readings[key] = list(chunks(read, material.pictures.shape[1]))
        return self._readings[key]


@dataclass(frozen=True)
class FrameMetric:
    """`count(material, tools)` -> (S, K, 2), with zero denominators where no frame counts."""

    needs: tuple[str, ...]
    count: Callable[[Material, Tools], np.ndarray]
    higher_is_better: bool = True
    recentre = False


@dataclass(frozen=True)
class SetMetric:
    """`against(real features)(drawn features, sizes, weights)` -> distances."""

    needs: tuple[str, ...]
    encoder: str
    against: type

    @property
    def recentre(self) -> bool:
        """Whether resampling shifts it, and costs too much to be done often."""
        return self.against is FrechetAgainst


def _at(where: np.ndarray, values: np.ndarray) -> np.ndarray:
    counts = np.zeros((*where.shape, 2))
    counts[where, 0], counts[where, 1] = values, 1
    return counts


def _cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    parts = range(0, len(one), CHUNK)
    return np.concatenate([(one[i : i + CHUNK] * two[i : i + CHUNK]).sum(1) for i in parts])


def _pairs(material: Material) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a drawn frame has one before it, the pictures there, and those before."""
    where = material.drawn.copy()
    where[:, 0] = False
    return where, material.pictures[where], material.pictures[np.roll(where, -1, 1)]


def _clip_t(material: Material, tools: Tools) -> np.ndarray:
    where = material.drawn
    pictures = tools.features(material.pictures[where], "clip image")
    return _at(where, _cosines(pictures, tools.features(material.captions[where], "clip text")))


def _clip_i(material: Material, tools: Tools) -> np.ndarray:
    where, real = material.drawn, material.references
    if material.variant == "real":  # against itself it would always be 1: take its neighbour
        real = np.roll(real, -1, 1)
    pictures = tools.features(material.pictures[where], "clip image")
    return _at(where, _cosines(pictures, tools.features(real[where], "clip image")))


def _clip_i_adjacent(material: Material, tools: Tools) -> np.ndarray:
    where, pictures, before = _pairs(material)
    later = tools.features(pictures, "clip image")
    return _at(where, _cosines(later, tools.features(before, "clip image")))


def _lpips_adjacent(material: Material, tools: Tools) -> np.ndarray:
    where, pictures, before = _pairs(material)
    pairs = np.empty(len(pictures), object)
    pairs[:] = list(zip(before, pictures, strict=True))
    return _at(where, tools.features(pairs, "lpips")[:, 0])


def _classified(material: Material, tools: Tools) -> tuple[np.ndarray, ...]:
    """Of the n drawn frames: characters there and read, (n, C) bool; backgrounds there, (n, P)
    bool, and the one read, (n,); whose cast is known, (n,) bool."""
    characters, places = (tools.vocabulary[key] for key in ("characters", "places"))
    labels = [
        label
        for story, drawn in zip(material.stories, material.drawn, strict=True)
        for label, counts in zip(story.labels, drawn, strict=True)
        if counts
    ]
    true = np.array([[name in label.get("cast", ()) for name in characters] for label in labels])
    place = np.array([[name in places_of(label) for name in places] for label in labels])
    logits = tools.features(material.pictures[material.drawn], "classifier")
    read = logits[:, : len(characters)] > 0  # sigmoid > 0.5
    rest = logits[:, len(characters) :]
    known = np.array(["cast" in label for label in labels])
    return true, read, place, rest.argmax(1) if places else None, known


def _character_f1(material: Material, tools: Tools) -> np.ndarray:
    true, read, _, _, known = _classified(material, tools)
    counts = np.zeros((*material.drawn.shape, 2))
    sizes = np.stack([2 * (true & read).sum(1), true.sum(1) + read.sum(1)], 1)
    counts[material.drawn] = sizes * known[:, None]
    return counts


def _frame_accuracy(material: Material, tools: Tools) -> np.ndarray:
    true, read, _, _, known = _classified(material, tools)
    return _at_known(material, known, (true == read).all(1))


def _background_accuracy(material: Material, tools: Tools) -> np.ndarray:
    """Of several backgrounds that are there any is right; a frame without one does not count."""
    _, _, true, read, _ = _classified(material, tools)
    return _at_known(material, true.any(1), true[np.arange(len(read)), read])


def _at_known(material: Material, known: np.ndarray, right: np.ndarray) -> np.ndarray:
    where = material.drawn.copy()
    where[material.drawn] = known
    return _at(where, right[known])


def _cartoon(name: str) -> FrameMetric:
    def count(material: Material, tools: Tools) -> np.ndarray:
        pairs = zip(material.stories, tools.readings(material), strict=True)
        return np.stack([count_frames(*pair)[:, CARTOON.index(name)] for pair in pairs])

    return FrameMetric(("judge", "labels"), count)


FRAME_METRICS = {
    "clip_t": FrameMetric(("captions",), _clip_t),
    "clip_i": FrameMetric(("references",), _clip_i),
    "clip_i_adjacent": FrameMetric(("neighbours",), _clip_i_adjacent),
    "lpips_adjacent": FrameMetric(("neighbours",), _lpips_adjacent, False),
    "character_f1": FrameMetric(("classifier", "labels"), _character_f1),
    "frame_accuracy": FrameMetric(("classifier", "labels"), _frame_accuracy),
    "background_accuracy": FrameMetric(("classifier", "labels"), _background_accuracy),
    **{f"cartoon/{name}": _cartoon(name) for name in CARTOON},
}
SET_METRICS = {
    "fid@64": SetMetric(("references",), "inception64", FrechetAgainst),
    "fid": SetMetric(("references",), "inception", FrechetAgainst),
    "kid": SetMetric(("references",), "inception", KernelAgainst),
    "judge_frechet": SetMetric(("references", "judge"), "judge", FrechetAgainst),
    "judge_kernel": SetMetric(("references", "judge"), "judge", KernelAgainst),
}
METRICS: dict[str, FrameMetric | SetMetric] = {**SET_METRICS, **FRAME_METRICS}
GROUPS = {
    "cartoon": [name for name in FRAME_METRICS if name.startswith("cartoon/")],
    "clip": ["clip_t", "clip_i", "clip_i_adjacent"],
    "classifier": ["character_f1", "frame_accuracy", "background_accuracy"],
}
