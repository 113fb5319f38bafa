"""Captions to token ids: what a tokenizer of today needs to read as the original's did.

The original's tokenizers (transformers 4.24, slow) find a data set's new words before or after they
lower-case, add only those they do not know, and CLIP's mends the text first. Ids that differ by one
ask a row of the table that was never trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

import ftfy
from tokenizers import AddedToken
from transformers import BatchEncoding, BertTokenizer, CLIPTokenizer, PreTrainedTokenizerBase

__all__ = ["EXACT", "WHOLE_WORD", "CaptionTokenizer", "read_blip", "read_clip"]

EXACT, WHOLE_WORD = "exact", "whole_word"
WORD_JOINER = "\u2060"


@dataclass
class CaptionTokenizer:
    """A library's tokenizer, and what a caption goes through before it.

    starts: rows of new words that the tokenizer knew as one token -> that token's row.
    """

    tokenizer: PreTrainedTokenizerBase
    prepare: Callable[[str], str] = str
    starts: dict[int, int] = field(default_factory=dict)

    def __call__(self, captions: str | Sequence[str], **how) -> BatchEncoding:
        """As the library's, for one caption or several."""
        if isinstance(captions, str):
            return self.tokenizer(self.prepare(captions), **how)
        return self.tokenizer([self.prepare(caption) for caption in captions], **how)

    def add_words(self, words: Sequence[str]) -> None:
        """Give each word a row of its own behind all others; found whole, in any case.

        Raises:
            ValueError: a word gets none, such as a digit that CLIP knows.
        """
        known = self.tokenizer.get_vocab().keys() - self.tokenizer.get_added_vocab()
        _add_whole_words(self.tokenizer, words)
        for word in words:
            row = self.tokenizer.convert_tokens_to_ids(_as_new(word, known))
            if (ids := self(word, add_special_tokens=False).input_ids) != [row]:
                pieces = " ".join(self.tokenizer.convert_ids_to_tokens(ids))
                raise ValueError(
                    f"new_characters: the word {word!r} gets no token of its own, as "
                    f"{type(self.tokenizer).__name__} reads it as {pieces!r}; choose another word"
                )

    def __len__(self) -> int:
        """Rows that a table of embeddings needs."""
        return len(self.tokenizer)


def read_clip(tokenizer: CLIPTokenizer, new_tokens: Sequence[str], match: str) -> CaptionTokenizer:
    """CLIP's tokenizer with `new_tokens` added to it.

    match: `exact` as the original: words that are unknown to CLIP match as they are written, so
        that "Pororo" is none where the new word is "pororo", but anywhere, in other words too;
        `whole_word`: every word, in any case, but whole.
    """
    if match == WHOLE_WORD:
        starts = _add_whole_words(tokenizer, new_tokens)
        return CaptionTokenizer(tokenizer, ftfy.fix_text, starts)
    unknown = _add_unknown(tokenizer, new_tokens)
    kept = [*tokenizer.all_special_tokens, *unknown]
    return CaptionTokenizer(tokenizer, partial(_change, _any_of(kept), ftfy.fix_text))


def read_blip(tokenizer: BertTokenizer, new_tokens: Sequence[str], match: str) -> CaptionTokenizer:
    """BLIP's tokenizer with `new_tokens` added to it.

    match: as for CLIP, but `exact` looks for unknown words in the lower-cased text ("Pororo" is
        one, "pororó" is not), and no text is mended.
    """
    if match == WHOLE_WORD:
        return CaptionTokenizer(tokenizer, starts=_add_whole_words(tokenizer, new_tokens))
    _add_unknown(tokenizer, map(str.lower, new_tokens))
    kept = _any_of(tokenizer.all_special_tokens)
    return CaptionTokenizer(tokenizer, partial(_change, kept, _lower))


def _add_unknown(tokenizer: PreTrainedTokenizerBase, words: Iterable[str]) -> list[str]:
    known = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab()  # words may be there already
    unknown = [word for word in dict.fromkeys(words) if word not in known]
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in unknown])
    return unknown


def _add_whole_words(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> dict[int, int]:
    """Give each word a row of its own; returns row -> row of the one token it was before, if any.

    The library looks words up as they are added but finds them in the lower-cased text: what is
    added is new as it is written, whether the word was known or not.
    """
    starts, known = {}, tokenizer.get_vocab().keys() - tokenizer.get_added_vocab()
    for word in words:
        before = tokenizer(word, add_special_tokens=False).input_ids
        new = _as_new(word, known)
        tokenizer.add_tokens([AddedToken(new, single_word=True, normalized=True)])
        row = tokenizer.convert_tokens_to_ids(new)
        if len(before) == 1 and before[0] not in (row, tokenizer.unk_token_id):
            starts[row] = before[0]
    return starts


def _as_new(word: str, known: Set[str]) -> str:
    """In capitals, which these vocabularies have none of; a known word that has none, as of Hebrew,
    with a mark that BLIP's tokenizer clears away. Letters whose capital is another's, too, as of a
    final sigma, stay."""
    capitals = "".join(c.upper() if c.upper().lower() == c else c for c in word.lower())
    return capitals + WORD_JOINER if capitals in known else capitals


def _any_of(texts: Iterable[str]) -> re.Pattern:
    """Finds the first of `texts`, the longest if several begin there; one group."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})")


def _change(kept: re.Pattern, change: Callable[[str], str], text: str) -> str:
    """`text` with `change` made to what stands between the matches of `kept`."""
    pieces = kept.split(text)
    pieces[::2] = map(change, pieces[::2])
    return "".join(pieces)


def _lower(text: str) -> str:
    return "".join(map(str.lower, text))  # letter by letter: a final sigma is like any other
