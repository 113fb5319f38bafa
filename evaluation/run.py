"""Evaluates a samples folder: checks, measures, compares, and writes what was found.

`evaluate(Options(samples=DIR, metrics=[...]))` is all of it; the command line, `mode: sample` and
the demo call the same function.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from common.files import replacing
from evaluation.command_line import check
from evaluation.metrics.bootstrap import interval, story_weights
from evaluation.metrics.choice import choose, load_networks
from evaluation.metrics.material import Material
from evaluation.metrics.table import Metric, load
from evaluation.options import Options
from evaluation.paper_table import paper_table
from evaluation.report import protocol, table
from evaluation.samples import Samples, open_samples

__all__ = ["evaluate"]

LIBRARIES = ("torch", "torchvision", "torchmetrics", "open_clip_torch", "numpy", "pillow")


def evaluate(options: Options) -> dict:
    """Measure, print, write metrics.json, charts and storyboards into the folder; the metrics."""
    check(options)
    places = (options.samples, options.compare) if options.compare else (options.samples,)
    folders = [
        open_samples(place, options.reference, options.captions, options.story_length)
        for place in places
    ]
    warnings: list[str] = []
    if options.compare:
        folders = _paired(*folders, warnings)
    samples = folders[0]
    materials = [Material.of(str(one.folder), one.stories) for one in folders]
    metrics = choose(options, materials)
    result = {
        "samples": str(samples.folder),
        "stories": len(samples.stories),
        "frames": int(materials[0].drawn.sum()),
        "metrics": {},
        "warnings": warnings,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    counts, readings = {}, None
    if metrics:
        counts, readings = _measure(metrics, folders, materials, options, result)
    print(table(result))
    if options.papers:
        lines, differences = paper_table(options.papers, result)
        warnings += differences
        print(f"\n{lines}")
    for warning in warnings:
        print(f"warning: {warning}")
    if metrics:
        with replacing(samples.folder / "metrics.json") as temporary:
            text = json.dumps(result, indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        print(samples.folder / "metrics.json")
    if options.pictures:
        from evaluation.pictures.gallery import draw_gallery  # charts take a second to import

        for path in draw_gallery(samples, counts, result, readings, options.stories):
            print(path)
    return result


def _paired(one: Samples, two: Samples, warnings: list[str]) -> list[Samples]:
    """Only the stories that both have, in one order."""
    found = {story.story_id: story for story in two.stories}
    shared = [story for story in one.stories if story.story_id in found]
    if not shared:
        raise ValueError(f"{one.folder} and {two.folder} share no story: compare the same stories")
    for story in shared:
        second = found[story.story_id]
        for key in ("captions", "given"):
            if getattr(story, key) != getattr(second, key):
                raise ValueError(
                    f"story {story.story_id!r} has other {key} in {two.folder} than in "
                    f"{one.folder}: compare folders of the same task and captions"
                )
    if len(shared) < max(len(one.stories), len(two.stories)):
        warnings.append(
            f"only the {len(shared)} stories in both folders count, of {len(one.stories)} and "
            f"{len(two.stories)}"
        )
    both = [found[story.story_id] for story in shared]
    return [replace(one, stories=shared), replace(two, stories=both)]


def _measure(
    metrics: Sequence[Metric],
    folders: Sequence[Samples],
    materials: Sequence[Material],
    options: Options,
    result: dict,
) -> tuple[dict[str, np.ndarray], list[list[dict]] | None]:
    """Fill `result`; {frame metric: counts (S, K, 2)}, and what the judge read if it was asked."""
    # torch takes seconds to import, and pictures alone do not need it
    from evaluation.metrics.measure import Measurement, number, shifts
    from evaluation.networks.features import FeatureCache, Features

    features = Features(FeatureCache(options.cache), options.batch_size, options.processes)
    networks = load_networks(metrics, options, folders[0])
    for metric in metrics:
        for samples in folders if metric.check else ():
            load(metric.check)(samples, networks[metric.network])
    first, draws = materials[0], story_weights(len(materials[0].stories), options.draws)
    variants = {"real": first.real(), "shuffled": first.shuffled()}
    counts, readings, guess = {}, None, {}
    if judge := next((networks[one.network] for one in metrics if one.file == "judge"), None):
        result["judge_error"] = judge.known_error
    if any(metric.group == "cartoon" for metric in metrics):
        from evaluation.metrics import cartoon

        readings = cartoon.readings(first, judge, features)
        guess = cartoon.chance(first.stories, judge.vocabulary)
    if options.compare:
        result["compare"] = {"samples": str(folders[1].folder), "metrics": {}}
    for metric in metrics:
        network, moved = networks[metric.network], shifts(metric)
        times = draws[: 1 + options.frechet_draws] if moved else draws
        measure = Measurement(metric, network, features, times)
        values, entry, by_frame = measure(first, variants)
        if by_frame is not None:
            counts[metric.name] = by_frame
        if metric.group == "cartoon":
            entry["chance"] = guess[metric.name.removeprefix("cartoon/")]
        entry["protocol"] = protocol(metric, network)
        entry["weights"] = network and {"file": network.file, "sha256": network.sha256}
        result["metrics"][metric.name] = entry
        if moved and entry["n"] < (width := network.encoders["features"].width):
            result["warnings"].append(
                f"{metric.name}: {entry['n']} frames are fewer than the {width} features, so it "
                "reads too high; compare it only with values of as many frames"
            )
        if options.compare:
            second, found, _ = measure(materials[1])
            result["compare"]["metrics"][metric.name] = {
                "value": found["value"],
                "interval": found["interval"],
                "difference": number(values[0] - second[0]),
                "difference_interval": interval(values - second, moved),
            }
    return counts, readings
