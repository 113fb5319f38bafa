"""Text in pictures, in every script that the fonts of this machine have; what they lack is said."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

__all__ = ["text_width", "wrap", "write"]

PACKAGES = {  # first word of a letter's name in Unicode -> package of Debian and Ubuntu
    **dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "FULLWIDTH", "IDEOGRAPHIC"),
                    "fonts-noto-cjk"),
    **dict.fromkeys(("ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "THAI"),
                    "fonts-noto-core"),
    "EMOJI": "fonts-symbola",  # the library cannot draw those of colours
}  # fmt: skip
_said: set[str] = set()
PLAIN = ("NotoSans-Regular", "DejaVuSans", "NotoSansCJK-Regular", "NotoSans")  # tried first
FANCY = ("Bold", "Italic", "Oblique", "Mono", "Serif", "Condensed", "Narrow", "Light", "Black")


def write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, colour: str) -> None:
    """One line, its top left corner at (x, y)."""
    y += ImageFont.load_default(size).getmetrics()[0]  # one base line for letters of several fonts
    for part, font in _parts(text, size):
        draw.text((x, y), part, colour, font, anchor="ls")
        x += font.getlength(part)


def text_width(text: str, size: int) -> float:
    """In pixels."""
    return sum(font.getlength(part) for part, font in _parts(text, size))


def wrap(text: str, size: int, width: int) -> list[str]:
    """Break at spaces into lines of at most `width` pixels; longer words are broken too."""
    lines = [""]
    for word in text.split():
        if lines[-1] and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        for letter in _letters(word):
            if lines[-1] and text_width(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _letters(word: str) -> Iterator[str]:
    """Each with the marks that belong to it: accents, vowel signs, joined emoji."""
    letter = ""
    for c in word:
        if letter and not _belongs(c) and letter[-1] != "\u200d":
            yield letter
            letter = ""
        letter += c
    yield letter


def _belongs(c: str) -> bool:
    """Whether a character goes with the one before it, and needs no shape of its own."""
    return unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf") or "\U0001f3fb" <= c <= "\U0001f3ff"


@cache
def _parts(text: str, size: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """Pieces of a line, each with a font that has its letters; few lines need more than one.

    The library's own typeface has plain letters only.
    """
    if text.replace("·", "").isascii():
        return [(text, ImageFont.load_default(size))]
    needed = {c for c in text if not c.isspace() and not _belongs(c)}
    whole = next((path for path in _fonts() if needed <= _known(path)), None)
    if whole:
        return [(text, ImageFont.truetype(whole, size))]
    pieces: list[tuple[str, str | None]] = []
    for letter in _letters(text):
        path = next((path for path in _fonts() if letter[0] in _known(path)), None)
        if letter.isspace() and pieces:
            path = pieces[-1][1]
        elif path is None:
            _say_missing(letter[0])
        if pieces and pieces[-1][1] == path:
            pieces[-1] = (pieces[-1][0] + letter, path)
        else:
            pieces.append((letter, path))
    return [
        (part, ImageFont.truetype(path, size) if path else ImageFont.load_default(size))
        for part, path in pieces
    ]


@cache
def _fonts() -> list[str]:
    """Files of this machine's fonts, plain ones first; the last come with matplotlib."""
    import matplotlib  # takes a second, and most captions do not need it
    from matplotlib.font_manager import findSystemFonts

    def rank(path: str) -> tuple:
        name = Path(path).stem
        first = [place for place, start in enumerate(PLAIN) if name.startswith(start)]
        return any(word in name for word in FANCY), min(first, default=len(PLAIN)), name

    own = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return [*sorted(findSystemFonts(), key=rank), str(own)]


@cache
def _known(path: str) -> frozenset[str]:
    """The letters that a font has; none if the library cannot draw with it."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(path, 17)  # refuses fonts of coloured pictures
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _say_missing(letter: str) -> None:
    """Once for each script."""
    script = unicodedata.name(letter, "UNKNOWN").split()[0]
    if unicodedata.category(letter) == "So":
        script = "EMOJI"
    package = PACKAGES.get(script, "fonts-noto-core")
    if package not in _said:
        _said.add(package)
        warnings.warn(
            f"no font of this machine has letters such as {letter!r} ({script.lower()}), so boxes "
            f"stand for them in pictures: install one that has, on Debian and Ubuntu the package "
            f"{package}",
            stacklevel=2,
        )
