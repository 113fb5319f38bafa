"""The README that travels with the base: what it is, what it saw, what it measures."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_model_card"]

_CARD = """---
license: apache-2.0
---
# cartoon-base

The pretrained parts of the `tiny` backbone, in the folder layout real weights have: a transformer
autoencoder (`vae`), a text-to-image U-Net with its CLIP text encoder (`unet`, `text_encoder`,
`tokenizer`, `scheduler`), and a BLIP aligned to that text encoder (`blip`). Half precision.

It knows single frames, not stories: who somebody called "she" is, what a character wore a frame
ago, and where "the same place" is, AR-LDM learns from stories afterwards.

Made by `python -m pretraining` (seed {seed}) from frames of the cartoon world's training stories
only; the held-out combinations of character, place and action were never shown.

| stage | steps | batch | seconds on two CPU cores |
|---|---|---|---|
{rows}

Autoencoder on frames of held-out combinations: {psnr_held_out} dB PSNR.

Good for: the demo and the tests of this repository. It draws nothing but its six characters.
"""


def write_model_card(out: Path, report: dict) -> None:
    """Write `out`/README.md from the figures of a run."""
    rows = "\n".join(
        f"| {name} | {steps} | {batch} | {report['seconds'].get(name, 'kept from before')} |"
        for name, (steps, batch) in report["stages"].items()
    )
    card = _CARD.format(seed=report["seed"], rows=rows, psnr_held_out=report["psnr_held_out"])
    (out / "README.md").write_text(card)
