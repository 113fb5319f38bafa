"""Stories made of a new character's few pictures.

Who is new and who is old take turns in them, so that the word has to be learnt; mostly a picture
stays for some frames, with a pronoun where one is given, so that the model also learns to look for
the character in earlier frames. A story has one picture of each: clothes stay the same.
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
AGAIN = 0.75  # how often the same picture comes once more, so that earlier frames are looked at
PRONOUN = 0.9  # how often the character is called by its pronoun then
# How often the pronoun is all that is said: place and action tell one of a few pictures from the
# others, and would be learnt by heart instead of looking.
BARE = 0.5
Frame = tuple[np.ndarray, str]  # a picture, or its bytes as a story file keeps them; its caption


@dataclass(frozen=True)
class NewCharacter:
    """pictures: square; captions: one for each, which says the word; oblong: how many have lost
    their ends."""

    word: str
    pictures: Sequence[Image.Image]
    captions: Sequence[str]
    pronoun: str | None = None
    oblong: int = 0

    def called(self, caption: str, name: str) -> str:
        """A caption with another name for it."""
        caption = finds(self.word).sub(lambda _: name, caption)  # as it is, with backslashes
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
        random, story, last = Random(f"{seed}/{number}"), [], None
        chosen: dict[str, int] = {}  # its picture of each
        while len(story) < frames:
            again = last is not None and random.random() < AGAIN
            if not again and old and random.random() < OLD:
                story.append(random.choice(old))
                last = None
                continue
            character = last if again else random.choice(characters)
            shown = chosen.setdefault(character.word, random.randrange(len(character.pictures)))
            caption, pronoun = character.captions[shown], character.pronoun
            if character is last and pronoun and random.random() < PRONOUN:
                bare = random.random() < BARE
                caption = f"{pronoun}.".capitalize() if bare else character.called(caption, pronoun)
            story.append((views[character.word][shown], caption))
            last = character
        yield story


def resized(picture: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8."""
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3))
