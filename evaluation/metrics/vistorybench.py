"""ViStoryBench's metrics that need local weights only (arXiv 2505.24862), each a mean of stories.

A character's crops: of the boxes that GroundingDINO is sure of by BOX, a shot of E expected
characters keeps the E surest; characters and boxes are matched (Hungarian) by the mean cosine of a
box with the character's reference crops. A reference crop is the surest box of a reference picture,
or the whole picture where there is none. The benchmark's released code resolves conflicts one by
one, which differs only where two characters want one box; its copy-paste rate became another one
later. Realistic humans take part in matching, as they hold a box, but not in identity: the
benchmark's `cids_realistic_human` takes face networks (ArcFace, AdaFace, FaceNet), which are not
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax

from evaluation.metrics.clip_scores import cosines
from evaluation.metrics.material import Material
from evaluation.networks.clip import crop_name
from evaluation.networks.features import Features, Network
from evaluation.samples import SampledStory

__all__ = [
    "aesthetic", "cids_cross", "cids_self", "copy_paste", "csd_cross", "csd_self", "matched",
    "onstage_count",
]  # fmt: skip

BOX = 0.25  # sureness of a box
TEMPERATURE = 0.01
WHOLE = (0.0, 0.0, 1.0, 1.0)


def csd_self(material: Material, csd: Network, features: Features) -> np.ndarray:
    """Mean over all pairs of a story's shots; 0 of a single shot."""
    values = []
    for story in material.stories:
        style = np.asarray(features(story.frames, csd.encoders["picture"]))
        pairs = [float(style[n] @ style[m]) for n, m in combinations(range(len(style)), 2)]
        values.append(np.mean(pairs) if pairs else 0.0)
    return _of_stories(values)


def csd_cross(material: Material, csd: Network, features: Features) -> np.ndarray:
    """Of every shot and the first picture of its first character; where a shot shows nobody with
    pictures, of the story's first character that has some."""
    values = []
    for story in material.stories:
        pictures = {one.key: one.pictures[0] for one in story.characters if one.pictures}
        if not pictures:
            values.append(np.nan)
            continue
        first = next(iter(pictures.values()))
        wanted = [pictures.get(next(iter(label["cast"]), None), first) for label in story.labels]
        encoder = csd.encoders["picture"]
        values.append(cosines(features(story.frames, encoder), features(wanted, encoder)).mean())
    return _of_stories(values)


def aesthetic(material: Material, predictor: Network, features: Features) -> np.ndarray:
    """Scores of frames, each counted as its share of its story: their mean is that of stories."""
    where = material.drawn
    scores = features(material.pictures[where], predictor.encoders["score"])[:, 0]
    share = (where / np.maximum(where.sum(1, keepdims=True), 1))[where]
    return material.per_frame(where, scores * share, share)


def cids_cross(material: Material, network: Network, features: Features) -> np.ndarray:
    """Mean over a character's crops and reference crops, then over characters; never found is 0."""
    found = _found(material, network, features)
    return _of_stories([
        _mean([np.mean(crops @ one.references[key].T) if len(crops) else 0.0
               for key, crops in one.crops.items()])
        for one in found
    ])  # fmt: skip


def cids_self(material: Material, network: Network, features: Features) -> np.ndarray:
    """Mean over pairs of a character's crops, then over characters; one crop is 1, none 0."""
    found = _found(material, network, features)
    return _of_stories([_mean([_alike(crops) for crops in one.crops.values()]) for one in found])


def onstage_count(material: Material, network: Network, features: Features) -> np.ndarray:
    found = _found(material, network, features)
    return _of_stories([
        _mean([100 * np.exp(-abs(seen - due) / (1e-6 + due)) for seen, due in one.counts])
        for one in found
    ])  # fmt: skip


def copy_paste(material: Material, network: Network, features: Features) -> np.ndarray:
    """How much nearer crops are to a reference crop than to its mirror image, over a character's
    crops and references, then characters that were found."""
    found = _found(material, network, features)
    values = []
    for one in found:
        degrees = []
        for key, crops in one.crops.items():
            near = np.stack([crops @ one.references[key].T, crops @ one.mirrored[key].T])
            if len(crops):
                degrees.append(softmax(near / TEMPERATURE, axis=0)[0].mean())
        values.append(_mean(degrees))
    return _of_stories(values)


@dataclass
class _Story:
    """By character that has pictures and is no realistic human: its reference crops (R, width), the
    same mirrored, its own (n, width); by shot, characters found and expected."""

    references: dict[str, np.ndarray] = field(default_factory=dict)
    mirrored: dict[str, np.ndarray] = field(default_factory=dict)
    crops: dict[str, np.ndarray] = field(default_factory=dict)
    counts: list[tuple[int, int]] = field(default_factory=list)


def matched(near: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (character, box) of the greatest total of `near` (characters, boxes)."""
    return list(zip(*map(np.ndarray.tolist, linear_sum_assignment(-near)), strict=True))


@lru_cache(maxsize=4)
def _found(material: Material, network: Network, features: Features) -> list[_Story]:
    one_by_one = replace(features, batch_size=1)  # the detector takes pictures of any size

    def boxes(paths: Sequence[Path]) -> np.ndarray:
        found = one_by_one(paths, network.encoders["boxes"])
        return np.asarray(found).reshape(len(paths), -1, 5)

    def encode(crops: Sequence[tuple[Path, str]]) -> np.ndarray:
        return np.asarray(features(crops, network.encoders["picture"]))

    return [_look(story, boxes, encode) for story in material.stories]


def _look(story: SampledStory, boxes, encode) -> _Story:
    told, references = _Story(), {}
    for one in story.characters:
        if one.pictures:
            surest = boxes(one.pictures)[:, 0]
            parts = [tuple(row[1:]) if _real(row) else WHOLE for row in surest]
            names = list(zip(one.pictures, parts, strict=True))
            references[one.key] = encode([(path, crop_name(box)) for path, box in names])
            if not one.realistic:
                told.references[one.key] = references[one.key]
                told.mirrored[one.key] = encode([(p, crop_name(box, True)) for p, box in names])
    crops: dict[str, list[np.ndarray]] = {key: [] for key in told.references}
    for path, label, rows in zip(story.frames, story.labels, boxes(story.frames), strict=True):
        cast = label["cast"]
        kept = [row for row in rows if _real(row)][: len(cast)]
        told.counts.append((len(kept), len(cast)))
        known = [key for key in cast if key in references]
        if not kept or not known:
            continue
        seen = encode([(path, crop_name(row[1:])) for row in kept])
        near = np.stack([(references[key] @ seen.T).mean(0) for key in known])
        for character, box in matched(near):
            if known[character] in crops:
                crops[known[character]].append(seen[box])
    for key, rows in crops.items():
        told.crops[key] = np.array(rows) if rows else np.empty((0, references[key].shape[1]))
    return told


def _real(row: np.ndarray) -> bool:
    """Whether a box is sure enough and covers something."""
    sure, left, top, right, bottom = row
    return bool(sure > BOX and right > left and bottom > top)


def _alike(crops: np.ndarray) -> float:
    if len(crops) < 2:
        return float(len(crops))
    return float((crops @ crops.T)[np.triu_indices(len(crops), 1)].mean())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _of_stories(values: Sequence[float]) -> np.ndarray:
    """(S, 2); a story whose value is NaN does not count."""
    values = np.asarray(values, float)
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0), known], -1)
