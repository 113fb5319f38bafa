"""Captions to ids by the original's CLIP tokenizer, with each data set's new words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import open_clip
from transformers import CLIPTokenizer

from models.caption_tokenizer import EXACT, read_clip
from tests.golden.model import Line

__all__ = ["build_real_clip", "compare_tokens"]


def build_real_clip() -> CLIPTokenizer:
    """A tokenizer with CLIP's own 49,408 entries, which open_clip ships."""
    file = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.open(file, "rt", encoding="utf-8").read().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    words = letters + [f"{letter}</w>" for letter in letters]
    words += ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: i for i, word in enumerate(words)}, merges)


def compare_tokens(folder: Path) -> list[Line]:
    """Every caption of `clip_tokens.json`: how many differ in an id, and the tables' sizes."""
    lines = []
    recorded = json.loads((folder / "clip_tokens.json").read_text(encoding="utf-8"))
    for name, told in recorded["sets"].items():
        tokenizer = read_clip(build_real_clip(), told["new_tokens"], EXACT)
        rows = told["captions"]
        ids = tokenizer([row["caption"] for row in rows]).input_ids
        wrong = sum(ours != row["ids"] for ours, row in zip(ids, rows, strict=True))
        lines.append(Line(f"{name} captions with other ids, of {len(rows)}", wrong, 0))
        size = abs(len(tokenizer) - told["length"])
        lines.append(Line(f"{name} size of CLIP's token table", size, 0))
    return lines
