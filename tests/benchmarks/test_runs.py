"""Results of runs, kept and shown."""

from __future__ import annotations

import pytest

from benchmarks.causal_story import METRICS, Ablation
from benchmarks.runs import Runs, mean_spread


def test_results_are_kept_for_their_settings_and_shown_over_seeds(tmp_path, capsys):
    ablation = Ablation(tmp_path, steps=2, stories=3, overrides=[])
    for seed, value in ((0, 0.25), (2, 0.75)):
        hits = {"rate": value, "chance": 0.5, "latest": 0.5, "mass": 0.5, "frames": 7}
        result = {"checkpoint_mb": 1.25, "trained_parameters": 1234}
        result["test"] = {**dict.fromkeys(METRICS, value), "hits": hits}
        ablation.runs.write("+ history weights", seed, result)
    assert ablation.runs.read("+ history weights", 1) is None
    assert (tmp_path / "history-weights-seed0.json").is_file()
    ablation.print_tables(3)
    out = capsys.readouterr().out.splitlines()
    cells = [" ".join(line.split()) for line in out if line.startswith("| + history weights |")]
    assert cells[0].startswith("| + history weights | 2 | 1,234 | 1.2 | 0.500 ± 0.354 |")
    assert cells[1] == (
        "| + history weights | 7 | 0.500 ± 0.354 | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.500 ± 0.000 |"
    )
    ablation.print_tables(1)
    assert "| + history weights | 1 | 1,234 | 1.2 | 0.250 |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="history-weights-seed0.json was made with .*'steps': 2"):
        Runs(tmp_path, {"steps": 9}).read("+ history weights", 0)


def test_a_value_that_is_not_there_does_not_count():
    assert mean_spread([None, 0.5]) == "0.500" and mean_spread([None]) == "–"
