"""Train the classifier of characters and backgrounds: `python -m evaluation.classifier train …`.

python -m evaluation.classifier train data=DIR out=FILE.safetensors [init=FILE] [epochs=10]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from common.key_value_arguments import option, run

__all__ = ["Training"]


@dataclass
class Training:
    """What `python -m evaluation.classifier train` learns from, and how."""

    data: str = option("samples folder with labels; its real frames are used where it has them")
    out: str = option("file to write, such as classifier.safetensors")
    init: str | None = option("torchvision's Inception v3 weights to start from", None)
    epochs: int = option("times that all frames are seen", 10)
    batch_size: int = option("frames a step", 32)
    init_lr: float | None = option(
        "highest learning rate; null: 2e-4 from init, 1e-3 from nothing", None, least=1e-9
    )
    image_size: int = option("pixels a side; the field takes 299", 299, least=75)
    seed: int = option("of the first weights and the order of frames", 0, least=0)
    device: str = option("cpu, cuda, cuda:1, …; auto: the first GPU if there is one", "auto")


def main(arguments: list[str]) -> None:
    run(Training, __doc__, _train, arguments[arguments[:1] == ["train"] :])


def _train(options: Training) -> None:
    from evaluation.networks.classifier_training import train  # torch takes seconds to import

    print(f"{options.out}: error on held-out stories {train(options)}")


if __name__ == "__main__":
    main(sys.argv[1:])
