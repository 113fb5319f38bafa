"""What classifiers of characters and of backgrounds read, against the labels.

A classifier that names one background a frame (ours) is right if it is among the labelled ones; one
that gives each its own yes or no (StoryGPT-V's) must have all of them right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from common.key_value_arguments import spelled
from evaluation.metrics.material import Material
from evaluation.networks.features import Features, Network
from evaluation.samples import Samples, places_of, strange_names

__all__ = [
    "background_accuracy", "background_f1", "character_f1", "check_backgrounds", "check_labels",
    "frame_accuracy",
]  # fmt: skip


def check_labels(samples: Samples, classifier: Network) -> None:
    """ValueError for labels without characters, or with one that the classifier does not know."""
    _check(samples, classifier, "characters", lambda label: "cast" in label)


def check_backgrounds(samples: Samples, classifier: Network) -> None:
    """The same, and ValueError for a classifier of characters only."""
    if not classifier.vocabulary["places"]:
        raise ValueError(
            f"{classifier.file} reads no backgrounds: give {spelled('background_classifier')}=FILE"
        )
    _check(samples, classifier, "backgrounds", places_of)


def _check(
    samples: Samples, classifier: Network, what: str, told: Callable[[dict], object]
) -> None:
    labels = [(story, label) for story in samples.stories for label in story.labels or ()]
    if not any(told(label) for _, label in labels):
        raise ValueError(f"{samples.folder} has no labels that say the {what}: give some that do")
    characters, places = (classifier.vocabulary[key] for key in ("characters", "places"))
    for story, label in labels:
        if strange := strange_names(label, characters, places):
            raise ValueError(
                f"story {story.story_id!r} has label {strange[0]!r}, which the classifier does not "
                "know: train it on this data set"
            )


def character_f1(material: Material, classifier: Network, features: Features) -> np.ndarray:
    true, read, known = _characters(material, classifier, features)
    return _f1(material, true, read, known)


def frame_accuracy(material: Material, classifier: Network, features: Features) -> np.ndarray:
    true, read, known = _characters(material, classifier, features)
    return material.per_frame(material.drawn, (true == read).all(1) * known, known)


def background_accuracy(material: Material, classifier: Network, features: Features) -> np.ndarray:
    """A frame without a labelled background counts only where each has its own yes or no."""
    true, read, known = _backgrounds(material, classifier, features)
    if classifier.one_place:
        return material.per_frame(material.drawn, (true & read).any(1), true.any(1))
    return material.per_frame(material.drawn, (true == read).all(1) * known, known)


def background_f1(material: Material, classifier: Network, features: Features) -> np.ndarray:
    true, read, known = _backgrounds(material, classifier, features)
    return _f1(material, true, read, known & (true.any(1) | (not classifier.one_place)))


def _f1(material: Material, true: np.ndarray, read: np.ndarray, known: np.ndarray) -> np.ndarray:
    hits, sizes = 2 * (true & read).sum(1), true.sum(1) + read.sum(1)
    return material.per_frame(material.drawn, hits * known, sizes * known)


def _characters(material: Material, classifier: Network, features: Features) -> tuple:
    """Of the n drawn frames: characters there and read, (n, C) bool; whose cast is known, (n,)."""
    names, labels = classifier.vocabulary["characters"], _labels(material)
    true = np.array([[name in label.get("cast", ()) for name in names] for label in labels])
    logits = features(material.pictures[material.drawn], classifier.encoders["logits"])
    known = np.array(["cast" in label for label in labels])
    return true, logits[:, : len(names)] > 0, known  # sigmoid > 0.5


def _backgrounds(material: Material, classifier: Network, features: Features) -> tuple:
    """The same of backgrounds."""
    names, labels = classifier.vocabulary["places"], _labels(material)
    true = np.array([[name in places_of(label) for name in names] for label in labels])
    logits = features(material.pictures[material.drawn], classifier.encoders["logits"])
    rest = logits[:, logits.shape[1] - len(names) :]
    read = rest > 0
    if classifier.one_place:
        read = np.arange(len(names)) == rest.argmax(1)[:, None]
    return true, read, np.array(["place" in label for label in labels])


def _labels(material: Material) -> list[dict]:
    """Of the n drawn frames."""
    return [
        label
        for story, drawn in zip(material.stories, material.drawn, strict=True)
        for label, counts in zip(story.labels, drawn, strict=False)  # shorter than the longest
        if counts
    ]
