"""What evaluation writes into a folder, known again by a mark in it, so that nothing of others' is
written over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from evaluation.samples import MANIFEST, RESERVED

__all__ = ["MARK", "png_mark", "refuse_others"]

MARK = "made by story diffusion's evaluation"
# A PDF's texts are in UTF-16; metrics.json and table.csv have words that no others' have.
MARKS = (MARK.encode(), MARK.encode("utf-16-be"), b'"not_measured": ', b"metric,samples,value,low,")


def png_mark() -> PngInfo:
    """The mark, for Pillow to write into a PNG."""
    info = PngInfo()
    info.add_text("Software", MARK)
    return info


def refuse_others(folder: Path, names: Iterable[str], samples: Path) -> None:
    """Before work that writes `names` into `folder`, which shows the folder `samples`.

    Raises:
        ValueError: one of them is there and is not ours, or `folder` holds other samples.
    """
    listed = (folder / MANIFEST).is_file()
    if listed and folder.resolve() != samples.resolve():
        raise ValueError(f"out={folder} is a samples folder of its own: give another folder")
    for path in (folder / name for name in names):
        if listed and path.name in RESERVED:  # sampling refuses a folder where these are not ours
            continue
        if path.exists() and not (path.is_file() and _is_marked(path)):
            raise ValueError(
                f"out: {path} is there, and no evaluation made it: move it away, or give another "
                f"folder as out"
            )


def _is_marked(path: Path) -> bool:
    content = path.read_bytes()
    return any(mark in content for mark in MARKS)
