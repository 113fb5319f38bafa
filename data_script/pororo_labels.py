"""Shows who the nine columns of PororoSV's labels.npy are, as far as the captions tell.

Each column is compared with the captions that mention a name: 1.00 where both always go together,
0.00 where they do so by chance. pororo_hdf5.py takes a name by itself only where it is beyond
doubt; where it says character_N, look at the table, and at pictures, and give it all nine names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our modules

import common  # noqa: F401  Ctrl-C while libraries load is one line

# isort: split
import numpy as np

from common.terminal import error_in_one_line, script_parser
from data_script.column_names import name_columns
from data_script.pororo_hdf5 import CHARACTERS, compare_labels


def main() -> None:
    example = "python data_script/pororo_labels.py --data_dir data/pororo_png"
    parser = script_parser(__doc__, example)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder of the raw download")
    args = parser.parse_args()
    with error_in_one_line():
        shown, scores = compare_labels(args.data_dir)
    print(f"{len(shown)} pictures with a caption and labels")
    print(agreement_table(scores, shown, CHARACTERS))
    print(f"to name them so: --characters {' '.join(name_columns(scores, CHARACTERS))}")


def agreement_table(scores: np.ndarray, shown: np.ndarray, names: Sequence[str]) -> str:
    """The scores for people, with how often each column is set."""
    lines = ["column       set" + "".join(f"{name:>10}" for name in names)]
    for column, row in enumerate(scores):
        count = int(shown[:, column].sum())
        lines.append(f"{column:6}{count:10}" + "".join(f"{score:10.2f}" for score in row))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
