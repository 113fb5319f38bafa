"""The slow BERT tokenizer that the original uses, in plain Python: the reference for ours."""

from __future__ import annotations

import re
import unicodedata

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]


class SlowBert:
    """Lower-cases, cuts out added words wherever they are, then splits the rest into pieces.

    vocabulary: pieces in the order of their ids; [DEC] and [ENC] come behind them.
    """

    def __init__(self, vocabulary: list[str], new_tokens: list[str]) -> None:
        self.ids = {piece: i for i, piece in enumerate([*vocabulary, "[DEC]", "[ENC]"])}
        self.words = set(vocabulary)
        self.kept = set(SPECIAL)
        for word in map(str.lower, new_tokens):
            if word not in self.ids:
                self.ids[word] = len(self.ids)
                self.kept.add(word)

    def __call__(self, text: str) -> list[int]:
        return [self.ids[t] for t in ["[CLS]", *self.tokens(text), "[SEP]"]]

    def tokens(self, text: str) -> list[str]:
        special = "|".join(map(re.escape, SPECIAL))
        text = re.sub(f"({special})|(.)", lambda m: m[1] or m[2].lower(), text, flags=re.DOTALL)
        tokens, i, rest = [], 0, ""
        while i < len(text):
            found = [word for word in self.kept if text.startswith(word, i)]
            if found:
                word = max(found, key=len)
                tokens += [*self.split(rest), word]
                rest, i = "", i + len(word)
            else:
                rest, i = rest + text[i], i + 1
        return tokens + self.split(rest)

    def split(self, text: str) -> list[str]:
        seen = [c for c in text if c.isspace() or unicodedata.category(c)[0] != "C"]
        apart = "".join(f" {c} " if "\u4e00" <= c <= "\u9fff" else c for c in seen)
        words = []
        for word in apart.split():
            for letter in unicodedata.normalize("NFD", word):
                kind = unicodedata.category(letter)
                if kind == "Mn":
                    continue
                mark = kind.startswith("P") or letter in "$+<=>^`|~"
                if mark or not words or words[-1] is None:
                    words += [letter, *[None] * mark]
                else:
                    words[-1] += letter
            words.append(None)
        return [piece for word in words if word for piece in self.pieces(word)]

    def pieces(self, word: str) -> list[str]:
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = "##" * (start > 0) + word[start:end]
                if piece in self.words:
                    found.append(piece)
                    start = end
                    break
            else:
                return ["[UNK]"]
        return found
