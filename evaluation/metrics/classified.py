"""What the classifier of characters and backgrounds reads, against the labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evaluation.metrics.material import Material
from evaluation.networks.features import Features, Network
from evaluation.samples import Samples, places_of

__all__ = [
    "background_accuracy", "character_f1", "check_backgrounds", "check_labels", "frame_accuracy",
]  # fmt: skip


def check_labels(samples: Samples, classifier: Network) -> None:
    """ValueError for labels without characters, or with one that the classifier does not know."""
    _check(samples, classifier, "characters", lambda label: "cast" in label)


def check_backgrounds(samples: Samples, classifier: Network) -> None:
    """The same, and ValueError for a classifier of characters only."""
    if not classifier.vocabulary["places"]:
        raise ValueError("background_accuracy needs a classifier with backgrounds: train one")
    _check(samples, classifier, "backgrounds", places_of)


def _check(
    samples: Samples, classifier: Network, what: str, told: Callable[[dict], object]
) -> None:
    labels = [(story, label) for story in samples.stories for label in story.labels or ()]
    if not any(told(label) for _, label in labels):
        raise ValueError(f"{samples.folder} has no labels that say the {what}: give some that do")
    characters, places = (classifier.vocabulary[key] for key in ("characters", "places"))
    for story, label in labels:
        strange = set(label.get("cast", ())) - set(characters)
        if places:
            strange |= set(places_of(label)) - set(places)
        if strange:
            raise ValueError(
                f"story {story.story_id!r} has label {min(map(str, strange))!r}, which the "
                "classifier does not know: train it on this data set"
            )


def character_f1(material: Material, classifier: Network, features: Features) -> np.ndarray:
    true, read, _, _, known = _classified(material, classifier, features)
    hits, sizes = 2 * (true & read).sum(1), true.sum(1) + read.sum(1)
    return material.per_frame(material.drawn, hits * known, sizes * known)


def frame_accuracy(material: Material, classifier: Network, features: Features) -> np.ndarray:
    true, read, _, _, known = _classified(material, classifier, features)
    return material.per_frame(material.drawn, (true == read).all(1) * known, known)


def background_accuracy(material: Material, classifier: Network, features: Features) -> np.ndarray:
    """Of several backgrounds that are there any is right; a frame without one does not count."""
    _, _, true, read, _ = _classified(material, classifier, features)
    return material.per_frame(material.drawn, true[np.arange(len(read)), read], true.any(1))


def _classified(
    material: Material, classifier: Network, features: Features
) -> tuple[np.ndarray, ...]:
    """Of the n drawn frames: characters there and read, (n, C) bool; backgrounds there, (n, P)
    bool, and the one read, (n,); whose cast is known, (n,) bool."""
    characters, places = (classifier.vocabulary[key] for key in ("characters", "places"))
    labels = [
        label
        for story, drawn in zip(material.stories, material.drawn, strict=True)
        for label, counts in zip(story.labels, drawn, strict=True)
        if counts
    ]
    true = np.array([[name in label.get("cast", ()) for name in characters] for label in labels])
    place = np.array([[name in places_of(label) for name in places] for label in labels])
    logits = features(material.pictures[material.drawn], classifier.encoders["logits"])
    read = logits[:, : len(characters)] > 0  # sigmoid > 0.5
    rest = logits[:, len(characters) :]
    known = np.array(["cast" in label for label in labels])
    return true, read, place, rest.argmax(1) if places else None, known
