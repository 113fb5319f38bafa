"""Stories made of a new character's few pictures.

Who is new and who is old take turns in them, so that the word has to be learnt; now and then a
picture comes twice, the second time with a pronoun where one is given, so that the model also
learns to recognise the character in earlier frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image

__all__ = ["AUTO", "Frame", "NewCharacter", "finds", "resized", "tell_stories"]

AUTO = "auto"  # class word: the known words that a character's pictures fit best
OLD = 0.25  # how often an old frame comes next
AGAIN = 0.5  # how often the same picture comes once more, so that earlier frames are looked at
PRONOUN = 0.7  # how often the character is called by its pronoun then
Frame = tuple[np.ndarray, str]  # a picture, or its bytes as a story file keeps them; its caption


@dataclass(frozen=True)
class NewCharacter:
    """pictures: square; captions: one for each, which says the word."""

    word: str
    pictures: Sequence[Image.Image]
    captions: Sequence[str]
    pronoun: str | None = None

    def called(self, caption: str, name: str) -> str:
        """A caption with another name for it."""
        caption = finds(self.word).sub(name, caption)
        return caption[:1].upper() + caption[1:]


def finds(word: str) -> re.Pattern:
    """Finds it as the tokenizers do: whole, in any case."""
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def tell_stories(
    characters: Sequence[NewCharacter],
    old: Sequence[Frame],
    count: int,
    frames: int,
    size: int,
    seed: int,
) -> Iterator[list[Frame]]:
    """`count` stories of `frames` frames.

    old: frames that need no frame before them; they and the characters take turns, so that the word
        alone has to tell who is meant. size: of the pictures, (size, size, 3) uint8.
    """
    views = {one.word: [resized(picture, size) for picture in one.pictures] for one in characters}
    for number in range(count):
        random, story = Random(f"{seed}/{number}"), []
        while len(story) < frames:
            if old and random.random() < OLD:
                story.append(random.choice(old))
                continue
            character = random.choice(characters)
            shown = random.randrange(len(character.pictures))
            picture, caption = views[character.word][shown], character.captions[shown]
            story.append((picture, caption))
            if len(story) < frames and random.random() < AGAIN:
                if character.pronoun and random.random() < PRONOUN:
                    caption = character.called(caption, character.pronoun)
                story.append((picture, caption))
        yield story


def resized(picture: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8."""
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3))
