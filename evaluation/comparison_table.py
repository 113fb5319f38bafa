"""What `evaluate` found, as a table for a paper: a row a metric, a column a samples folder.

The best value is bold, and so is every other whose paired difference from it may be 0 (95 %
interval over stories). With several seeds a value is their mean ± their standard deviation.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from evaluation.report import cell

__all__ = ["COMMENTS", "SUFFIXES", "comparison_table"]

SUFFIXES = {"latex": ".tex", "markdown": ".md", "csv": ".csv"}
COMMENTS = {"latex": "% {}\n", "markdown": "\n<!-- {} -->\n", "csv": ""}  # at a file's end
LATEX = {
    "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
}  # fmt: skip


def comparison_table(result: dict, form: str) -> str:
    """Text of `form`, one of SUFFIXES; csv has exact numbers and intervals."""
    found = [result, *result.get("compare", ())]
    names = _names([one["samples"] for one in found])
    columns = [(name, one["metrics"]) for name, one in zip(names, found, strict=True)]
    return {"latex": _latex, "markdown": _markdown, "csv": _csv}[form](columns)


def _names(folders: list[str]) -> list[str]:
    """As much of each path's end as tells them apart."""
    parts = [Path(folder).parts or (folder,) for folder in folders]
    most = max(map(len, parts))
    ends = ([one[-n:] for one in parts] for n in range(1, most + 1))
    told = next((some for some in ends if len({*some}) == len({*parts})), parts)
    return [Path(*some).as_posix() for some in told]


def _markdown(columns: list[tuple[str, dict]]) -> str:
    heads = [name.replace("|", r"\|") for name, _ in columns]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for metric, entry in columns[0][1].items():
        cells = []
        for _, found in columns:
            text = _value(found[metric], " ± ")
            cells.append(f"**{text}**" if found[metric]["best"] else text)
        arrow = "↑" if entry["higher_is_better"] else "↓"
        lines.append(f"| {metric} {arrow} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _latex(columns: list[tuple[str, dict]]) -> str:
    heads = " & ".join(_escaped(name) for name, _ in columns)
    lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", rf" & {heads} \\",
             r"\midrule"]  # fmt: skip
    for metric, entry in columns[0][1].items():
        cells = []
        for _, found in columns:
            text = _value(found[metric], r" $\pm$ ").replace("–", "--")
            cells.append(rf"\textbf{{{text}}}" if found[metric]["best"] else text)
        arrow = r"$\uparrow$" if entry["higher_is_better"] else r"$\downarrow$"
        lines.append(rf"{_escaped(metric)} {arrow} & {' & '.join(cells)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _csv(columns: list[tuple[str, dict]]) -> str:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["metric", "samples", "value", "low", "high", "spread", "n", "p", "best"])
    for metric in columns[0][1]:
        for name, found in columns:
            entry = found[metric]
            low, high = entry["interval"] or (None, None)
            spread = entry.get("seeds", {}).get("spread")
            rows.writerow([metric, name, entry["value"], low, high, spread, entry["n"],
                           entry.get("p"), entry["best"]])  # fmt: skip
    return out.getvalue()


def _value(entry: dict, plus_minus: str) -> str:
    spread = entry.get("seeds", {}).get("spread")
    return cell(entry["value"]) + ("" if spread is None else plus_minus + cell(spread))


def _escaped(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
