"""What the classifier of characters and backgrounds reads, against the labels."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.material import Material
from evaluation.networks.features import Features, Network
from evaluation.samples import Samples

__all__ = [
    "background_accuracy", "character_f1", "check_backgrounds", "check_labels", "frame_accuracy",
]  # fmt: skip


def check_labels(samples: Samples, classifier: Network) -> None:
    """ValueError for a label that the classifier does not know."""
    characters, places = (classifier.vocabulary[key] for key in ("characters", "places"))
    for story in samples.stories:
        for label in story.labels or ():
            strange = set(label.get("cast", ())) - set(characters)
            if places and label.get("place") not in places:
                strange.add(label.get("place"))
            if strange:
                raise ValueError(
                    f"story {story.story_id!r} has label {min(map(str, strange))!r}, which the "
                    "classifier does not know: train it on this data set"
                )


def check_backgrounds(samples: Samples, classifier: Network) -> None:
    """The same, and ValueError for a classifier of characters only."""
    if not classifier.vocabulary["places"]:
        raise ValueError("background_accuracy needs a classifier with backgrounds: train one")
    check_labels(samples, classifier)


def character_f1(material: Material, classifier: Network, features: Features) -> np.ndarray:
    true, read, *_ = _classified(material, classifier, features)
    hits, sizes = 2 * (true & read).sum(1), true.sum(1) + read.sum(1)
    return material.per_frame(material.drawn, hits, sizes)


def frame_accuracy(material: Material, classifier: Network, features: Features) -> np.ndarray:
    true, read, *_ = _classified(material, classifier, features)
    return material.per_frame(material.drawn, (true == read).all(1))


def background_accuracy(material: Material, classifier: Network, features: Features) -> np.ndarray:
    *_, true, read = _classified(material, classifier, features)
    return material.per_frame(material.drawn, true == read)


def _classified(
    material: Material, classifier: Network, features: Features
) -> tuple[np.ndarray, ...]:
    """Truth and reading of characters (n, C) bool and of backgrounds (n,), over drawn frames."""
    characters, places = (classifier.vocabulary[key] for key in ("characters", "places"))
    labels = [
        label
        for story, drawn in zip(material.stories, material.drawn, strict=True)
        for label, counts in zip(story.labels, drawn, strict=True)
        if counts
    ]
    true = np.array([[name in label["cast"] for name in characters] for label in labels])
    place = np.array([places.index(label["place"]) if places else 0 for label in labels])
    logits = features(material.pictures[material.drawn], classifier.encoders["logits"])
    read = logits[:, : len(characters)] > 0  # sigmoid > 0.5
    rest = logits[:, len(characters) :]
    return true, read, place, rest.argmax(1) if places else place
