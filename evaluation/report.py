"""What was measured, in words: the table on the terminal and the protocol of every metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.metrics.table import Metric

if TYPE_CHECKING:
    from evaluation.networks.features import Network

__all__ = ["cell", "protocol", "table"]


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
    """Metrics of `evaluate` as lines: value, interval, real, shuffled, N, protocol; the other
    folders against the first; what could not be measured."""
    seeds = f", {result['seeds']} seeds" if "seeds" in result else ""
    said = f"{result['samples']}: {result['stories']} stories, {result['frames']} drawn frames"
    lines = [said + seeds]
    wide = max(map(len, result["metrics"]), default=0) + 2
    if result["metrics"]:
        lines.append(
            f"{'':{wide}}{'value':>9}{'spread' if seeds else '':>8}{'95 % interval':>22}{'real':>9}"
            f"{'shuffled':>9}{'chance':>8}{'n':>7}  protocol"
        )
    for name, entry in result["metrics"].items():
        spread = cell(entry["seeds"]["spread"]) if seeds else ""
        lines.append(
            f"{name:{wide}}{cell(entry['value']):>9}{spread:>8}{_range(entry['interval']):>22}"
            f"{cell(entry.get('real')):>9}{cell(entry.get('shuffled')):>9}"
            f"{cell(entry.get('chance')):>8}{entry['n']:>7}  {entry['protocol']}"
        )
    for other in result.get("compare", ()):
        lines += [
            "",
            f"against {other['samples']}, story by story",
            f"{'':{wide}}{'other':>9}{'95 % interval':>22}{'difference':>12}{'95 % interval':>22}"
            f"{'p':>9}",
        ]
        for name, entry in other["metrics"].items():
            p = entry.get("p")
            lines.append(
                f"{name:{wide}}{cell(entry['value']):>9}{_range(entry['interval']):>22}"
                f"{cell(entry['difference']):>12}{_range(entry['difference_interval']):>22}"
                f"{'–' if p is None else f'{p:.4f}':>9}"
            )
    reasons: dict[str, list[str]] = {}
    for name, reason in result.get("not_measured", {}).items():
        reasons.setdefault(reason, []).append(name)
    lines += [f"not measured: {', '.join(names)}: {why}" for why, names in reasons.items()]
    return "\n".join(lines)


def cell(value: float | None) -> str:
    if value is None:
        return "–"
    # Adding 0.0 leaves no minus before a zero.
    return f"{round(value, 3) + 0.0:.3f}" if abs(value) < 1000 else f"{value:.0f}"


def _range(bounds: list[float] | None) -> str:
    return "–" if bounds is None else f"[{cell(bounds[0])}, {cell(bounds[1])}]"
