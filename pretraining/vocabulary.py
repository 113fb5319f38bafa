"""The base's two tokenizers, built offline from its captions."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertTokenizer, CLIPTokenizer

from common.accents import without_accents
from models.components import BLIP_SPECIAL_TOKENS

__all__ = [
    "build_blip_tokenizer", "build_clip_tokenizer", "is_unspaced", "split_words", "token_counter",
]  # fmt: skip

MOST_WORDS = 8000  # with a token of their own; rarer ones are spelt
# Letters of scripts without spaces: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_WORDS = re.compile(rf"(?![\d_])\w(?<=[{_UNSPACED}])|[^\W\d_{_UNSPACED}]+|\d|_|[^\w\s]")


def build_clip_tokenizer(captions: Sequence[str], max_length: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair merges make one token of every word in `captions`.

    Of a script without spaces one of every letter, as BERT's: a sentence would be one word.
    """
    core = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    told = [word for caption in captions for word in split_words(caption)]
    words = [as_bytes(word)[0][0] for word in told if not is_unspaced(word)]
    letters = sorted(Counter(filter(is_unspaced, told)).items(), key=lambda w: (-w[1], w[0]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=MOST_WORDS,
        min_frequency=1,
        show_progress=False,
        end_of_word_suffix="</w>",
        initial_alphabet=sorted(alphabet),
    )
    core.train_from_iterator(sorted(words), trainer)
    model = json.loads(core.to_str())["model"]
    # CLIP's own order: bytes, bytes that end a word, merges, the two special tokens.
    merges = [tuple(pair) for pair in model["merges"]]
    for letter, _ in letters[:MOST_WORDS]:
        spelt = as_bytes(letter)[0][0]  # within a run of letters, and at its end
        merges += [(spelt[:k], spelt[k]) for k in range(1, len(spelt))]
        merges.append((spelt[:-1], f"{spelt[-1]}</w>"))
    merges = list(dict.fromkeys(merges))
    entries = sorted(alphabet) + [f"{letter}</w>" for letter in sorted(alphabet)]
    entries += [first + second for first, second in merges]
    entries = list(dict.fromkeys(entries)) + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(entries)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def build_blip_tokenizer(captions: Sequence[str], max_length: int) -> BertTokenizer:
    """A lower-casing word-piece tokenizer with every word of `captions`, [DEC] and [ENC]."""
    plain = (without_accents(caption) for caption in captions)
    counts = Counter(word for caption in plain for word in split_words(caption))
    words = {word for word, _ in sorted(counts.items(), key=lambda w: (-w[1], w[0]))[:MOST_WORDS]}
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()").union(*counts))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += letters + [f"##{letter}" for letter in letters] + sorted(words - set(letters))
    vocabulary = {token: index for index, token in enumerate(pieces)}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)
    tokenizer.add_special_tokens(BLIP_SPECIAL_TOKENS)
    return tokenizer


def token_counter(captions: Sequence[str]) -> Callable[[str], int]:
    """Counts the tokens of a text in the one of the two tokenizers that makes more of it."""
    builders = (build_clip_tokenizer, build_blip_tokenizer)
    tokenizers = [build(captions, sys.maxsize) for build in builders]
    return cache(lambda text: max(len(one(text)["input_ids"]) for one in tokenizers))


def split_words(caption: str) -> list[str]:
    """Lower-case words, letters of scripts without spaces, and punctuation marks, apart."""
    return _WORDS.findall(caption.lower())


def is_unspaced(word: str) -> bool:
    """Whether this is a letter of a script without spaces."""
    return re.fullmatch(rf"[{_UNSPACED}]", word) is not None and word.isalpha()
