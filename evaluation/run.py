"""Evaluates a samples folder: checks, measures, compares, and writes what was found.

`evaluate(Options(samples=DIR, metrics=[...]))` is all of it, for the command line and
`mode: sample`; the demo, which draws pictures of its own, calls `measure` alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import check_writable, file_hash, replacing
from common.key_value_arguments import check
from evaluation.comparison_table import COMMENTS, SUFFIXES, comparison_table
from evaluation.metrics.bootstrap import interval, paired_p, story_weights
from evaluation.metrics.choice import choose, load_networks
from evaluation.metrics.material import Material
from evaluation.metrics.table import Metric
from evaluation.options import Options
from evaluation.own_files import MARK, refuse_others
from evaluation.published import published_table
from evaluation.report import protocol, table
from evaluation.samples import MANIFEST, PLOT, STORYBOARD, Samples, open_samples

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy as np

    from evaluation.metrics.measure import Measured

__all__ = ["evaluate", "measure"]

LIBRARIES = ("torch", "torchvision", "torchmetrics", "open_clip_torch", "numpy", "pillow")


@dataclass(frozen=True)
class _System:
    """A column of the table: samples of the same stories, one folder a seed."""

    folder: str
    runs: list[Samples]

    @property
    def materials(self) -> list[Material]:
        return [Material.of(str(run.folder), run.stories) for run in self.runs]


def evaluate(options: Options, only: Sequence[str] | None = None) -> dict:
    """Measure, print, write metrics.json, charts and storyboards into the folder; the metrics.

    only: ids of the stories in `samples` that count; None: all.
    """
    result, *found = measure(options, only)
    if options.pictures:
        from evaluation.pictures.gallery import draw_gallery  # charts take a second to import

        out = Path(options.out or options.samples)
        for path in draw_gallery(*found, out, result, options.stories):
            print(path)
    return result


def measure(
    options: Options, only: Sequence[str] | None = None
) -> tuple[dict, Samples, dict[str, np.ndarray], list[list[dict]] | None]:
    """As above, without pictures: the metrics, and of every frame what was found, as
    `story_notes` takes it.
    """
    check(options)
    if options.out and Path(options.out).is_file():
        raise ValueError(f"out={options.out} is a file: give the name of a folder")
    others = options.compare or []
    if isinstance(others, str):  # a folder's name may hold commas
        others = [others] if Path(others).is_dir() else others.split(",")
    warnings: list[str] = []
    ours = _open(options.samples, options)
    if only is not None:
        ours = _just(ours, {*only}, options)
    systems = _paired([ours, *(_open(place, options) for place in others)], warnings)
    samples, materials = systems[0].runs[0], [one.materials for one in systems]
    metrics, skipped = choose(options, [run for runs in materials for run in runs])
    out = Path(options.out or systems[0].folder)
    refuse_others(out, _to_write(metrics, options), samples.folder)
    if metrics or options.format or options.pictures:
        check_writable(out / "metrics.json")
    result = {
        "samples": systems[0].folder,
        "stories": len(samples.stories),
        "frames": int(materials[0][0].drawn.sum()),
        "metrics": {},
        "not_measured": skipped,
        "warnings": warnings,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    if (manifest := samples.folder / MANIFEST).is_file():
        result["manifest"] = file_hash(manifest)  # another one once frames are drawn again
    if seeds := len(systems[0].runs) - 1:
        result["seeds"] = seeds + 1
    counts, readings = {}, None
    if not metrics:
        _warn_of_other_metrics(out / "metrics.json", result)
    else:
        counts, readings = _measure(metrics, systems, materials, options, result)
    print(table(result))
    if options.papers:
        lines, differences = published_table(options.papers, result)
        warnings += differences
        print(f"\n{lines}")
    for warning in warnings:
        print(f"warning: {warning}")
    if metrics:
        with replacing(out / "metrics.json") as temporary:
            text = json.dumps(result, indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        print(out / "metrics.json")
    if options.format:
        text = comparison_table(result, options.format)
        path = out / f"table{SUFFIXES[options.format]}"
        with replacing(path) as temporary:
            ending = COMMENTS[options.format].format(MARK)
            temporary.write_text(text + ending, encoding="utf-8")
        print(f"\n{text}{path}")
    return result, samples, counts, readings


def _to_write(metrics: Sequence[Metric], options: Options) -> list[str]:
    names = ["metrics.json"] if metrics else []
    if options.format:
        names.append(f"table{SUFFIXES[options.format]}")
    if options.pictures:
        names += [STORYBOARD, "storyboard.html", *[PLOT] * bool(metrics)]
    return names


def _warn_of_other_metrics(path: Path, result: dict) -> None:
    """An earlier evaluation's numbers stay beside the new pictures: say if they are of others."""
    try:
        then = json.loads(path.read_bytes())
        folders = [Path(one["samples"]).resolve() for one in (then, result)]
        same = folders[0] == folders[1] and then["stories"] == result["stories"]
        if not same or then.get("manifest") != result.get("manifest"):
            result["warnings"].append(
                f"{path} stays, but measures {then['samples']} as it was then: give metrics=… to "
                f"measure what is shown now, or delete it"
            )
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is not ours
        return


def _open(place: str, options: Options) -> _System:
    folder = Path(place)
    seeds = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    seeds = seeds if seeds and not (folder / MANIFEST).is_file() else [folder]
    named = (options.reference, options.captions, options.story_length, options.labels)
    return _System(place, [open_samples(one, *named, options.benchmark) for one in seeds])


