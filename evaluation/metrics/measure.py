"""Metrics of one system: value, bootstrap interval, spread over seeds, and what bounds it.

A frame metric gives a numerator and a denominator for every frame, so that one table yields the
value, its interval over stories, its course along the story and the number under a picture. One of
pairs gives them for every two frames of a story, and its course over their distance too. A set
metric gives one distance between all drawn and all real frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.bootstrap import interval, ratio, resampled
from evaluation.metrics.material import Material
from evaluation.metrics.table import Metric, load
from evaluation.networks.features import Features, Network

__all__ = ["Measured", "Measurement", "number", "shifts"]


@dataclass(frozen=True)
class Measured:
    """values: (1 + draws,), means over seeds; entry: of metrics.json; by_story: (S, 2) summed over
    seeds, by_frame: (S, K, 2) of the first seed; None of what a metric does not tell."""

    values: np.ndarray
    entry: dict
    by_story: np.ndarray | None = None
    by_frame: np.ndarray | None = None


@dataclass
class Measurement:
    """Measures a metric with its network; `draws` are from `story_weights`."""

    metric: Metric
    network: Network | None
    features: Features
    draws: np.ndarray

    def __call__(
        self, runs: Sequence[Material], variants: Mapping[str, Material | None] | None = None
    ) -> Measured:
        """Of the same stories drawn once, or with several seeds; the entry is whole with the
        variants "real" and "shuffled" of the first."""
        by_story = by_frame = None
        if self.metric.of == "sets":
            found = [self._distances(run, bool(variants) and not n) for n, run in enumerate(runs)]
            each, entry = np.stack([values for values, _ in found]), found[0][1]
        else:
            tables = [self.count(run) for run in runs]  # of each seed, (S, 2) or (S, K[, K], 2)
            sums = [_by_story(table) for table in tables]
            each = np.stack([resampled(self.draws, one) for one in sums])
            by_story = np.sum(sums, 0)
            entry = {"n": int((tables[0][..., 1] > 0).sum())}
            if variants:
                entry |= self._bounds(variants)
            if variants and self.metric.of != "stories":
                by_frame = tables[0]
                if self.metric.of == "pairs":
                    by_frame = tables[0].sum(2)
                    entry |= self._course("by_distance", [_by_distance(one) for one in tables])
                    tables = [one.sum(2) for one in tables]
                entry |= self._course("by_frame", tables)
        values = each.mean(0)
        around = interval(values, shifts(self.metric))
        if shifts(self.metric) and around:  # moving it can push the lower end below any distance
            around = [max(0.0, around[0]), around[1]]
        better = self.metric.higher_is_better
        first = {"value": number(values[0]), "interval": around, "higher_is_better": better}
        if len(runs) > 1:
            spread = number(each[:, 0].std(ddof=1))
            first["seeds"] = {"values": [number(one) for one in each[:, 0]], "spread": spread}
        return Measured(values, {**first, **entry}, by_story, by_frame)

    def count(self, material: Material) -> np.ndarray:
        return load(self.metric.measure)(material, self.network, self.features)

    def _bounds(self, variants: Mapping[str, Material | None]) -> dict:
        if self.metric.of == "stories":  # of a benchmark that has no real frames
            return {}
        sums = {name: one and _by_story(self.count(one)).sum(0) for name, one in variants.items()}
        return {name: None if one is None else number(ratio(one)) for name, one in sums.items()}

    def _course(self, name: str, tables: Sequence[np.ndarray]) -> dict:
        """Means along the second axis of (S, K, 2) with their intervals."""
        along = [
            np.mean([resampled(self.draws, table[:, k]) for table in tables], 0)
            for k in range(tables[0].shape[1])
        ]
        return {
            name: [number(values[0]) for values in along],
            f"{name}_interval": [interval(values) for values in along],
        }

    def _distances(self, material: Material, bounds: bool) -> tuple[np.ndarray, dict]:
        """Set distances see no order, so that "shuffled" is the real frames of one story: total
        collapse. "real" is every other story's frames against the rest."""
        where, sizes = material.drawn, material.drawn.sum(1)
        draws = self.draws if np.count_nonzero(sizes) > 1 else self.draws[:1]
        distance, encoder = load(self.metric.measure), self.network.encoders["features"]
        drawn = self.features(material.pictures[where], encoder)
        entry = {"n": len(drawn)}
        if "references" not in self.metric.needs:
            return distance()(drawn, sizes, draws), entry
        real = self.features(material.references[where], encoder)
        against = distance(real)
        if bounds:
            even, once = np.repeat(np.arange(len(sizes)) % 2 == 0, sizes), np.ones((1, 1))
            halves, one = (real[even], real[~even]), real[: sizes[sizes > 0][0]]
            entry |= {"real": None, "shuffled": None}
            if min(map(len, halves)) > 1:
                entry["real"] = number(distance(halves[0])(halves[1], [len(halves[1])], once)[0])
            if len(one) > 1:
                entry["shuffled"] = number(against(one, [len(one)], once)[0])
        return against(drawn, sizes, draws), entry


def _by_story(table: np.ndarray) -> np.ndarray:
    """(S, ..., 2) -> (S, 2)."""
    return table.reshape(len(table), -1, 2).sum(1)


def _by_distance(pairs: np.ndarray) -> np.ndarray:
    """(S, K, K, 2) of frames n and m -> (S, K - 1, 2) by n - m, from 1."""
    frames = range(1, pairs.shape[1])
    return np.stack(
        [np.diagonal(pairs, -apart, 1, 2).sum(-1) for apart in frames], 1
    ) if frames else pairs[:, :0, 0]  # fmt: skip


def shifts(metric: Metric) -> bool:
    """Whether resampling shifts the metric, so that its interval is moved back to the value."""
    return metric.of == "sets" and load(metric.measure).resampling_shifts_it


def number(value: float) -> float | None:
    """None for what JSON has no number for."""
    return float(value) if np.isfinite(value) else None
