"""CLIP scores as cosines, not times 100: of frame and caption, of frame and real frame; and how
high a frame's own caption ranks among others."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.material import Material
from evaluation.networks.features import Features, Network, chunks

__all__ = ["clip_i", "clip_t", "clip_t_mrr", "cosines"]

CANDIDATES = 100  # captions among which VinaBench ranks


def clip_t(material: Material, clip: Network, features: Features) -> np.ndarray:
    where = material.drawn
    pictures = features(material.pictures[where], clip.encoders["picture"])
    captions = features(material.captions[where], clip.encoders["text"])
    return material.per_frame(where, cosines(pictures, captions))


def clip_t_mrr(material: Material, clip: Network, features: Features) -> np.ndarray:
    """VinaBench's mean reciprocal rank (CVPR 2025): 1 / (1 + captions that CLIP finds nearer to the
    frame than its own), 0 beyond the nearest CANDIDATES.

    The candidates are the different captions of all drawn frames; a caption that several frames
    share is one, and ties count in the frame's favour.
    """
    where = material.drawn
    texts, own = np.unique(material.captions[where].astype(str), return_inverse=True)
    captions = np.asarray(features(texts.tolist(), clip.encoders["text"]))
    pictures = features(material.pictures[where], clip.encoders["picture"])
    values = []
    for rows, mine in zip(chunks(pictures), chunks(own), strict=True):
        near = rows @ captions.T  # (n, captions)
        before = (near > near[np.arange(len(mine)), mine][:, None]).sum(1)
        values.append((before < CANDIDATES) / (1 + before))
    return material.per_frame(where, np.concatenate(values))


def clip_i(material: Material, clip: Network, features: Features) -> np.ndarray:
    where, real, weights = material.drawn, material.references, 1
    if material.variant == "real":  # against itself it would always be 1: take its neighbour
        after = np.roll(real, -1, 1)
        real = np.where(after == None, real[:, :1], after)  # noqa: E711
        weights = (real != material.references)[where].astype(int)  # a lone frame has none
    pictures = features(material.pictures[where], clip.encoders["picture"])
    values = cosines(pictures, features(real[where], clip.encoders["picture"]))
    return material.per_frame(where, weights * values, weights)


def cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of unit vectors (n, width) that lie on disk, a chunk at a time -> (n,)."""
    pairs = zip(chunks(one), chunks(two), strict=True)
    return np.concatenate([np.empty(0), *((a * b).sum(1) for a, b in pairs)])
