"""Exact metrics for the cartoon world: what a judge reads from drawn frames against the labels.

Only drawn frames count: the leading `given` frames of a story are skipped. Every metric is a
ratio of sums over stories, so one table of (numerator, denominator) per story gives the value
and, with stories resampled, its 95 % bootstrap interval.

place_accuracy           right place, frames whose caption does not name it
place_named_accuracy     right place, frames whose caption names it
frame_accuracy           exactly the right cast
character_f1             micro F1 over characters
pronoun_accuracy         exactly the right cast, frames whose caption names nobody
action_accuracy          right action
clothes_accuracy         shirts kept; see `score`
all_right                frames with place, cast, action and kept shirts all right
held_out_frame_accuracy  place, cast and action right, frames with a combination never trained on
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from evaluation.judge import Judge
from evaluation.samples import SampledStory, Samples, read_frames

METRICS = ("place_accuracy", "place_named_accuracy", "frame_accuracy", "character_f1",
           "pronoun_accuracy", "action_accuracy", "clothes_accuracy", "all_right",
           "held_out_frame_accuracy")


def read_stories(samples: Samples, judge: Judge, progress: bool = True) -> list[list[dict]]:
    """The judge's reading of every frame of every story, for `score`."""
    if samples.vocabulary not in (None, judge.vocabulary):
        raise ValueError(f"the judge's label vocabulary is not that of {samples.folder}: train the "
                         "judge on the world these stories come from")
    check_labels(samples.stories)
    return [judge.read(read_frames([story]))
            for story in tqdm(samples.stories, "judging", disable=not progress)]


def score(stories: Sequence[SampledStory], readings: Sequence[Sequence[dict]],
          draws: int = 1000, seed: int = 0) -> dict:
    """{metric: value, ..., "interval": {metric: [low, high]}, "frames": drawn, "stories": n}.

    `readings[s][k]` is the judge's label of frame k of story s. A value is None where no frame
    counts, and so is its interval.

    clothes_accuracy looks at each appearance of a character (in the label's cast) after the
    story's first: the judged shirt must equal the shirt judged at the first appearance, as drawn,
    whatever the label says; where the first appearance was a given frame, its true shirt is the
    one to keep. An appearance where the judge does not see the character is wrong, and where it
    did not see the first there is nothing to keep, so all later ones are wrong.
    """
    check_labels(stories)
    counts = np.array([count_frames(story, read).sum(0)
                       for story, read in zip(stories, readings, strict=True)])
    values = _ratio(counts.sum(0))
    random = np.random.default_rng(seed)
    times = random.multinomial(len(stories), [1 / len(stories)] * len(stories), size=draws)
    drawn = _ratio(np.tensordot(times, counts, 1))  # (draws, metrics)
    interval = {}
    for metric, value, column in zip(METRICS, values, drawn.T, strict=True):
        bounds = np.nanpercentile(column, [2.5, 97.5]).tolist() if value == value else None
        interval[metric] = bounds
    return {**_named(values), "interval": interval,
            "frames": sum(len(story.frames) - story.given for story in stories),
            "stories": len(stories)}


def frame_verdicts(story: SampledStory, readings: Sequence[dict]) -> list[dict]:
    """Per drawn frame: place, cast, action (bool), shirts (list of bool), label, reading."""
    verdicts, first = [], {}
    for k, (label, reading) in enumerate(zip(story.labels, readings, strict=True)):
        worn = label["clothes"] if k < story.given else reading["clothes"]
        kept = [first[name] is not None and worn.get(name) == first[name]
                for name in label["cast"] if name in first]
        for name in label["cast"]:
            first.setdefault(name, worn.get(name))
        if k >= story.given:
            verdicts.append({"place": reading["place"] == label["place"],
                             "cast": set(reading["cast"]) == set(label["cast"]),
                             "action": reading["action"] == label["action"],
                             "shirts": kept, "label": label, "reading": reading})
    return verdicts


