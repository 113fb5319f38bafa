"""What a reader of stories says before long work: which are left out, which captions are cut."""

from __future__ import annotations

import re
import warnings
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from shlex import quote

from datasets.story_hdf5 import StoryFile

__all__ = [
    "beginning", "characters_read", "long_captions", "named", "unknown_words",
    "warn_of_left_out", "warn_of_long_captions", "warn_of_unknown_words",
]  # fmt: skip


def warn_of_left_out(files: Sequence[StoryFile]) -> None:
    """Say how many stories of these splits of one file are damaged, if any are."""
    damaged = []
    for stories in files:
        if left := sorted(stories.left_out.items()):
            (row, why), total = left[0], len(left) + len(stories)
            damaged.append(
                f"{len(left)} of {total} stories of {stories.split!r} (story {row}: {why})"
            )
    if damaged:
        path = files[0].path
        warnings.warn(
            f"{path}: {' and '.join(damaged)} are damaged and left out; "
            f"python -m datasets.check {quote(str(path))} lists them",
            stacklevel=2,
        )


def warn_of_long_captions(
    where: str, long: Counter[str], tokenizers: Sequence[Callable], max_length: int, key: str
) -> None:
    """Say which captions of `where` the model does not read to their end; `key` would mend it.

    long: what `long_captions` gives of them.
    """
    if long:
        longest = max(long, key=len)
        unread = longest[characters_read(longest, tokenizers, max_length) :].strip()
        warnings.warn(
            f"{where}: {long.total()} captions have more than {max_length} tokens and lose their "
            f"end, such as {beginning(longest)!r}, of which {beginning(unread)!r} is not read; "
            f"shorten them, or train with a larger {key}",
            stacklevel=2,
        )


def beginning(text: str, most: int = 100) -> str:
    """A text as a message shows it."""
    return text if len(text) <= most else f"{text[:most]}…"


def long_captions(
    captions: Iterable[str], tokenizers: Sequence[Callable], max_length: int
) -> Counter[str]:
    """Captions that have more than `max_length` tokens, and how often each is there."""
    counts = Counter(captions)
    # A token is a byte or more, and there is one at each end: most need no tokenizer.
    doubtful = [c for c in counts if len(c.encode()) + 2 > max_length]
    long: Counter[str] = Counter()
    for tokenizer in tokenizers if doubtful else ():
        rows = tokenizer(doubtful, verbose=False)["input_ids"]  # whole, without a warning each
        for caption, ids in zip(doubtful, rows, strict=True):
            if len(ids) > max_length:
                long[caption] = counts[caption]
    return long


def characters_read(caption: str, tokenizers: Sequence[Callable], max_length: int) -> int:
    """How many characters, in whole words, all tokenizers take in before they are full."""
    ends = [word.end() for word in re.finditer(r"\S+", caption)]

    def too_long(end: int) -> bool:
        rows = (one([caption[:end]], verbose=False)["input_ids"] for one in tokenizers)
        return any(len(ids) > max_length for (ids,) in rows)

    words = bisect(ends, False, key=too_long)
    return ends[words - 1] if words else 0


def warn_of_unknown_words(
    where: str, captions: Iterable[str], tokenizers: Sequence[Callable], known: Set[str] | None
) -> None:
    """Say which words of `where` the model has never seen."""
    if words := unknown_words(captions, tokenizers, known):
        warnings.warn(
            f"{where}: this model has never seen {named(map(repr, words))}, so expect nothing "
            f"of {'it' if len(words) == 1 else 'them'}; say it in other words",
            stacklevel=2,
        )


def named(words: Iterable[str], most: int = 10) -> str:
    """Words as a message lists them."""
    words = [beginning(word) for word in words]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def unknown_words(
    captions: Iterable[str], tokenizers: Sequence[Callable], known: Set[str] | None = None
) -> list[str]:
    """Words, each once and as written, that are not in `known` or have no token of their own.

    known: every word that the model was trained with, in lower case; None: that is not known.
    """
    found = {}
    for word in (word for caption in captions for word in re.findall(r"[^\W_]+|[^\w\s]", caption)):
        lower = word.lower()
        if lower in found or lower == "s":  # of Pip's
            continue
        never = known is not None and word[0].isalnum() and lower not in known
        if never or any(_is_unknown(word, tokenizer) for tokenizer in tokenizers):
            found[lower] = word
    return list(found.values())


def _is_unknown(word: str, tokenizer: Callable) -> bool:
    unknown = tokenizer.tokenizer.unk_token_id
    return unknown in tokenizer([word], add_special_tokens=False)["input_ids"][0]
