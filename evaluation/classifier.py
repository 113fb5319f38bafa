"""Train the classifier of characters and backgrounds: `python -m evaluation.classifier train …`.

python -m evaluation.classifier train data=DIR out=FILE.safetensors [init=FILE] [epochs=10]
"""

from __future__ import annotations

import sys

from common.key_value_arguments import run
from evaluation.options import Training

__all__ = ["Training"]


def main(arguments: list[str]) -> None:
    run(Training, __doc__, _train, arguments[arguments[:1] == ["train"] :])


def _train(options: Training) -> None:
    from evaluation.networks.classifier_training import train  # torch takes seconds to import

    print(f"{options.out}: error on held-out stories {train(options)}")


if __name__ == "__main__":
    main(sys.argv[1:])
