"""Runs whose results are kept, and several seeds of them as one value of a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from common.files import replacing
from demo.judge import make_judge

__all__ = ["Runs", "mean_spread", "print_table"]


class Runs:
    """Results in a folder, a JSON file a run: what is there is not done again.

    settings: what all runs have in common, and no file may have another way.
    """

    def __init__(self, out: Path, settings: dict) -> None:
        self.out, self.settings = out, settings
        out.mkdir(parents=True, exist_ok=True)

    def path(self, name: str, seed: int) -> Path:
        return self.out / f"{'-'.join(re.findall(r'[a-z0-9]+', name.lower()))}-seed{seed}.json"

    def read(self, name: str, seed: int) -> dict | None:
        """A run's result, if it is there."""
        path = self.path(name, seed)
        if not path.is_file():
            return None
        result = json.loads(path.read_text())
        if result["settings"] != self.settings:
            raise ValueError(
                f"{path} was made with {result['settings']}; give the same, or another --out"
            )
        return result

    def write(self, name: str, seed: int, result: dict) -> None:
        told = {"name": name, "seed": seed, "settings": self.settings, **result}
        with replacing(self.path(name, seed)) as temporary:
            temporary.write_text(json.dumps(told, indent=1) + "\n")

    def of(self, name: str, seeds: int) -> list[dict]:
        """The results that are there."""
        return [result for seed in range(seeds) if (result := self.read(name, seed))]

    def judge(self, **how) -> Path:
        """The file of a judge, trained as `make_judge` is told if it is not there."""
        path = self.out / "judge.safetensors"
        if not path.is_file():
            print(make_judge(path, **how).known_error)
        return path


def mean_spread(values: Iterable[float | None]) -> str:
    """Mean and, after ±, standard deviation of the values that are there."""
    numbers = np.array([value for value in values if value is not None])
    if not len(numbers):
        return "–"
    spread = f" ± {numbers.std(ddof=1):.3f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.3f}{spread}"


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """In Markdown; each row begins with its name."""
    print(f"| | {' | '.join(heads)} |\n|" + "---|" * (len(heads) + 1))
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
