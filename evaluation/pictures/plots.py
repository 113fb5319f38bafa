"""One small chart a metric: its mean at each frame of the story, with the 95 % interval as a band,
or over the distance of two frames where it looks at pairs.

Dashed lines are the same metric over all frames of real pictures, and of shuffled stories.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["plot_by_frame"]

ACROSS, WIDTH, HEIGHT, DPI = 3, 4.2, 2.4, 100  # charts in a row; inches of one; pixels an inch
INK, GREY, RULE, LINE, BAND = "#1d1f23", "#80858e", "#e4e6ea", "#2f6fde", "#d5e2f9"


def plot_by_frame(metrics: Mapping[str, dict]) -> Figure | None:
    """Charts of the entries of `evaluate` that have a course; None when there is none."""
    shown = {}
    for name, entry in metrics.items():
        over = "by_distance" if "by_distance" in entry else "by_frame"
        if sum(value is not None for value in entry.get(over, ())) > 1:
            course = {"by_frame": entry[over], "by_frame_interval": entry[f"{over}_interval"]}
            shown[name] = {**entry, **course, "over": over}
    if not shown:
        return None
    columns, rows = min(ACROSS, len(shown)), -(-len(shown) // ACROSS)
    figure = Figure((columns * WIDTH, rows * HEIGHT), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    charts = list(figure.subplots(rows, columns, squeeze=False).flat)
    for chart, (name, entry) in zip(charts, shown.items(), strict=False):
        _draw(chart, name, entry)
    for chart in charts[len(shown) :]:
        chart.set_axis_off()
    return figure


def _draw(chart: Axes, name: str, entry: dict) -> None:
    values = np.array(entry["by_frame"], float)  # None as NaN
    bands = np.array([band or (np.nan, np.nan) for band in entry["by_frame_interval"]])
    frames = np.arange(1, len(values) + 1)
    title = name.replace("_", " ")
    if title.startswith("cartoon/"):  # the classifier's metrics have the same names
        title = f"{title[len('cartoon/') :]}, judge"
    chart.set_title(title, loc="left", fontsize=10, color=INK)
    better = f"{'higher' if entry['higher_is_better'] else 'lower'} is better"
    chart.set_title(better, loc="right", fontsize=7, color=GREY)
    chart.fill_between(frames, *bands.T, color=BAND, linewidth=0)
    bounds = {name: entry[name] for name in ("real", "shuffled") if entry.get(name) is not None}
    for bound, value in bounds.items():
        chart.axhline(value, color=GREY, linewidth=0.8, dashes=(4, 4))
        above = bound == max(bounds, key=bounds.get)  # names lie on either side
        chart.annotate(
            bound, (1, value), (6, 0), chart.get_yaxis_transform(), "offset points", color=GREY,
            fontsize=8, verticalalignment="bottom" if above else "top",
        )  # fmt: skip
    chart.plot(frames, values, color=LINE, linewidth=1.6, marker="o", markersize=5)
    chart.set_xticks(frames, [f"{entry['over'][3:]} 1", *map(str, frames[1:])])
    chart.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    chart.tick_params(labelcolor=GREY, labelsize=8, length=0)
    chart.grid(axis="y", color=RULE)
    chart.set_axisbelow(True)
    chart.spines[:].set_visible(False)
