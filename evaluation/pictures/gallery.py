"""Orders stories, worst and best first, writes numbers under frames, and draws the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.files import replacing
from evaluation.metrics.table import METRICS
from evaluation.own_files import MARK
from evaluation.pictures.page import write_storyboard_html
from evaluation.pictures.plots import plot_by_frame
from evaluation.pictures.storyboard import draw_storyboard
from evaluation.samples import PLOT, STORYBOARD, Samples

__all__ = ["draw_gallery", "story_notes", "worst_and_best_first"]

MOST = 4  # metrics under a frame
BESIDE = ("cartoon/psnr",)  # the cartoon metrics beside `_wrong`, which says the others
ORDER = "cartoon/all_right"  # sorts stories where it was measured


def draw_gallery(
    samples: Samples,
    counts: Mapping[str, np.ndarray],
    readings: Sequence[Sequence[dict]] | None,
    out: Path,
    result: dict,
    stories: int,
) -> list[Path]:
    """Write into `out` storyboard.png (`stories` of them), storyboard.html (all), and the charts
    metrics_by_frame.png.

    Stories are ordered by `ORDER` or the first of `counts` {metric: (S, K, 2)}; returns the paths.
    readings: what the judge read in each frame, if it was asked.
    """
    written, plot = [], None
    if chart := plot_by_frame(result["metrics"]):
        plot = out / PLOT
        written.append(plot)
        with replacing(plot) as temporary:
            chart.savefig(temporary, format="png", metadata={"Software": MARK})
    ids = [story.story_id for story in samples.stories]
    order, notes, ranked = list(range(len(ids))), {}, 0
    if counts:
        name = next(iter(counts)) if ORDER not in counts else ORDER
        total = counts[name].sum(1)
        with np.errstate(invalid="ignore"):
            scores = total[:, 0] / total[:, 1]
        sign = 1 if METRICS[name].higher_is_better else -1
        order = worst_and_best_first(sign * scores, stories)
        ranked = min(stories, int((~np.isnan(scores)).sum()))
        label = name.removeprefix("cartoon/").replace("_", " ")
        notes = {ids[s]: f"{label} {scores[s]:.2f}" for s in order if scores[s] == scores[s]}
    judged, frame_notes = story_notes(samples, counts, readings)
    notes |= judged
    for place, s in enumerate(order[:ranked]):
        rank = "worst" if place < -(-ranked // 2) else "best"
        notes[ids[s]] = " · ".join(filter(None, [rank, notes.get(ids[s], "")]))
    wanted, everything = [ids[s] for s in order[:stories]], [ids[s] for s in order]
    shared = {"notes": {"drawn": notes}, "frame_notes": {"drawn": frame_notes}}
    png, html = out / STORYBOARD, out / "storyboard.html"
    written.append(draw_storyboard(samples, png, wanted, **shared))
    written.append(write_storyboard_html(samples, html, everything, plot=plot, **shared))
    return written


def story_notes(
    samples: Samples,
    counts: Mapping[str, np.ndarray],
    readings: Sequence[Sequence[dict]] | None,
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """{story id: what the judge counts right}, empty if it was not asked, and {story id: a text for
    each frame}; the arguments are as above."""
    if readings is not None:  # by a network, so that torch is there already
        from evaluation.metrics.cartoon import frame_verdicts, story_note
    notes, frame_notes = {}, {}
    for s, story in enumerate(samples.stories):
        rows = _numbers(counts, s)[: len(story.frames)]
        if readings is not None:
            notes[story.story_id] = story_note(story, readings[s])
            for k, verdict in enumerate(frame_verdicts(story, readings[s]), story.given):
                rows[k].insert(0, _wrong(verdict))
        frame_notes[story.story_id] = [" · ".join(row) for row in rows]
    return notes, frame_notes


def worst_and_best_first(scores: Sequence[float], shown: int) -> list[int]:
    """Indices: half of `shown` the lowest, half the highest (best first), then the others."""
    ranked = sorted(range(len(scores)), key=lambda s: (np.isnan(scores[s]), scores[s]))
    known = [s for s in ranked if not np.isnan(scores[s])]
    worst = known[: -(-min(shown, len(known)) // 2)]
    best = known[::-1][: min(shown, len(known)) - len(worst)]
    first = worst + best
    return first + [s for s in range(len(scores)) if s not in set(first)]


def _numbers(counts: Mapping[str, np.ndarray], story: int) -> list[list[str]]:
    """Per frame, texts such as `clip_t 0.31`."""
    names = [name for name in counts if not name.startswith("cartoon/") or name in BESIDE][:MOST]
    frames = next(iter(counts.values())).shape[1] if counts else 0
    rows: list[list[str]] = [[] for _ in range(frames)]
    for name in names:
        for k, (top, bottom) in enumerate(counts[name][story]):
            if bottom:
                said = name.removeprefix("cartoon/").replace("_", " ")
                rows[k].append(f"{said} {top / bottom:.2f}")
    return rows


def _wrong(verdict: dict) -> str:
    kinds = ("cast", "place", "action", "weather", "object")
    wrong = [key for key in kinds if not verdict.get(key, True)]
    wrong += ["shirts"] * (not all(verdict["shirts"]))
    return f"wrong: {', '.join(wrong)}" if wrong else "all right"
