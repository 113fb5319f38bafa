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

__all__ = ["check_material", "choose", "load_networks", "preflight"]


def preflight(options: Options) -> None:
    """Before stories are drawn: ValueError or FileNotFoundError for metrics and files that later
    could not be used."""
    from evaluation.networks.features import FeatureCache

    check(options)
    metrics = choose(options, None)
    FeatureCache(options.cache)
    load_networks(metrics, options, None)


def choose(options: Options, samples: Samples | None) -> list[Metric]:
    """The metrics asked for; `all` is what the given files and the samples allow."""
    asked = options.metrics
    if asked is None:
        asked = ["cartoon"] if options.judge else []
    names = named_metrics(asked)
    if names != ["all"]:
        return [METRICS[name] for name in names]
    lacks = set()
    if samples:
        first = samples.stories[0]
        has = {
            "captions": all(all(story.captions) for story in samples.stories),
            "neighbours": len(first.frames) > 1,
            "references": bool(first.reference_frames),
            "labels": bool(first.labels),
        }
        lacks = {need for need in NEEDS if not has[need]}
    return [
        metric
        for metric in METRICS.values()
        if not lacks & set(metric.needs) and (not metric.file or getattr(options, metric.file))
    ]


def check_material(metrics: Sequence[Metric], material: Material) -> None:
    """ValueError when a metric needs what the samples do not have."""
    has = {
        "captions": material.captions.all(),
        "neighbours": material.drawn[:, 1:].any(),
        "references": material.references is not None,
        "labels": all(story.labels for story in material.stories),
    }
    gives = {"captions": ": give captions=FILE", "references": ": give reference=DIR"}
    if Path(material.folder, MANIFEST).is_file():  # which then says all
        gives = {}
    for metric in metrics:
        for need in metric.needs:
            if not has[need]:
                what = NEEDS[need] + gives.get(need, "")
                raise ValueError(f"{metric.name} needs {what}; {material.folder} has none")


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
