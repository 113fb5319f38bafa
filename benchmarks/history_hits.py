"""Do history weights find the frame that is needed? In the cartoon world the labels know which.

    python -m benchmarks.history_hits SAMPLES     (drawn with causal_story.history_weights=true)

Storyboards show the weights of each story as a map.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np

from common.terminal import error_in_one_line
from evaluation.samples import SampledStory, read_samples

__all__ = ["history_hits", "needed_frames"]


def needed_frames(story: SampledStory, n: int) -> set[int]:
    """Earlier frames that show, each on its own, all that caption n leaves open.

    Open is whoever is drawn but not named, and the place if it is not named; in the wide world so
    is the weather, and an object with its carrier. Empty if nothing is open, or if no single frame
    shows all of it.
    """
    labels, label = story.labels, story.labels[n]
    unnamed = {name for name in label["cast"] if name.title() not in story.captions[n]}
    kept = [kind for kind in ("place", "weather") if not label.get(f"{kind}_named", True)]
    if label.get("carrier") and not label["object_named"]:
        kept += ["object", "colour", "carrier"]
    if not unnamed and not kept:
        return set()
    return {
        u
        for u in range(n)
        if unnamed <= set(labels[u]["cast"])
        and all(labels[u][kind] == label[kind] for kind in kept)
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


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        raise ValueError("give one samples folder: python -m benchmarks.history_hits SAMPLES")
    stories = read_samples(arguments[0]).stories
    found = history_hits([story for story in stories if story.labels])
    if found is None:
        raise ValueError(
            f"{arguments[0]} has no labelled story with history weights; sample the cartoon world "
            "with causal_story.history_weights=true"
        )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    with error_in_one_line():
        main(sys.argv[1:])
