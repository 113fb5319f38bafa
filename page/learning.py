"""A new character learnt from pictures that somebody gives on the page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import yaml

from common.files import writing
from configuration.trained import read_settings
from page.model import RUNS

__all__ = ["MOST_PICTURES", "learn"]

MOST_PICTURES = 20
ROOT = Path(__file__).resolve().parents[1]
HOW: dict = {}  # keys of the training that are not left to presets/new-characters-BACKBONE.yaml


def learn(
    base: Path, word: str, class_word: str, pronoun: str, pictures: Sequence[str], out: Path
) -> Generator[str, None, Path]:
    """Train as main.py does with `new_characters`; yields what it says, returns the checkpoint.

    The pictures and the configuration are kept in a folder of `out`. A model that was taught
    characters before learns them again beside the new one, from its own base. Whoever stops
    iterating ends the training.

    Raises:
        ValueError: something is missing, or main.py says that it cannot be learnt.
    """
    word, class_word = (word or "").strip(), (class_word or "").strip()
    if not re.fullmatch(r"[^\W_]+", word):
        raise ValueError(f"The name is {word!r}: give one word of letters and digits.")
    if not class_word:
        raise ValueError("What is it like? Give a word that the model knows, such as bear.")
    if not 1 <= len(pictures or ()) <= MOST_PICTURES:
        raise ValueError(
            f"There are {len(pictures or ())} pictures: give 1 to {MOST_PICTURES}, three to five "
            f"teach it best."
        )
    if base.is_dir():
        raise ValueError(
            f"The model is an exported folder: make it a checkpoint with python -m models.export "
            f"checkpoint={base} out=FILE.ckpt, and open the page with that."
        )
    name = _free(word.lower(), (out / "characters", RUNS))
    folder = out / "characters" / name
    with writing(folder):
        folder.mkdir(parents=True)
        for number, picture in enumerate(pictures, 1):
            shutil.copy(picture, folder / f"{number}{Path(picture).suffix.lower()}")
    character = {"word": word, "class_word": class_word, "pictures": str(folder.resolve())}
    if pronoun:
        character["pronoun"] = pronoun
    known = (read_settings(base) or {}).get("config", {})
    before = known.get("new_characters") or []
    if before and known["tune"] != "all":
        base = Path(known["base_model_file"])
    content = {
        "base_model_file": str(base.resolve()),
        "new_characters": [*before, character],
        "run_name": name,
        "ckpt_dir": str(RUNS.resolve()),
        **HOW,
    }
    file = folder.with_suffix(".yaml")
    with writing(file):
        file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    yield from _train(file)
    return RUNS / name / "last.ckpt"


def _free(word: str, folders: Sequence[Path]) -> str:
    """The word, or WORD-2 and so on: a name that none of the folders has."""
    names = (word if n == 1 else f"{word}-{n}" for n in range(1, 100_000))
    return next(name for name in names if not any((place / name).exists() for place in folders))


def _train(file: Path) -> Generator[str, None, None]:
    command = [sys.executable, str(ROOT / "main.py"), f"config={file}"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, encoding="utf-8", errors="replace", **how)
    line = ""
    try:
        for line in process.stdout:
            if line := line.strip():
                yield line
        if process.wait():
            raise ValueError(line.removeprefix("error: ") or "the training ended early")
    finally:
        process.terminate()  # who looks on has gone; nothing if it is over
        process.wait()
