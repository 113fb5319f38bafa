"""Write a samples folder as a benchmark reads it: `python -m evaluation.export samples=DIR …`.

python -m evaluation.export samples=DIR layout=vistorybench out=OUT benchmark=ROOT method=ours
python -m evaluation.export samples=DIR layout=vinabench out=OUT method=ours subset=vwp
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import datetime

from common.key_value_arguments import option, run
from common.vistorybench import LANGUAGES

__all__ = ["Export"]

LAYOUTS, SUBSETS = ("vistorybench", "vinabench"), ("vwp", "sb20k", "salon_short")


@dataclass
class Export:
    """What is written, and the names that the benchmarks' folders have."""

    samples: str = option("folder that mode=sample wrote")
    layout: str = option("whose", choices=LAYOUTS)
    out: str = option("folder of the benchmark's outputs")
    method: str = option("name of the system; VinaBench's EXPERIMENT")
    benchmark: str | None = option("folder of ViStoryBench's stories, for the shots' indices", None)
    mode: str = option("ViStoryBench's folder below the method", "base")
    language: str = option("of the captions, likewise", "en", choices=LANGUAGES)
    timestamp: str | None = option("YYYYMMDD-HHMMSS of the run; null: now", None)
    subset: str = option("VinaBench's data set", "vwp", choices=SUBSETS)
    setting: str = option("VinaBench's narrative constraints", "gold", choices=("gold", "pred"))


def main(arguments: list[str]) -> None:
    run(Export, __doc__, export, arguments)


def export(options: Export) -> None:
    """Write the pictures and print their folder; what does not fit is said before the first."""
    from evaluation.samples import read_samples  # NumPy and Pillow take time to import
    from evaluation.samples.benchmarks import write_vinabench, write_vistorybench

    for name in ("method", "mode"):
        if not re.fullmatch(r"\w[^/\\]*", getattr(options, name)):
            raise ValueError(f"{name}={getattr(options, name)} cannot name a folder")
    if options.layout == "vistorybench" and not options.benchmark:
        raise ValueError("layout=vistorybench needs benchmark=ROOT, for the shots' indices")
    samples = read_samples(options.samples)
    if options.layout == "vinabench":
        names = (options.subset, options.method, options.setting)
        print(write_vinabench(samples, options.out, *names))
        return
    now = options.timestamp or datetime.now().strftime("%Y%m%d-%H%M%S")
    names = (options.method, options.mode, options.language, now)
    print(write_vistorybench(samples, options.benchmark, options.out, *names))


if __name__ == "__main__":
    main(sys.argv[1:])
