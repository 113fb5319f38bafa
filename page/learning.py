"""A new character learnt from pictures that somebody gives on the page."""

from __future__ import annotations

import atexit
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import TextIO

import yaml

from common.files import held, writing
from common.picture_files import SUFFIXES
from configuration.checkpoint_settings import read_settings
from data_script.character_pictures import read_character
from datasets.new_characters import AUTO
from page.model import RUNS

__all__ = ["MOST_PICTURES", "learn"]

MOST_PICTURES = 20
ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 10  # seconds for a training to end in when it is asked to


def learn(
    base: Path,
    word: str,
    class_word: str,
    pronoun: str,
    pictures: Sequence[str],
    out: Path,
    moved: str | None = None,
) -> Generator[str, None, Path]:
    """Train as main.py does with `new_characters`; yields what it says, returns the checkpoint.

    The pictures and the configuration are kept in a folder of `out`. A model that was taught
    characters before learns them again beside the new one, from its own base (`moved`: where that
    is now, if it has moved). Whoever stops iterating ends the training; nothing is left of one that
    did not come to its end.

    Raises:
        ValueError: something is missing or no picture, or main.py says that it cannot be learnt.
    """
    word, class_word = (word or "").strip(), (class_word or "").strip() or AUTO
    if not re.fullmatch(r"[^\W_]+", word):
        raise ValueError(f"The name is {word!r}: give one word of letters and digits.")
    if not 1 <= len(pictures or ()) <= MOST_PICTURES:
        raise ValueError(
            f"There are {len(pictures or ())} pictures: give 1 to {MOST_PICTURES}, three to five "
            f"teach it best."
        )
    if base.is_dir():
        raise ValueError(
            f"The model is an exported folder: make it a checkpoint with python -m models.export "
            f"{quote(f'checkpoint={base}')} out=FILE.ckpt, and open the page with that."
        )
    if strange := [path for path in map(Path, pictures) if path.suffix.lower() not in SUFFIXES]:
        raise ValueError(
            f"{strange[0].name} is no picture that can be read: give {', '.join(sorted(SUFFIXES))}."
        )
    name = _free(word.lower(), (out / "characters", RUNS))
    folder, run = out / "characters" / name, RUNS / name
    file = folder.with_suffix(".yaml")
    with writing(folder):
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:  # another page's, which was faster
            raise ValueError(
                f"Another page has just begun to learn {word}: learn again."
            ) from error
    with _removed_unless_learnt(folder, file, run):
        with writing(folder):
            for number, picture in enumerate(pictures, 1):
                shutil.copy(picture, folder / f"{number:02}-{Path(picture).name}")
        character = {"word": word, "class_word": class_word, "pictures": str(folder.resolve())}
        if pronoun:
            character["pronoun"] = pronoun
        try:
            read_character(character)
        except ValueError as error:
            copied = rf"{re.escape(str(folder.resolve()))}.\d+-"
            raise ValueError(re.sub(copied, "", str(error))) from error
        known = (read_settings(base) or {}).get("config", {})
        before = []  # what all weights were tuned for, the model knows without its base
        if known.get("new_characters") and known["tune"] != "all":
            before, base = known["new_characters"], Path(moved or known["base_model_file"])
        content = {
            "base_model_file": str(base.resolve()),
            "new_characters": [*before, character],
            "run_name": name,
            "ckpt_dir": str(RUNS.resolve()),
        }
        with writing(file):
            file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        yield from _train(file)
    return run / "last.ckpt"


@contextmanager
def _removed_unless_learnt(folder: Path, file: Path, run: Path) -> Iterator[None]:
    """A run that was stopped would else be the newest model; Ctrl-C ends the page, too."""

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(ValueError, OSError):  # what somebody else trains under the name stays
            file.unlink(missing_ok=True)
            if run.exists():
                with held(run / ".lock", "a run of that name is"):
                    shutil.rmtree(run, ignore_errors=True)

    atexit.register(remove)
    try:
        yield
    except BaseException:  # GeneratorExit, where nobody looks on any more
        remove()
        raise
    finally:
        atexit.unregister(remove)


def _free(word: str, folders: Sequence[Path]) -> str:
    """The word, or WORD-2 and so on: a name that none of the folders has."""
    names = (word if n == 1 else f"{word}-{n}" for n in range(1, 100_000))
    return next(name for name in names if not any((place / name).exists() for place in folders))


def _train(file: Path) -> Generator[str, None, None]:
    command = [sys.executable, str(ROOT / "main.py"), f"config={file}"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, encoding="utf-8", errors="replace", **how)

    def end() -> None:
        process.terminate()  # nothing if it is over
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    atexit.register(end)
    line = ""
    try:
        for line in _lines(process.stdout):
            yield line
        if process.wait():
            raise ValueError(line.removeprefix("error: ") or "the training ended early")
    finally:
        end()
        atexit.unregister(end)


def _lines(stream: TextIO) -> Iterator[str]:
    """What it says; every second the last line again, as only who yields can be stopped."""
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            if line := line.strip():
                said.put(line)
        said.put(None)

    threading.Thread(target=read, daemon=True).start()
    line: str | None = "The training starts."
    while line is not None:
        yield line
        with suppress(queue.Empty):
            line = said.get(timeout=1)