def _just(system: _System, names: set[str], options: Options) -> _System:
    if options.benchmark:  # what was drawn in parts is one story by now
        names |= {name.rpartition("-part")[0] for name in names}
    runs = [replace(run, stories=[story for story in run.stories if story.story_id in names])
            for run in system.runs]  # fmt: skip
    return replace(system, runs=runs)


def _paired(systems: Sequence[_System], warnings: list[str]) -> list[_System]:
    """Only the stories that all folders have, in one order."""
    runs = [run for system in systems for run in system.runs]
    found = [{story.story_id: story for story in run.stories} for run in runs]
    shared = [name for name in found[0] if all(name in one for one in found)]
    if not shared:
        names = " and ".join(str(run.folder) for run in runs)
        raise ValueError(f"{names} share no story: compare the same stories")
    for run, stories in zip(runs[1:], found[1:], strict=True):
        bare = not (run.folder / MANIFEST).is_file()
        for name in shared:
            first, other = found[0][name], stories[name]
            if bare and not any(other.captions) and len(other.frames) == len(first.frames):
                # Another system's pictures alone.
                other = stories[name] = replace(first, frames=other.frames)
            for key in ("captions", "given"):
                if getattr(first, key) != getattr(other, key):
                    raise ValueError(
                        f"story {name!r} has other {key} in {run.folder} than in "
                        f"{runs[0].folder}: compare folders of the same task and captions"
                    )
    if len(shared) < max(map(len, found)):
        lengths = ", ".join(
            f"{len(one)} in {run.folder}" for run, one in zip(runs, found, strict=True)
        )
        warnings.append(f"only the {len(shared)} stories in all folders count, of {lengths}")
    kept = iter([replace(run, stories=[one[name] for name in shared])
                 for run, one in zip(runs, found, strict=True)])  # fmt: skip
    return [replace(system, runs=[next(kept) for _ in system.runs]) for system in systems]


def _measure(
    metrics: list[Metric],
    systems: Sequence[_System],
    materials: Sequence[Sequence[Material]],
    options: Options,
    result: dict,
) -> tuple[dict[str, np.ndarray], list[list[dict]] | None]:
    """Fill `result`; {metric of frames: counts (S, K, 2)}, and what the judge read if asked."""
    # torch takes seconds to import, and pictures alone do not need it
    from evaluation.metrics.measure import Measurement, shifts
    from evaluation.networks.features import FeatureCache, Features

    features = Features(FeatureCache(options.cache), options.batch_size, options.processes)
    runs = [run for system in systems for run in system.runs]
    networks = load_networks(metrics, options, runs, result["not_measured"])
    first, draws = materials[0][0], story_weights(len(materials[0][0].stories), options.draws)
    variants = {"real": first.real(), "shuffled": first.shuffled()}
    counts, readings, guess = {}, None, {}
    if judge := next((networks[one.network] for one in metrics if one.file == "judge"), None):
        result["judge_error"] = judge.known_error
    if any(metric.group == "cartoon" for metric in metrics):
        from evaluation.metrics import cartoon

        readings = cartoon.readings(first, judge, features)
        guess = cartoon.chance(first.stories, judge.vocabulary)
    result["compare"] = [{"samples": one.folder, "metrics": {}} for one in systems[1:]]
    for metric in metrics:
        network, moved = networks[metric.network], shifts(metric)
        times = draws[: 1 + options.frechet_draws] if moved else draws
        measure = Measurement(metric, network, features, times)
        found = [measure(materials[0], variants), *map(measure, materials[1:])]
        entry = found[0].entry
        if found[0].by_frame is not None:
            counts[metric.name] = found[0].by_frame
        if metric.group == "cartoon":
            entry["chance"] = guess.get(metric.name.removeprefix("cartoon/"))
        entry["protocol"] = protocol(metric, network)
        entry["weights"] = network and {"file": network.file, "sha256": network.sha256}
        result["metrics"][metric.name] = entry
        if moved and entry["n"] < (width := network.encoders["features"].width):
            off = "high" if "references" in metric.needs else "low"
            result["warnings"].append(
                f"{metric.name}: {entry['n']} frames are fewer than the {width} features, so it "
                f"reads too {off}; compare it only with values of as many frames"
            )
        best = _as_good_as_the_best(found, moved)
        entry["best"] = best[0] and len(systems) > 1
        for column, second, as_good in zip(result["compare"], found[1:], best[1:], strict=True):
            column["metrics"][metric.name] = {
                **second.entry,
                **_difference(found[0], second, moved),
                "best": as_good,
            }
    if not result["compare"]:
        del result["compare"]
    return counts, readings


def _difference(one: Measured, two: Measured, moved: bool) -> dict:
    from evaluation.metrics.measure import number

    found = {
        "difference": number(one.values[0] - two.values[0]),
        "difference_interval": interval(one.values - two.values, moved),
    }
    if one.by_story is not None:
        found["p"] = paired_p(one.by_story, two.by_story)
    return found


def _as_good_as_the_best(found: Sequence[Measured], moved: bool) -> list[bool]:
    """Of each system with a value, whether it may be the best: the interval of the difference
    holds 0, or there is none."""
    sign = 1 if found[0].entry["higher_is_better"] else -1
    known = [one for one in found if one.entry["value"] is not None]
    if not known:
        return [False] * len(found)
    best = max(known, key=lambda one: sign * one.entry["value"])
    alike = []
    for one in found:
        around = interval(one.values - best.values, moved)
        apart = around is not None and not around[0] <= 0 <= around[1]
        alike.append(one.entry["value"] is not None and not apart)
    return alike