def story_note(story: SampledStory, readings: Sequence[dict]) -> str:
    """One line for a storyboard, such as `cast 5/5 · place 4/5 · action 5/5 · shirts 3/4`."""
    verdicts = frame_verdicts(story, readings)
    shirts = [kept for verdict in verdicts for kept in verdict["shirts"]]
    tallies = {key: [verdict[key] for verdict in verdicts] for key in ("cast", "place", "action")}
    return " · ".join(f"{key} {sum(right)}/{len(right)}"
                      for key, right in (*tallies.items(), ("shirts", shirts)) if right)


def chance(stories: Sequence[SampledStory], vocabulary: dict) -> dict:
    """The expected value of every metric for a guesser who looks at no picture.

    For each drawn frame it guesses, independently, a place and an action (each name of the
    vocabulary equally likely), a cast (drawn from the casts of all drawn frames, as often as they
    occur there), and for every shirt to keep a colour (each equally likely; a shirt is guessed on
    whoever should wear one, so that this number is about colours alone). The expectation is exact;
    for F1 it is the ratio of the expected sums.
    """
    check_labels(stories)
    place, action, colour = (1 / len(vocabulary[key]) for key in ("places", "actions", "clothes"))
    drawn = [label for story in stories for label in story.labels[story.given:]]
    casts = Counter(frozenset(label["cast"]) for label in drawn)
    guess = {cast: count / len(drawn) for cast, count in casts.items()}
    present = Counter(name for label in drawn for name in label["cast"])  # times drawn, by name
    total = np.zeros((len(METRICS), 2))
    for story in stories:
        for verdict in frame_verdicts(story, story.labels):
            label, cast = verdict["label"], guess[frozenset(verdict["label"]["cast"])]
            shirts = len(verdict["shirts"])
            hits = sum(present[name] / len(drawn) for name in label["cast"])
            sizes = len(label["cast"]) + sum(present.values()) / len(drawn)
            total += _rows(label, place, cast, action, (2 * hits, sizes), shirts * colour, shirts,
                           place * cast * action * colour ** shirts)
    return _named(_ratio(total))


def count_frames(story: SampledStory, readings: Sequence[dict]) -> np.ndarray:
    """(frames, metrics, 2) numerators and denominators; zeros for given frames."""
    counts = np.zeros((len(story.frames), len(METRICS), 2))
    for k, verdict in enumerate(frame_verdicts(story, readings), story.given):
        truth, seen = set(verdict["label"]["cast"]), set(verdict["reading"]["cast"])
        place, cast, action, shirts = (verdict[key] for key in ("place", "cast", "action",
                                                                "shirts"))
        counts[k] = _rows(verdict["label"], place, cast, action,
                          (2 * len(truth & seen), len(truth) + len(seen)), sum(shirts),
                          len(shirts), place and cast and action and all(shirts))
    return counts


def _rows(label: dict, place: float, cast: float, action: float, characters: tuple[float, float],
          kept: float, shirts: int, everything: float) -> np.ndarray:
    """One frame's share of each metric, in the order of METRICS; bools or probabilities."""
    named, pronoun, held_out = (bool(label.get(key)) for key in ("place_named", "pronoun_only",
                                                                 "held_out"))
    return np.array([(place * (not named), not named), (place * named, named), (cast, 1),
                     characters, (cast * pronoun, pronoun), (action, 1), (kept, shirts),
                     (everything, 1), (place * cast * action * held_out, held_out)], dtype=float)


def _ratio(counts: np.ndarray) -> np.ndarray:
    """(..., 2) numerator and denominator -> (...), NaN where nothing was counted."""
    with np.errstate(invalid="ignore"):
        return counts[..., 0] / counts[..., 1]


def _named(values: np.ndarray) -> dict[str, float | None]:
    return {metric: float(value) if value == value else None
            for metric, value in zip(METRICS, values, strict=True)}


def check_labels(stories: Sequence[SampledStory]) -> None:
    if not stories:
        raise ValueError("there is no story to judge: sample at least one")
    for story in stories:
        for label in story.labels or [{}]:
            if missing := {"place", "cast", "clothes", "action"} - set(label):
                raise ValueError(f"story {story.story_id!r} has a frame without label "
                                 f"{sorted(missing)[0]!r}: the cartoon metrics need stories whose "
                                 "file holds labels")
    if not any(len(story.frames) > story.given for story in stories):
        raise ValueError("every frame was given, none was drawn: sample stories of more frames")
