"""Exact metrics for the cartoon world: what a judge reads from drawn frames against the labels.

clothes_accuracy looks at each appearance of a character (in the label's cast) after the story's
first: the judged shirt must equal the shirt judged at the first appearance, as drawn, whatever the
label says; where the first appearance was a given frame, its true shirt is the one to keep. An
appearance where the judge does not see the character is wrong, and where it did not see the first
there is nothing to keep, so all later ones are wrong.

weather_accuracy looks at frames whose caption does not name the weather, object_accuracy at those
where somebody carries an object that the caption does not name: kind, colour and carrier count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import islice

import numpy as np
import torch

from evaluation.metrics.bootstrap import ratio
from evaluation.metrics.material import Material
from evaluation.networks.features import Features, Network
from evaluation.networks.judge import check_world, decode, same_object
from evaluation.samples import SampledStory, Samples

__all__ = [
    "ROWS", "chance", "check_labels", "count_frames", "frame_verdicts", "readings", "story_note",
]  # fmt: skip

ROWS = (
    "place_accuracy", "place_named_accuracy", "frame_accuracy", "character_f1", "pronoun_accuracy",
    "action_accuracy", "clothes_accuracy", "all_right", "held_out_frame_accuracy",
    "weather_accuracy", "object_accuracy",
)  # fmt: skip


@lru_cache(maxsize=4)
def readings(material: Material, judge: Network, features: Features) -> list[list[dict]]:
    """The judge's reading of every frame of every story."""
    there = [[path for path in row if path is not None] for row in material.pictures]
    answers = features([path for row in there for path in row], judge.encoders["answers"])
    read = iter(decode(torch.from_numpy(np.array(answers)), judge.vocabulary))
    return [list(islice(read, len(row))) for row in there]


@lru_cache(maxsize=4)
def _count(material: Material, judge: Network, features: Features) -> np.ndarray:
    """(S, K, len(ROWS), 2)."""
    pairs = zip(material.stories, readings(material, judge, features), strict=True)
    counts = np.zeros((*material.drawn.shape, len(ROWS), 2))
    for row, (story, read) in zip(counts, pairs, strict=True):
        row[: len(read)] = count_frames(story, read)
    return counts


def _measure(row: str, material: Material, judge: Network, features: Features) -> np.ndarray:
    return _count(material, judge, features)[:, :, ROWS.index(row)]


(
    place_accuracy, place_named_accuracy, frame_accuracy, character_f1, pronoun_accuracy,
    action_accuracy, clothes_accuracy, all_right, held_out_frame_accuracy, weather_accuracy,
    object_accuracy,
) = (partial(_measure, row) for row in ROWS)  # fmt: skip


def frame_verdicts(story: SampledStory, readings: Sequence[dict]) -> list[dict]:
    """Per drawn frame: place, cast, action, in the wide world weather and object (bool), shirts
    (list of bool), label, reading."""
    verdicts, first = [], {}
    for k, (label, reading) in enumerate(zip(story.labels, readings, strict=True)):
        worn = label["clothes"] if k < story.given else reading["clothes"]
        kept = [
            first[name] is not None and worn.get(name) == first[name]
            for name in label["cast"]
            if name in first
        ]
        for name in label["cast"]:
            first.setdefault(name, worn.get(name))
        if k >= story.given:
            wide = {
                "weather": reading.get("weather") == label.get("weather"),
                "object": same_object(reading, label),
            }
            verdicts.append(
                {
                    "place": reading["place"] == label["place"],
                    "cast": set(reading["cast"]) == set(label["cast"]),
                    "action": reading["action"] == label["action"],
                    **(wide if "weather" in label else {}),
                    "shirts": kept,
                    "label": label,
                    "reading": reading,
                }
            )
    return verdicts


def story_note(story: SampledStory, readings: Sequence[dict]) -> str:
    """One line for a storyboard, such as `cast 5/5 · place 4/5 · action 5/5 · shirts 3/4`."""
    verdicts = frame_verdicts(story, readings)
    shirts = [kept for verdict in verdicts for kept in verdict["shirts"]]
    kinds = ("cast", "place", "action", "weather", "object")
    tallies = {key: [verdict[key] for verdict in verdicts if key in verdict] for key in kinds}
    return " · ".join(
        f"{key} {sum(right)}/{len(right)}"
        for key, right in (*tallies.items(), ("shirts", shirts))
        if right
    )


