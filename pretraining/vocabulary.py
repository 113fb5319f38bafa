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

__all__ = ["build_blip_tokenizer", "build_clip_tokenizer", "split_words", "token_counter"]

MOST_WORDS = 8000  # with a token of their own; rarer ones are spelt


def build_clip_tokenizer(captions: Sequence[str], max_length: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair merges make one token of every word in `captions`."""
    core = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    words = [as_bytes(word)[0][0] for caption in captions for word in split_words(caption)]
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
    """Counts the tokens of a text in the one of the two tokenizers that makes more of it.

    Those of words, where words are apart: of Chinese BERT's makes one a letter.
    """
    builders = (build_clip_tokenizer, build_blip_tokenizer)
    tokenizers = [build(captions, sys.maxsize) for build in builders]
    return cache(lambda text: max(len(one(text)["input_ids"]) for one in tokenizers))


def split_words(caption: str) -> list[str]:
    """Lower-case words and punctuation marks, apart."""
    return re.findall(r"[^\W\d_]+|\d|_|[^\w\s]", caption.lower())
