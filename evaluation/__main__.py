"""Judge and show a samples folder: `python -m evaluation samples=DIR [metrics=…] [judge=FILE] …`.

`--help` lists the options, evaluation/README.md explains the metrics.
"""

from __future__ import annotations

import sys

from common.imports import heavy_imports
from common.key_value_arguments import run
from evaluation.metrics.table import named_metrics
from evaluation.options import Options


def main(arguments: list[str]) -> None:
    run(Options, __doc__, _evaluate, arguments)


def _evaluate(options: Options) -> None:
    named_metrics(options.metrics)  # a mistyped name is said before seconds of imports
    with heavy_imports():
        from evaluation.run import evaluate
    evaluate(options)


if __name__ == "__main__":
    main(sys.argv[1:])
