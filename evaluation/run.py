"""Evaluates a samples folder: checks, measures, compares, and writes what was found.

`evaluate(Options(samples=DIR, metrics=[...]))` is all of it; the command line and `mode: sample`
call the same function.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from evaluation.bootstrap import interval, story_weights
from evaluation.cartoon_metrics import chance, check_labels
from evaluation.gallery import draw_gallery
from evaluation.material import Material
from evaluation.metrics import METRICS, SetMetric, Tools
from evaluation.networks import build_tools, check_material, choose
from evaluation.options import Options, check
from evaluation.paper_table import check_column, paper_table
from evaluation.picture_folders import open_samples
from evaluation.report import protocol, table
from evaluation.samples import Samples, replacing

LIBRARIES = ("torch", "torchvision", "torchmetrics", "open_clip_torch", "numpy", "pillow")


def evaluate(options: Options) -> dict:
    """Measure, print, write metrics.json, plots and storyboards into the folder; the metrics."""
    options = check(options)
    check_column(options.papers)
    samples = open_samples(
        options.samples, options.reference, options.captions, options.story_length
    )
    warnings: list[str] = []
    other = None
    if options.compare:
        second = open_samples(
            options.compare, options.reference, options.captions, options.story_length
        )
        samples, other = _paired(samples, second, warnings)
    names = choose(options, samples)
    materials = [Material.of(str(one.folder), one.stories) for one in (samples, other) if one]
    for material in materials:
        check_material(names, material)
        if any(name.startswith("cartoon/") for name in names):
            check_labels(material.stories)
    tools, weights = build_tools(options, names, samples)
    result = {
        "samples": str(samples.folder),
        "stories": len(samples.stories),
        "frames": int(materials[0].drawn.sum()),
        "metrics": {},
        "warnings": warnings,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    if other:
        result["compare"] = {"samples": str(other.folder), "metrics": {}}
    if tools.judge:
        result["judge_error"] = tools.judge.known_error
        guess = chance(samples.stories, tools.judge.vocabulary) if samples.vocabulary else {}
    draws, counts = story_weights(len(samples.stories), options.draws), {}
    for name in names:
        metric = METRICS[name]
        measure = _measure_set if isinstance(metric, SetMetric) else _measure_frames
        times = draws[: 1 + options.frechet_draws] if metric.recentre else draws
        values, entry, by_frame = measure(name, materials[0], tools, times)
        if by_frame is not None:
            counts[name] = by_frame
        if name.startswith("cartoon/"):
            entry["chance"] = guess.get(name.removeprefix("cartoon/"))
        entry |= {"protocol": protocol(name, options, tools), "weights": weights.get(name)}
        result["metrics"][name] = entry
        if metric.recentre and entry["n"] < (width := tools.encoders[metric.encoder].width):
            warnings.append(
                f"{name}: {entry['n']} frames are fewer than the {width} features, so it reads "
                "too high; compare it only with values of as many frames"
            )
        if other:
            second, found, _ = measure(name, materials[1], tools, times, bounds=False)
            result["compare"]["metrics"][name] = {
                "value": found["value"],
                "interval": found["interval"],
                "difference": _number(values[0] - second[0]),
                "difference_interval": interval(values - second, metric.recentre),
            }
    print(table(result))
    if options.papers:
        lines, differences = paper_table(options.papers, result)
        warnings += differences
        print(f"\n{lines}")
    for warning in warnings:
        print(f"warning: {warning}")
    if names:
        with replacing(samples.folder / "metrics.json") as temporary:
            text = json.dumps(result, indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        print(samples.folder / "metrics.json")
    if options.pictures:
        for path in draw_gallery(samples, materials[0], counts, result, tools, options.stories):
            print(path)
    return result


def _paired(one: Samples, two: Samples, warnings: list[str]) -> tuple[Samples, Samples]:
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
    return replace(one, stories=shared), replace(two, stories=both)


def _measure_frames(name: str, material: Material, tools: Tools, draws: np.ndarray, bounds=True):
    """Values (draws,), the entry of metrics.json, counts (S, K, 2)."""
    metric = METRICS[name]
    counts = metric.count(material, tools)
    values = _ratio(draws @ counts.sum(1))
    entry = {
        "value": _number(values[0]),
        "interval": interval(values),
        "n": int((counts[..., 1] > 0).sum()),
        "higher_is_better": metric.higher_is_better,
    }
    if bounds:
        for key, variant in (("floor", material.real()), ("ceiling", material.shuffled())):
            found = None if variant is None else metric.count(variant, tools).sum((0, 1))
            entry[key] = None if found is None else _number(_ratio(found))
        along = [_ratio(draws @ one) for one in counts.swapaxes(0, 1)]
        entry["by_frame"] = [_number(one[0]) for one in along]
        entry["by_frame_interval"] = [interval(one) for one in along]
    return values, entry, counts


def _measure_set(name: str, material: Material, tools: Tools, draws: np.ndarray, bounds=True):
    """Values (draws,), the entry of metrics.json, None."""
    metric: SetMetric = METRICS[name]
    where, sizes = material.drawn, material.drawn.sum(1)
    if where.sum() < 2:
        raise ValueError(f"{name} needs at least two drawn frames, {material.folder} has one")
    drawn = tools.features(material.pictures[where], metric.encoder)
    real = tools.features(material.references[where], metric.encoder)
    against = metric.against(real)
    values = against(drawn, sizes, draws)
    around = interval(values, metric.recentre)
    if metric.recentre and around:  # moving it can push the lower end below any distance
        around = [max(0.0, around[0]), around[1]]
    entry = {
        "value": _number(values[0]),
        "interval": around,
        "n": len(drawn),
        "higher_is_better": False,
    }
    if bounds:
        even, once = np.repeat(np.arange(len(sizes)) % 2 == 0, sizes), np.ones((1, 1))
        halves, one = (real[even], real[~even]), real[: sizes[sizes > 0][0]]
        entry["floor"] = entry["ceiling"] = None
        if min(map(len, halves)) > 1:
            distance = metric.against(halves[0])(halves[1], [len(halves[1])], once)
            entry["floor"] = _number(distance[0])
        if len(one) > 1:
            entry["ceiling"] = _number(against(one, [len(one)], once)[0])
    return values, entry, None


def _ratio(counts: np.ndarray) -> np.ndarray:
    """(..., 2) numerator and denominator -> (...), NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts[..., 0] / counts[..., 1]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
