"""A time table of more rows: training on longer stories, from a checkpoint of fewer."""

from __future__ import annotations

import pytest
from outcomes import read

import train
from configuration import ConfigError

TIMES = "conditioner.time_embeddings.weight"


@pytest.mark.long
def test_longer_stories_train_more_rows(shrunk, trained, sampled, capsys):
    words = ["cartoon.story_length=8", "history_slots=7", "run_name=longer"]
    path = train.train(shrunk(*words, f"train_model_file={trained}", "cache_latents=false"))
    assert "its time table grows from 5 rows to 7" in capsys.readouterr().out
    before, after = read(trained)["state_dict"][TIMES], read(path)["state_dict"][TIMES]
    assert before.shape[0] == 5 and after.shape[0] == 7
    moved = (after - before[3]).abs().amax(1)  # rows start as the last that was trained
    assert (moved[4:6] > 1e-5).all() and (moved[4:] < (before[3] - before[2]).abs().max()).all()
    assert moved[6] < 1e-5  # no frame of seven sees seven
    sampled(f"test_model_file={path}", "cartoon.story_length=8", "history_frames=7", to="long")
    with pytest.raises(ConfigError, match="was trained with history_slots=5, but .* history_slots"):
        sampled(f"test_model_file={trained}", "history_slots=7")
    with pytest.raises(ConfigError, match="history_frames is 6, but .* history_slots=5 earlier"):
        sampled("history_frames=6")
