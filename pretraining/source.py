"""What a base learns from: pictures with captions, whoever tells and draws them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Example", "Source", "standing_alone"]

FEWEST_ALONE = 0.05  # of the examples


@dataclass(frozen=True)
class Example:
    """One picture of a story.

    frame: its row among the source's pictures. caption: the story's own, which may leave open what
    earlier ones said. full: one that leaves as little open as the source can say; short: the same
    without what no story tells, if there is such a thing.
    """

    frame: int
    caption: str
    full: str
    short: str | None = None


@dataclass(frozen=True)
class Source:
    """Pictures and captions of training stories, and others that are measured alone.

    frames: uint8 (N, 3, H, W), no two alike, of `examples`; held_out: uint8 (M, 3, H, W), which no
    training story shows, of `held_out_examples`. telling: words in ranks, those first that stories'
    captions leave out and pictures show. short_share: of full captions, how often the short one is
    read. determined: full captions leave nothing of a picture open.
    augment: pictures are few, so the autoencoder sees them shifted and mirrored too. about: for the
    card. max_length: tokens of the longest caption.
    meanings: of words in numbers around 0, where they are known, to start them from.
    """

    name: str
    about: str
    frames: Tensor
    examples: Sequence[Example]
    held_out: Tensor
    held_out_examples: Sequence[Example]
    telling: Sequence[Collection[str]]
    determined: bool
    augment: bool
    max_length: int
    short_share: float = 0.0
    meanings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    licence: str = "other"  # of the base that is made from it

    @property
    def captions(self) -> list[str]:
        """Every text that is learnt from, as often as it is there."""
        return [text for e in self.examples for text in (e.caption, e.full)]


def standing_alone(examples: Sequence[Example]) -> Sequence[Example]:
    """Those whose own caption needs no other, such as stories begin with; all if they are few.

    Of captions that say all, words are learnt in hundreds of steps; with vague ones among them, not
    in thousands. (Where full captions are other ones, the source says that they say all.)
    """
    plain = [example for example in examples if example.caption == example.full]
    return plain if len(plain) >= FEWEST_ALONE * len(examples) else examples
