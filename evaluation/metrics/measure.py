"""Metrics of one set of stories: value, bootstrap interval, and what bounds it.

A frame metric gives a numerator and a denominator for every frame, so that one table yields the
value, its interval over stories, its course along the story and the number under a picture. A set
metric gives one distance between all drawn and all real frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.bootstrap import interval, ratio
from evaluation.metrics.material import Material
from evaluation.metrics.table import Metric, load
from evaluation.networks.features import Features, Network

__all__ = ["Measurement", "number", "shifts"]


@dataclass
class Measurement:
    """Measures a metric with its network; `draws` are from `story_weights`.

    Called with material it gives values (1 + draws,), the entry of metrics.json, and of a frame
    metric counts (S, K, 2). The entry is whole with the variants "real" and "shuffled".
    """

    metric: Metric
    network: Network | None
    features: Features
    draws: np.ndarray

    def __call__(
        self, material: Material, variants: Mapping[str, Material | None] | None = None
    ) -> tuple[np.ndarray, dict, np.ndarray | None]:
        if self.metric.of == "frames":
            counts = self.count(material)
            values = ratio(self.draws @ counts.sum(1))
            entry = {"n": int((counts[..., 1] > 0).sum())}
            entry |= self._along(counts, variants) if variants else {}
        else:
            counts = None
            values, entry = self._distances(material, bool(variants))
        around = interval(values, shifts(self.metric))
        if shifts(self.metric) and around:  # moving it can push the lower end below any distance
            around = [max(0.0, around[0]), around[1]]
        better = self.metric.higher_is_better
        first = {"value": number(values[0]), "interval": around, "higher_is_better": better}
        return values, {**first, **entry}, counts

    def count(self, material: Material) -> np.ndarray:
        return load(self.metric.measure)(material, self.network, self.features)

    def _along(self, counts: np.ndarray, variants: Mapping[str, Material | None]) -> dict:
        sums = {name: one and self.count(one).sum((0, 1)) for name, one in variants.items()}
        along = [ratio(self.draws @ frame) for frame in counts.swapaxes(0, 1)]
        return {
            **{name: None if one is None else number(ratio(one)) for name, one in sums.items()},
            "by_frame": [number(values[0]) for values in along],
            "by_frame_interval": [interval(values) for values in along],
        }

    def _distances(self, material: Material, bounds: bool) -> tuple[np.ndarray, dict]:
        """Set distances see no order, so that "shuffled" is the real frames of one story: total
        collapse. "real" is every other story's frames against the rest."""
        where, sizes = material.drawn, material.drawn.sum(1)
        if where.sum() < 2:
            raise ValueError(
                f"{self.metric.name} needs at least two drawn frames, {material.folder} has one"
            )
        distance, encoder = load(self.metric.measure), self.network.encoders["features"]
        drawn = self.features(material.pictures[where], encoder)
        real = self.features(material.references[where], encoder)
        against, entry = distance(real), {"n": len(drawn)}
        if bounds:
            even, once = np.repeat(np.arange(len(sizes)) % 2 == 0, sizes), np.ones((1, 1))
            halves, one = (real[even], real[~even]), real[: sizes[sizes > 0][0]]
            entry |= {"real": None, "shuffled": None}
            if min(map(len, halves)) > 1:
                entry["real"] = number(distance(halves[0])(halves[1], [len(halves[1])], once)[0])
            if len(one) > 1:
                entry["shuffled"] = number(against(one, [len(one)], once)[0])
        return against(drawn, sizes, self.draws), entry


def shifts(metric: Metric) -> bool:
    """Whether resampling shifts the metric, so that its interval is moved back to the value."""
    return metric.of == "sets" and load(metric.measure).resampling_shifts_it


def number(value: float) -> float | None:
    """None for what JSON has no number for."""
    return float(value) if np.isfinite(value) else None
