"""Do history weights find the frame that is needed? In the cartoon world the labels know which.

    python -m benchmarks.history_hits SAMPLES --picture weights.png    the rate, and a look
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from evaluation.heat_map import draw_heat_map
from evaluation.samples import SampledStory, read_picture, read_samples
from evaluation.storyboard import typeface, wrap

__all__ = ["history_hits", "needed_frames"]


def needed_frames(story: SampledStory, n: int) -> set[int]:
    """Earlier frames that show, each on its own, all that caption n leaves open.

    Open is whoever is drawn but not named, and the place if it is not named. Empty if nothing is
    open, or if no single frame shows all of it.
    """
    labels, label = story.labels, story.labels[n]
    unnamed = {name for name in label["cast"] if name.title() not in story.captions[n]}
    if label["place_named"] and not unnamed:
        return set()
    return {
        u
        for u in range(n)
        if unnamed <= set(labels[u]["cast"])
        and (label["place_named"] or labels[u]["place"] == label["place"])
    }


def history_hits(stories: Sequence[SampledStory]) -> dict[str, float | int] | None:
    """How often the largest weight is on a needed frame; None where there are no weights.

    Only drawn frames count of which some, but not all, earlier frames are needed. Beside `rate`:
    `chance`, of a frame picked blindly; `latest`, of always looking at the frame before; `mass`,
    the share of all weight that lies on needed frames (with equal weights: chance).
    """
    rows = []
    for story in stories:
        for n in range(max(1, story.given), len(story.frames)) if story.history_weights else ():
            weights = np.array(story.history_weights[n][:n])
            needed = needed_frames(story, n) & set(np.flatnonzero(weights > 0).tolist())
            seen = int((weights > 0).sum())
            if 0 < len(needed) < seen:
                rows.append(
                    (int(weights.argmax()) in needed, len(needed) / seen, n - 1 in needed,
                     weights[list(needed)].sum())
                )  # fmt: skip
    if not rows:
        return None
    means = np.mean(np.array(rows, dtype=float), axis=0).tolist()
    names = ("rate", "chance", "latest", "mass")
    return {**dict(zip(names, means, strict=True)), "frames": len(rows)}


def draw_weights(stories: Sequence[SampledStory], side: int = 128, gap: int = 10) -> Image.Image:
    """Drawn frames and captions; at the right their heat map, needed frames ringed."""
    columns = max(len(story.frames) for story in stories)
    width, height = (columns + 1) * (side + gap) + gap, side + 62
    page = Image.new("RGB", (width, len(stories) * height), "#ffffff")
    draw = ImageDraw.Draw(page)
    for row, story in enumerate(stories):
        top = row * height + gap
        for k, (path, caption) in enumerate(zip(story.frames, story.captions, strict=True)):
            left = gap + k * (side + gap)
            page.paste(Image.fromarray(read_picture(path)).resize((side, side)), (left, top))
            for n, line in enumerate(wrap(caption, 12, side)[:3]):
                draw.text((left, top + side + 3 + 14 * n), line, "#1d1f23", typeface(12))
        needed = [needed_frames(story, n) for n in range(len(story.frames))]
        cells = draw_heat_map(story.history_weights, (side - gap) // (columns - 1), needed)
        page.paste(cells, (width - side, top))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("samples", type=Path, help="drawn with causal_story.history_weights=true")
    parser.add_argument("--picture", type=Path, help="a PNG to write")
    parser.add_argument("--stories", type=int, default=3, help="how many it shows")
    args = parser.parse_args()
    try:
        stories = read_samples(args.samples).stories
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    stories = [story for story in stories if story.labels and story.history_weights]
    found = history_hits(stories)
    if found is None:
        sys.exit(f"error: {args.samples} has no labelled story with history weights; sample the "
                 "cartoon world with causal_story.history_weights=true")  # fmt: skip
    print(json.dumps(found, indent=1))
    if args.picture:
        draw_weights(stories[: args.stories]).quantize(256).save(args.picture, optimize=True)


if __name__ == "__main__":
    main()
