"""How much the frames of a story look alike: neighbours, all pairs, and against its first frame.

adjacent: a drawn frame and the one before. self: frames n and m < n of a story, both drawn; where
labels say who is there, only pairs that share a character. cross: every drawn frame against the
given one or, where all are drawn, against the first. A pair belongs to its later frame.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from evaluation.metrics.clip_scores import cosines
from evaluation.metrics.material import Material
from evaluation.networks.features import Features, Network

__all__ = [
    "cosine_adjacent", "cosine_cross", "cosine_self", "lpips_adjacent", "lpips_cross", "lpips_self",
]  # fmt: skip

Alike = Callable[[list, list, Network, Features], np.ndarray]  # of pictures (n,), (n,) -> (n,)


def _cosine(one: list, two: list, network: Network, features: Features) -> np.ndarray:
    encoder = network.encoders["picture"]
    return cosines(features(one, encoder), features(two, encoder))


def _lpips(one: list, two: list, network: Network, features: Features) -> np.ndarray:
    return features(zip(one, two, strict=True), network.encoders["distance"])[:, 0]


def _adjacent(alike: Alike, material: Material, network: Network, features: Features) -> np.ndarray:
    """(S, K, 2)."""
    where, pictures, before = material.neighbours()
    return material.per_frame(where, alike(before, pictures, network, features))


def _self(alike: Alike, material: Material, network: Network, features: Features) -> np.ndarray:
    """(S, K, K, 2), of frames n and m."""
    story, later, earlier = np.nonzero(together := material.pairs())
    table = np.zeros((*together.shape, 2))
    pictures = material.pictures
    values = alike(pictures[story, earlier], pictures[story, later], network, features)
    table[story, later, earlier, 0], table[story, later, earlier, 1] = values, 1
    return table


def _cross(alike: Alike, material: Material, network: Network, features: Features) -> np.ndarray:
    """(S, K, 2)."""
    where = material.drawn.copy()
    where[:, 0] = False
    first = np.broadcast_to(material.pictures[:, :1], where.shape)[where]
    return material.per_frame(where, alike(first, material.pictures[where], network, features))


cosine_adjacent, lpips_adjacent = (partial(_adjacent, alike) for alike in (_cosine, _lpips))
cosine_self, lpips_self = (partial(_self, alike) for alike in (_cosine, _lpips))
cosine_cross, lpips_cross = (partial(_cross, alike) for alike in (_cosine, _lpips))
