"""LPIPS (Zhang et al., arXiv 1801.03924) of a frame and the one before."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.material import Material
from evaluation.networks.features import Features, Network

__all__ = ["lpips_adjacent"]


def lpips_adjacent(material: Material, lpips: Network, features: Features) -> np.ndarray:
    where, pictures, before = material.neighbours()
    distances = features(zip(before, pictures, strict=True), lpips.encoders["distance"])
    return material.per_frame(where, distances[:, 0])