def chance(stories: Sequence[SampledStory], vocabulary: dict) -> dict[str, float | None]:
    """The expected value of every metric for a guesser who looks at no picture.

    For each drawn frame it guesses, independently, a place and an action (each name of the
    vocabulary equally likely), a cast (drawn from the casts of all drawn frames, as often as they
    occur there), and for every shirt to keep a colour (each equally likely; a shirt is guessed on
    whoever should wear one, so that this number is about colours alone). In the wide world, also a
    weather, and an object, its colour and one of those there to carry it. The expectation is exact;
    for F1 it is the ratio of the expected sums.
    """
    place, action, colour = (1 / len(vocabulary[key]) for key in ("places", "actions", "clothes"))
    drawn = [label for story in stories for label in story.labels[story.given :]]
    casts = Counter(frozenset(label["cast"]) for label in drawn)
    guess = {cast: count / len(drawn) for cast, count in casts.items()}
    present = Counter(name for label in drawn for name in label["cast"])  # times drawn, by name
    total = np.zeros((len(ROWS), 2))
    for story in stories:
        for verdict in frame_verdicts(story, story.labels):
            label, shirts = verdict["label"], len(verdict["shirts"])
            weather = 1 / len(vocabulary["weathers"]) if "weather" in label else 1
            held = 1 / len(vocabulary["objects"]) if "object" in label else 1
            if label.get("carrier"):
                held /= len(vocabulary["colours"]) * len(label["cast"])
            hits = sum(present[name] / len(drawn) for name in label["cast"])
            sizes = len(label["cast"]) + sum(present.values()) / len(drawn)
            right = (place, guess[frozenset(label["cast"])], action, weather, held)
            kept = (shirts * colour, shirts)
            total += _rows(label, right, (2 * hits, sizes), kept, colour**shirts)
    values = zip(ROWS, ratio(total).tolist(), strict=True)
    return {row: value if value == value else None for row, value in values}


def count_frames(story: SampledStory, readings: Sequence[dict]) -> np.ndarray:
    """(frames, len(ROWS), 2) numerators and denominators; zeros for given frames."""
    counts = np.zeros((len(story.frames), len(ROWS), 2))
    for k, verdict in enumerate(frame_verdicts(story, readings), story.given):
        truth, seen = set(verdict["label"]["cast"]), set(verdict["reading"]["cast"])
        right = [verdict.get(key, True) for key in ("place", "cast", "action", "weather", "object")]
        characters, shirts = (2 * len(truth & seen), len(truth) + len(seen)), verdict["shirts"]
        kept = (sum(shirts), len(shirts))
        counts[k] = _rows(verdict["label"], right, characters, kept, all(shirts))
    return counts


def _rows(
    label: dict,
    right: Sequence[float],
    characters: tuple[float, float],
    kept: tuple[float, float],
    all_kept: float,
) -> np.ndarray:
    """One frame's share of each metric, in the order of ROWS; bools or probabilities.

    right: place, cast, action, weather and object.
    """
    place, cast, action, weather, held = right
    named, pronoun, held_out = (
        bool(label.get(key)) for key in ("place_named", "pronoun_only", "held_out")
    )
    weather_open = "weather" in label and not label.get("weather_named")
    held_open = bool(label.get("carrier")) and not label.get("object_named")
    combination = math.prod(right)
    return np.array(
        [
            (place * (not named), not named),
            (place * named, named),
            (cast, 1),
            characters,
            (cast * pronoun, pronoun),
            (action, 1),
            kept,
            (combination * all_kept, 1),
            (combination * held_out, held_out),
            (weather * weather_open, weather_open),
            (held * held_open, held_open),
        ],
        dtype=float,
    )


def check_labels(samples: Samples, judge: Network) -> None:
    """ValueError for stories of another world, and a frame whose label lacks something."""
    check_world(samples, judge)
    for story in samples.stories:
        for label in story.labels or [{}]:
            needed = {"place", "cast", "clothes", "action"}
            if "weathers" in judge.vocabulary:
                needed |= {"weather", "object", "colour", "carrier"}
            if missing := needed - set(label):
                raise ValueError(
                    f"story {story.story_id!r} has a frame without label {sorted(missing)[0]!r}: "
                    "the cartoon metrics need stories whose file holds labels"
                )
