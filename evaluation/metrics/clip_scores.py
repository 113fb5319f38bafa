"""CLIP scores as cosines, not times 100: of frame and caption, of frame and real frame, of
neighbours."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.material import Material
from evaluation.networks.features import Features, Network, chunks

__all__ = ["clip_i", "clip_i_adjacent", "clip_t"]


def clip_t(material: Material, clip: Network, features: Features) -> np.ndarray:
    where = material.drawn
    pictures = features(material.pictures[where], clip.encoders["picture"])
    captions = features(material.captions[where], clip.encoders["text"])
    return material.per_frame(where, _cosines(pictures, captions))


def clip_i(material: Material, clip: Network, features: Features) -> np.ndarray:
    where, real = material.drawn, material.references
    if material.variant == "real":  # against itself it would always be 1: take its neighbour
        real = np.roll(real, -1, 1)
    pictures = features(material.pictures[where], clip.encoders["picture"])
    return material.per_frame(
        where, _cosines(pictures, features(real[where], clip.encoders["picture"]))
    )


def clip_i_adjacent(material: Material, clip: Network, features: Features) -> np.ndarray:
    where, pictures, before = material.neighbours()
    later = features(pictures, clip.encoders["picture"])
    return material.per_frame(where, _cosines(later, features(before, clip.encoders["picture"])))


def _cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of unit vectors (n, width) that lie on disk, a chunk at a time -> (n,)."""
    pairs = zip(chunks(one), chunks(two), strict=True)
    return np.concatenate([(a * b).sum(1) for a, b in pairs])
