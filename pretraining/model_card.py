"""The README that travels with a base: what it is, what it saw, what it measures."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_model_card"]

_CARD = """---
license: {licence}
---
# {name}

The pretrained parts of the `tiny` backbone, in the folder layout real weights have: a transformer
autoencoder (`vae`), a text-to-image U-Net with its CLIP text encoder (`unet`, `text_encoder`,
`tokenizer`, `scheduler`), and a BLIP aligned to that text encoder (`blip`). Half precision.
Pictures of {image_size} pixels, networks of size `{size}`, seed {seed}, started from {start}.

{about}

| stage | steps | batch | seconds |
|---|---|---|---|
{rows}

{measured}
`previews/` has a sheet a stage: real pictures above what the stage made of them.
"""
HELD_OUT = """Autoencoder on {count} held-out pictures: {psnr_held_out} dB PSNR ({psnr_first} dB
after its first stage, before the decoder learnt to mend drawn latents)."""
NONE_HELD_OUT = "No picture was held out, so nothing was measured."


def write_model_card(out: Path, report: dict) -> None:
    """Write `out`/README.md from the figures of a run."""
    rows = "\n".join(
        f"| {name} | {one['steps']} | {one['batch']} | {one['seconds']} |"
        for name, one in report["stages"].items()
    )
    measured = NONE_HELD_OUT if report["psnr_held_out"] is None else HELD_OUT.format(**report)
    card = _CARD.format(rows=rows, measured=measured, **report)
    (out / "README.md").write_text(card, encoding="utf-8")
