"""Where a new character's word starts: at the known words that its pictures fit best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from common.accents import without_accents
from models.conditioning import Context
from models.frames import encode_frames
from models.training.new_words import GrownEmbedding, token_tables

if TYPE_CHECKING:
    from models.caption_tokenizer import CaptionTokenizer
    from models.components import Components
    from models.training.story_model import StoryModel

__all__ = ["MOST_WORDS", "candidates", "fitting_words", "start_words"]

MOST_WORDS = 3000  # that are tried; half a minute a character on a processor for 800
BEST, SHORTLIST, FIRST = 3, 40, 2  # words; words tried with all pictures; pictures before that
NOISE = 0.85  # share of the schedule: what is left there tells the scene, not who is in it
AT_ONCE = 48  # rows of the U-Net


def candidates(
    clip_tokenizer: CaptionTokenizer, blip_tokenizer: CaptionTokenizer, new_words: Iterable[str]
) -> list[str]:
    """The words that are one token of both, without new ones, which have other rows now."""
    known, new = blip_tokenizer.tokenizer.get_vocab().keys(), {*map(without_accents, new_words)}
    spelt = clip_tokenizer.tokenizer.convert_tokens_to_string  # tokens are letters for bytes
    tokens = clip_tokenizer.tokenizer.get_vocab().keys()
    whole = (token.removesuffix("</w>") for token in tokens if token.endswith("</w>"))
    words = {spelt([token]) for token in whole} & known - new
    return sorted(word for word in words if len(word) > 2 and word.isalpha())


@torch.no_grad()
def fitting_words(
    model: StoryModel, pictures: Tensor, captions: Callable[[str], Sequence[str]]
) -> list[str]:
    """The `BEST` words that move what the U-Net predicts of the pictures, as first frames, most
    straightly to them, away from what it predicts with other words.

    Not those with the least error: a word that names nobody leaves open who is there, and that errs
    less than the name of somebody not quite alike. Leaves the model in evaluation mode, as it is
    before training begins.

    pictures: (N, 3, H, W) in [-1, 1]; captions: of all of them, with a word in the new one's place.
    """
    parts = model.parts
    new_words = parts.tokenization.get("new_words", ())
    words = candidates(parts.clip_tokenizer, parts.blip_tokenizer, new_words)
    random = torch.Generator().manual_seed(0)
    latents = encode_frames(parts.vae, pictures, random)
    noise = torch.randn(latents.shape, generator=random).to(latents)
    time = int(NOISE * model.schedule.config.num_train_timesteps)

    def predicted(words: Sequence[str], count: int) -> Tensor:
        """Of the first `count` pictures with each word: (W, count, D)."""
        many, rows = max(1, AT_ONCE // count), []
        for some in (words[i : i + many] for i in range(0, len(words), many)):
            told = [caption for word in some for caption in captions(word)[:count]]
            clean, added = (x[:count].repeat(len(some), 1, 1, 1) for x in (latents, noise))
            times = torch.full((len(told),), time, device=clean.device)
            noisy = model.schedule.add_noise(clean, added, times)
            arguments = _context(parts, told).unet_arguments()
            rows.append(parts.unet(noisy, times, **arguments).sample.reshape(len(some), count, -1))
        return torch.cat(rows)

    def best(words: Sequence[str], count: int, most: int) -> list[str]:
        moved = predicted(words, count) - middle[:count]
        fits = F.cosine_similarity(moved, wanted[:count], dim=-1).mean(1).tolist()
        return [word for _, word in sorted(zip(fits, words, strict=True), reverse=True)[:most]]

    model.eval()
    evenly = words[:: -(-len(words) // SHORTLIST)]
    middle = predicted(evenly, len(latents)).mean(0)  # (N, D)
    times = torch.full((len(latents),), time, device=latents.device)
    wanted = model.target(latents, noise, times).flatten(1) - middle
    return best(best(words, min(FIRST, len(latents)), SHORTLIST), len(latents), BEST)


def _context(parts: Components, captions: Sequence[str]) -> Context:
    """Of captions alone, as of stories' first frames."""
    device = parts.unet.device
    tokens = parts.clip_tokenizer(list(captions), padding=True, truncation=True,
                                  max_length=parts.max_length, return_tensors="pt")  # fmt: skip
    ids, mask = tokens.input_ids.to(device), tokens.attention_mask.bool().to(device)
    states = parts.conditioner.encode_captions(ids, mask)  # (N, S, D)
    rows = len(states)
    history = states.new_zeros(rows, 0, *states.shape[1:])
    nobody = torch.zeros(rows, 0, dtype=torch.bool, device=device)
    hidden = mask.new_zeros(rows, 0, mask.shape[1])
    kept = torch.zeros(rows, dtype=torch.bool, device=device)
    return parts.conditioner.assemble(states, mask, history, hidden, nobody, kept, None)


@torch.no_grad()
def start_words(parts: Components, starts: Mapping[str, Sequence[str]]) -> None:
    """Set the rows of added words, in both tables, to the means of known words' rows."""
    for word, known in starts.items():
        for row, table, tokenizer in _rows(parts, word):
            ids = tokenizer(list(known), add_special_tokens=False).input_ids
            row.copy_(torch.stack([table.weight[one].mean(0) for one in ids]).mean(0))


def _rows(parts: Components, word: str) -> Iterator[tuple[Tensor, torch.nn.Embedding, Callable]]:
    tokenizers = parts.clip_tokenizer, parts.blip_tokenizer
    for (_, table), tokenizer in zip(token_tables(parts.conditioner), tokenizers, strict=True):
        number = tokenizer(word, add_special_tokens=False).input_ids[0]
        grown = isinstance(table, GrownEmbedding)
        row = table.new_rows[number - table.first] if grown else table.weight[number]
        yield row, table, tokenizer
