"""PororoSV at its true size: how long building and reading take, and how much memory.

    python -m benchmarks.build_pororo

Makes a synthetic raw set of 14,733 stories with small pictures in a temporary folder, builds the
story file and reads all of it; before that a tenth of it, to show that memory does not grow with
the pictures. Peak memory is the resident set of the building process and of its largest worker.
Fails if a ceiling stated below is passed.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

SECONDS = 1800  # at most, to build and read the set on two cores
MEGABYTES = 256  # at most, of any process
KILOBYTES = 5  # at most, a story more in the building process: names and captions, no pictures
SPLITS = {"train": 10_191, "val": 2_334, "test": 2_208}
UNIT = 1e3 if sys.platform != "darwin" else 1e6  # ru_maxrss: kilobytes, on a Mac bytes


def make_raw(folder: Path, counts: dict[str, int], side: int) -> None:
    """Write a raw set: strips of 1 to 12 frames of `side` pixels, captions of about 12 words."""
    random = np.random.default_rng(0)
    total = sum(counts.values())
    files = [_png(random.integers(0, 256, (n * side, side, 3), np.uint8)) for n in range(1, 13)]
    names = np.array([f"Pororo_{n // 500:03d}/{n}.png" for n in range(5 * total)])
    descriptions = {}
    for n, name in enumerate(tqdm(names, "raw pictures", unit="picture")):
        path = folder / str(name)
        if n % 500 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(files[random.integers(12)])
        descriptions[str(name).removesuffix(".png")] = [
            f"Pororo and Loopy meet {n} friends in the snow and they talk about it."
        ]
    names = names.astype("S").reshape(total, 5)
    np.save(folder / "img_cache4.npy", names[:, 0])
    np.save(folder / "following_cache4.npy", names[:, 1:])
    np.save(folder / "descriptions.npy", descriptions)
    splits = np.empty(3, object)
    parts = np.split(random.permutation(total), np.cumsum(list(counts.values()))[:-1])
    for i, part in enumerate(parts):
        splits[i] = part
    np.save(folder / "train_seen_unseen_ids.npy", splits)


def _png(rgb: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG")
    return stream.getvalue()


def watch_workers(peaks: list[float], done: threading.Event) -> None:
    """Note the peak memory of this process's children, in MB, until `done`; on Linux only.

    What the operating system sums up for ended children would start from the parent's memory.
    """
    while not done.wait(0.5):
        for child in multiprocessing.active_children():
            with suppress(OSError, TypeError):  # it may just have ended
                status = Path(f"/proc/{child.pid}/status").read_text()
                peaks += [int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e3]


def build_and_read(raw: Path, target: Path, processes: int) -> dict[str, float]:
    """Seconds and megabytes; run in a process of its own, whose peak nothing else has raised."""
    from data_script.pororo_hdf5 import build_pororo_file
    from datasets.check import check_story_file

    peaks, done = [0.0], threading.Event()
    watcher = threading.Thread(target=watch_workers, args=(peaks, done))
    watcher.start()
    start = time.perf_counter()
    try:
        report = build_pororo_file(raw, target, num_process=processes)
    finally:
        done.set()
    built = time.perf_counter()
    main = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT
    found = check_story_file(target, lambda text: len(text.split()))
    assert not found.problems and found.sizes.total() == 5 * report.kept.total()
    return {
        "stories": report.kept.total(),
        "build s": built - start,
        "read s": time.perf_counter() - built,
        "main MB": main,
        "worker MB": max(peaks),
        "file MB": target.stat().st_size / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=16, help="pixels of a frame (16)")
    parser.add_argument("--num_process", type=int, default=os.cpu_count())
    args = parser.parse_args()
    rows = []
    for counts in ({split: n // 10 for split, n in SPLITS.items()}, SPLITS):
        with tempfile.TemporaryDirectory() as folder:
            make_raw(Path(folder), counts, args.side)
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, context) as pool:
                work = build_and_read, Path(folder), Path(folder, "pororo.h5"), args.num_process
                rows.append(pool.submit(*work).result())
    print("".join(f"{name:>11}" for name in rows[0]))
    for row in rows:
        print("".join(f"{value:11.1f}" for value in row.values()))
    passed = exceeded(*rows)
    print(f"ceilings: {SECONDS} s, {MEGABYTES} MB a process, {KILOBYTES} kB a story")
    if passed:
        sys.exit(f"passed by {', '.join(passed)}")


def exceeded(tenth: dict[str, float], whole: dict[str, float]) -> list[str]:
    """What passes its ceiling, in words."""
    grown = whole["main MB"] - tenth["main MB"]
    measured = {
        "time": (whole["build s"] + whole["read s"], SECONDS),
        "the building process": (whole["main MB"], MEGABYTES),
        "a worker": (whole["worker MB"], MEGABYTES),
        "kB a story": (1e3 * grown / (whole["stories"] - tenth["stories"]), KILOBYTES),
    }
    return [f"{name} ({value:.1f})" for name, (value, most) in measured.items() if value > most]


if __name__ == "__main__":
    main()
