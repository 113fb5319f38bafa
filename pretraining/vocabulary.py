"""The base's two tokenizers, built offline from the cartoon world's captions."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertTokenizer, CLIPTokenizer

from models.components import BLIP_SPECIAL_TOKENS

__all__ = ["build_blip_tokenizer", "build_clip_tokenizer"]


def build_clip_tokenizer(captions: Sequence[str], max_length: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair merges make one token of every word in `captions`."""
    core = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    words = [word for caption in captions for word in _words(caption)]
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
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
    words = {word for caption in captions for word in _words(caption)}
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += letters + [f"##{letter}" for letter in letters] + sorted(words - set(letters))
    vocabulary = {token: index for index, token in enumerate(pieces)}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)
    tokenizer.add_special_tokens(BLIP_SPECIAL_TOKENS)
    return tokenizer


def _words(caption: str) -> list[str]:
    """Lower-case words and punctuation marks, apart."""
    for mark in ".,!?'":
        caption = caption.replace(mark, f" {mark} ")
    return caption.lower().split()
