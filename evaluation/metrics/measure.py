"""One metric on one set of stories: its value, bootstrap interval, and what bounds it.

A frame metric gives a numerator and a denominator for every frame, so that one table yields the
value, its interval over stories, its course along the story and the number under a picture. A set
metric gives one distance between all drawn and all real frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluation.metrics.bootstrap import interval, ratio
from evaluation.metrics.material import Material
from evaluation.metrics.table import Metric, load
from evaluation.networks.features import Features, Network

__all__ = ["measure", "number", "shifts"]

Variants = Mapping[str, Material | None]


def shifts(metric: Metric) -> bool:
    """Whether resampling shifts the metric, so that its interval is moved back to the value."""
    return metric.of == "sets" and load(metric.measure).resampling_shifts_it


def measure(
    metric: Metric,
    material: Material,
    network: Network | None,
    features: Features,
    draws: np.ndarray,
    variants: Variants | None = None,
) -> tuple[np.ndarray, dict, np.ndarray | None]:
    """Values (1 + draws,), the entry of metrics.json, counts (S, K, 2) of a frame metric.

    draws: from `story_weights`. variants: "real" and "shuffled" material, for a whole entry.
    """
    one_kind = _measure_frames if metric.of == "frames" else _measure_sets
    values, entry, counts = one_kind(metric, material, network, features, draws, variants)
    around = interval(values, shifts(metric))
    if shifts(metric) and around:  # moving it can push the lower end below any distance
        around = [max(0.0, around[0]), around[1]]
    first = {"value": number(values[0]), "interval": around}
    return values, {**first, "higher_is_better": metric.higher_is_better, **entry}, counts


def _measure_frames(
    metric: Metric,
    material: Material,
    network: Network | None,
    features: Features,
    draws: np.ndarray,
    variants: Variants | None,
) -> tuple[np.ndarray, dict, np.ndarray]:
    count = load(metric.measure)
    counts = count(material, network, features)
    entry = {"n": int((counts[..., 1] > 0).sum())}
    if variants is not None:
        for name, variant in variants.items():
            found = variant and count(variant, network, features).sum((0, 1))
            entry[name] = None if found is None else number(ratio(found))
        along = [ratio(draws @ frame) for frame in counts.swapaxes(0, 1)]
        entry["by_frame"] = [number(frame[0]) for frame in along]
        entry["by_frame_interval"] = [interval(frame) for frame in along]
    return ratio(draws @ counts.sum(1)), entry, counts


def _measure_sets(
    metric: Metric,
    material: Material,
    network: Network,
    features: Features,
    draws: np.ndarray,
    variants: Variants | None,
) -> tuple[np.ndarray, dict, None]:
    """Set distances see no order, so that shuffled frames are the real ones of one story: total
    collapse. Real is every other story's frames against the rest."""
    where, sizes = material.drawn, material.drawn.sum(1)
    if where.sum() < 2:
        raise ValueError(
            f"{metric.name} needs at least two drawn frames, {material.folder} has one"
        )
    distance, encoder = load(metric.measure), network.encoders["features"]
    drawn = features(material.pictures[where], encoder)
    real = features(material.references[where], encoder)
    against = distance(real)
    entry = {"n": len(drawn)}
    if variants is not None:
        even, once = np.repeat(np.arange(len(sizes)) % 2 == 0, sizes), np.ones((1, 1))
        halves, one = (real[even], real[~even]), real[: sizes[sizes > 0][0]]
        entry |= {"real": None, "shuffled": None}
        if min(map(len, halves)) > 1:
            entry["real"] = number(distance(halves[0])(halves[1], [len(halves[1])], once)[0])
        if len(one) > 1:
            entry["shuffled"] = number(against(one, [len(one)], once)[0])
    return against(drawn, sizes, draws), entry, None


def number(value: float) -> float | None:
    """None for what JSON has no number for."""
    return float(value) if np.isfinite(value) else None
