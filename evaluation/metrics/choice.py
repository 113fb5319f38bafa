"""Which metrics are measured, and that all they need is there; whatever is missing is said before
any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.key_value_arguments import check, spelled
from evaluation.metrics.material import Material
from evaluation.metrics.table import FILES, METRICS, NEEDS, Metric, given, load, named_metrics
from evaluation.options import Options
from evaluation.samples import MANIFEST, Samples

if TYPE_CHECKING:  # torch takes seconds to import
    from evaluation.networks.features import Network

__all__ = ["choose", "load_networks", "preflight"]

WORLDS = {"weather", "slots"}  # of NEEDS: no file can give them


def preflight(options: Options, unlabelled: str | None = None) -> None:
    """Before stories are drawn: ValueError or FileNotFoundError for metrics and files that later
    could not be used.

    unlabelled: the file of the stories, if it has no labels.
    """
    from evaluation.networks.features import FeatureCache

    check(options)
    metrics, skipped = choose(options)
    asked = named_metrics(options.metrics)
    if unlabelled and asked != ["all"]:
        if needy := [metric.name for metric in metrics if "labels" in metric.needs]:
            raise ValueError(
                f"metrics: {needy[0]} needs labels for every story, and {unlabelled} has none; "
                f"build it with labels, or leave {needy[0]} out"
            )
    FeatureCache(options.cache)
    load_networks(metrics, options, (), skipped)


def choose(
    options: Options, materials: Sequence[Material] = ()
) -> tuple[list[Metric], dict[str, str]]:
    """The metrics asked for, and {name: why} of those that `all` cannot measure: it is what the
    given files and all materials allow. Of a group, what the stories' cartoon world has.

    ValueError when a metric asked for by name needs what one of them does not have.
    """
    asked = options.metrics
    if asked is None:
        asked = ["cartoon"] if options.judge else []
    names, lacks = named_metrics(asked), {}
    for material in materials:
        lacks |= {need: (material.folder, where) for need, where in _lacks(material).items()}
    everything = names == ["all"]
    chosen, skipped = [], {}
    for metric in METRICS.values() if everything else (METRICS[name] for name in names):
        if metric.name not in asked and not everything and lacks.keys() & {*metric.needs} & WORLDS:
            continue
        reason = None
        if need := next((need for need in (*metric.needs, metric.of) if need in lacks), None):
            (folder, where), (what, option) = lacks[need], NEEDS[need]
            # A manifest says all there is, but a benchmark's characters.
            told = Path(folder, MANIFEST).is_file() and need != "characters"
            reason = f"needs {what}{'' if told else f': give {option}'}; {where} has none"
        elif not given(metric, options):
            reason = f"needs {spelled(metric.file)}=FILE ({FILES[metric.file]})"
        if reason and not everything:
            raise ValueError(f"{metric.name} {reason}")
        if reason:
            skipped[metric.name] = reason
        else:
            chosen.append(metric)
    return chosen, skipped


def _lacks(material: Material) -> dict[str, str]:
    """{what a metric may need: where it is not}."""
    folder, lacks = material.folder, {}
    if material.drawn.sum() < 2:
        lacks["sets"] = folder
    if not material.drawn[:, 1:].any():
        lacks["neighbours"] = folder
    if material.references is None:
        lacks["references"] = folder
    for story in material.stories:
        where = f"story {story.story_id!r} of {folder}"
        if not all(story.captions):
            frame = next(n for n, text in enumerate(story.captions, 1) if not text)
            lacks.setdefault("captions", f"frame {frame} of {where}")
        for need in ("labels", "characters"):
            if not getattr(story, need):
                lacks.setdefault(need, where)
        wide = any("weather" in label for label in story.labels or ())
        lacks.setdefault("slots" if wide else "weather", where)
    return lacks


def load_networks(
    metrics: list[Metric], options: Options, runs: Sequence[Samples], skipped: dict[str, str]
) -> dict[str | None, Network | None]:
    """{metric.network: what it loads}, each once, with the labels of all `runs` checked.

    Of `all`, metrics whose network or labels do not serve are moved from `metrics` to `skipped`.
    """
    load("evaluation.networks.features:device_of")(options.device)  # `all` would skip each metric
    networks: dict[str | None, Network | None] = {None: None}
    failed: dict[str, Exception] = {}
    for metric in list(metrics):
        name = metric.network
        try:
            if name in failed:
                raise failed[name]
            if name not in networks:
                try:
                    networks[name] = load(name)(options, runs[0] if runs else None)
                except (ValueError, OSError) as error:
                    failed[name] = error
                    raise
            for samples in runs if metric.check else ():
                load(metric.check)(samples, networks[name])
        except (ValueError, OSError) as error:
            if named_metrics(options.metrics) != ["all"]:
                raise
            metrics.remove(metric)
            skipped[metric.name] = str(error)
    return networks
