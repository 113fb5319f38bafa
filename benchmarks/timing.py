"""Time and memory that works take, in turns: whatever else the machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch

from common.terminal import tqdm

__all__ = ["gpu_peak", "has_bf16", "in_turns", "ratio", "seconds_of", "take_turns"]


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Processor time of this process on a CPU, which others do not lengthen; else wall time."""
    if device.type == "cpu":
        begin = time.process_time()
        work()
        return time.process_time() - begin
    torch.accelerator.synchronize(device)
    begin = time.perf_counter()
    work()
    torch.accelerator.synchronize(device)
    return time.perf_counter() - begin


def has_bf16(device: torch.device) -> bool:
    """Whether it has units for such products: others are slower than in 32 bits."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def gpu_peak(
    work: Callable[[], object], device: torch.device, rounds: int = 1
) -> tuple[int, list[float]]:
    """The most bytes that `work` holds of a CUDA GPU, all there beside it included; seconds of each
    round. Two rounds before are not counted: in the first there are neither moments nor gradients.
    """
    for _ in range(2):
        work()
    torch.cuda.reset_peak_memory_stats(device)
    seconds = [seconds_of(work, device) for _ in range(rounds)]
    return torch.cuda.max_memory_allocated(device), seconds


def take_turns(
    works: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each work in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()  # allocations and caches
    for name in in_turns(works, rounds):
        seconds[name].append(seconds_of(works[name], device))
    return seconds


def in_turns(names: Iterable[str], rounds: int) -> Iterator[str]:
    """All names in every round; in every other one the order is turned round."""
    for turn in tqdm(range(rounds), "rounds", leave=False):
        yield from list(names)[:: 1 if turn % 2 else -1]


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The median of the rounds' ratios, and the smallest to the largest."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"
