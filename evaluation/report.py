"""What was measured, in words: the table on the terminal and the protocol of every metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.metrics.table import Metric

if TYPE_CHECKING:
    from evaluation.networks.features import Network

__all__ = ["protocol", "table"]


def protocol(metric: Metric, network: Network | None) -> str:
    """How a number came about; with the own error of whoever read the frames."""
    words = metric.protocol.format(network=network and network.title)
    if not metric.errors:
        return words
    known = network.known_error or {}
    told = all(key in known for key in metric.errors)
    error = f"{max(known[key] for key in metric.errors):.2%}" if told else "unknown"
    return f"{words}, own error {error}"


def table(result: dict) -> str:
    """Metrics of `evaluate` as lines: value, interval, real, shuffled, N, protocol."""
    if not result["metrics"]:
        return f"{result['samples']}: {result['stories']} stories, {result['frames']} drawn frames"
    wide = max(map(len, result["metrics"])) + 2
    lines = [
        f"{result['samples']}: {result['stories']} stories, {result['frames']} drawn frames",
        f"{'':{wide}}{'value':>9}{'95 % interval':>22}{'real':>9}{'shuffled':>9}{'chance':>8}"
        f"{'n':>7}  protocol",
    ]
    for name, entry in result["metrics"].items():
        lines.append(
            f"{name:{wide}}{_cell(entry['value']):>9}{_range(entry['interval']):>22}"
            f"{_cell(entry.get('real')):>9}{_cell(entry.get('shuffled')):>9}"
            f"{_cell(entry.get('chance')):>8}{entry['n']:>7}  {entry['protocol']}"
        )
    if "compare" in result:
        lines += [
            "",
            f"against {result['compare']['samples']}, story by story",
            f"{'':{wide}}{'other':>9}{'95 % interval':>22}{'difference':>12}{'95 % interval':>22}",
        ]
        for name, entry in result["compare"]["metrics"].items():
            lines.append(
                f"{name:{wide}}{_cell(entry['value']):>9}{_range(entry['interval']):>22}"
                f"{_cell(entry['difference']):>12}{_range(entry['difference_interval']):>22}"
            )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.0f}"


def _range(bounds: list[float] | None) -> str:
    return "–" if bounds is None else f"[{_cell(bounds[0])}, {_cell(bounds[1])}]"
