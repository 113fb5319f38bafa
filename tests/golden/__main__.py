"""Compares this code with numbers the original AR-LDM produced: `python -m tests.golden FOLDER`.

Builds the model from FOLDER/tiny_config.json and state_dict.safetensors through the import that
loads real checkpoints, and prints one line a quantity: difference, tolerance, verdict.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.golden.forward import compare_forward
from tests.golden.keys import compare_keys
from tests.golden.model import TASKS, Line
from tests.golden.reference import compare_reference
from tests.golden.sampling import compare_sampling, compare_sampling64
from tests.golden.tokens import compare_tokens
from tests.golden.training import TRAININGS, compare_rates, compare_train_mode, compare_training

WEIGHTS = ("tiny_config.json", "state_dict.safetensors")


def comparisons() -> Iterator[tuple[tuple[str, ...], Callable[[Path], list[Line]]]]:
    """The files each comparison needs, and the comparison."""
    yield ("full_keys.json", "full_keymap.json"), compare_keys
    yield ("clip_tokens.json",), compare_tokens
    visualization = (*WEIGHTS, "batch_visualization.safetensors")
    for task in TASKS:
        needed = (*WEIGHTS, f"batch_{task}.safetensors")
        for kind in ("nocf", "cf"):
            files = (*needed, f"forward_{task}_{kind}.safetensors")
            yield files, partial(compare_forward, task=task, kind=kind)
        files = (f"forward_{task}_cf.safetensors", f"sample_{task}_ddim4.safetensors")
        yield (*needed, *files), partial(compare_reference, task=task)
        for scheduler in ("ddim", "pndm"):
            how = {"task": task, "scheduler": scheduler}
            files = (*needed, f"sample_{task}_{scheduler}4.safetensors")
            yield files, partial(compare_sampling, steps=4, **how)
            for steps in (4, 10):
                files = (*needed, f"sample64_{task}_{scheduler}{steps}.safetensors")
                yield files, partial(compare_sampling64, steps=steps, **how)
    yield (*WEIGHTS, "train.json"), compare_rates
    for kind in TRAININGS:
        files = (*visualization, "train.json", "train_draws.safetensors")
        yield files, partial(compare_training, kind=kind)
    yield (*visualization, "trainmode_blip.safetensors"), compare_train_mode


def main(folder: Path) -> bool:
    """Print every comparison the folder has files for; whether there are some and all good."""
    lines, skipped = [], {}
    for files, compare in comparisons():
        lacking = [name for name in files if not (folder / name).is_file()]
        if lacking:
            skipped.update(dict.fromkeys(lacking))
            continue
        for line in compare(folder):
            lines.append(line)
            print(line, flush=True)
    for name in skipped:
        print(f"skipped what needs {name}: it is not in {folder}")
    wrong = sum(not line.good for line in lines)
    print(f"{len(lines)} quantities compared, {wrong} wrong")
    return bool(lines) and not wrong


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not Path(sys.argv[1]).is_dir():
        sys.exit(f"{sys.argv[1]} is no folder; give one with recorded numbers of the original")
    sys.exit(0 if main(Path(sys.argv[1])) else 1)
