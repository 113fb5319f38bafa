"""Judge and show a samples folder: `python -m evaluation samples=DIR [metrics=…] [judge=FILE] …`.

Options are the fields of `evaluation.options.Options`; evaluation/README.md explains them.
"""

from __future__ import annotations

import sys

from evaluation.options import Options, parse
from evaluation.run import evaluate


def main(arguments: list[str]) -> None:
    evaluate(parse(Options, arguments))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
