"""Shows who the nine columns of PororoSV's labels.npy are, as far as the captions tell.

Each column is compared with the captions that mention a name: 1.00 where both always go together,
0.00 where they do so by chance. pororo_hdf5.py takes a name by itself only where it is beyond
doubt; where it says character_N, look at the table, and at pictures, and give it all nine names.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our modules

from common.terminal import error_in_one_line, script_parser
from data_script.column_names import agreement_table, name_columns
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


if __name__ == "__main__":
    main()
