"""Which metrics are measured, and that all they need is there; whatever is missing is said before
any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.command_line import check, spelled
from evaluation.metrics.material import Material
from evaluation.metrics.table import FILES, METRICS, NEEDS, Metric, load, named_metrics
from evaluation.options import Options
from evaluation.samples import MANIFEST, Samples

if TYPE_CHECKING:  # torch takes seconds to import
    from evaluation.networks.features import Network

__all__ = ["choose", "load_networks", "preflight"]


_OPTIONS = {"captions": ": give captions=FILE", "references": ": give reference=DIR"}


def preflight(options: Options) -> None:
    """Before stories are drawn: ValueError or FileNotFoundError for metrics and files that later
    could not be used."""
    from evaluation.networks.features import FeatureCache

    check(options)
    metrics = choose(options)
    FeatureCache(options.cache)
    load_networks(metrics, options, None)


def choose(options: Options, materials: Sequence[Material] = ()) -> list[Metric]:
    """The metrics asked for; `all` is what the given files and all materials allow.

    ValueError when a metric needs what one of them does not have.
    """
    asked = options.metrics
    if asked is None:
        asked = ["cartoon"] if options.judge else []
    names, lacks = named_metrics(asked), {}
    for material in materials:
        has = {
            "captions": material.captions.all(),
            "neighbours": material.drawn[:, 1:].any(),
            "references": material.references is not None,
            "labels": all(story.labels for story in material.stories),
        }
        lacks |= {need: material.folder for need in NEEDS if not has[need]}
    if names == ["all"]:
        given = {None, *(file for file in FILES if getattr(options, file))}
        metrics = (one for one in METRICS.values() if one.file in given)
        return [metric for metric in metrics if not set(lacks) & set(metric.needs)]
    for name in names:
        for need in METRICS[name].needs:
            if folder := lacks.get(need):
                option = _OPTIONS.get(need, "")
                if Path(folder, MANIFEST).is_file():  # which says all
                    option = ""
                raise ValueError(f"{name} needs {NEEDS[need]}{option}; {folder} has none")
    return [METRICS[name] for name in names]


def load_networks(
    metrics: Sequence[Metric], options: Options, samples: Samples | None
) -> dict[str | None, Network | None]:
    """{metric.network: what it loads}, each once."""
    networks: dict[str | None, Network | None] = {None: None}
    for metric in metrics:
        if metric.file and not getattr(options, metric.file):
            key, source = spelled(metric.file), FILES[metric.file]
            raise ValueError(f"{metric.name} needs {key}=FILE ({source})")
        if metric.network not in networks:
            networks[metric.network] = load(metric.network)(options, samples)
    return networks
