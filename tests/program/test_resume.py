"""Going on with a run that ended, or was ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from outcomes import behind, read, same

import main
from config import ConfigError


def test_training_resumes_where_it_stopped(trained, shrunk):
    words = [f"train_model_file={trained}", "run_name=resumed", "max_epochs=2"]
    resumed = read(main.train(shrunk(*words)))
    assert behind(resumed) == (2, 4)
    assert resumed["lr_schedulers"][0]["last_epoch"] == 4
    moments = resumed["optimizer_states"][0]["state"][0]["step"]
    assert moments == 4  # Adam's own count went on as well
    assert not same(resumed["state_dict"], read(trained)["state_dict"])


def test_training_goes_on_to_a_number_of_steps(trained, shrunk):
    """From the end of an epoch, and from within one."""
    words = ["run_name=counted", "max_epochs=9"]
    for model, steps in ((trained, 3), ("counted", 4), ("counted", 6)):
        model = trained if model is trained else trained.parents[1] / "counted" / "last.ckpt"
        resumed = main.train(shrunk(*words, f"train_model_file={model}", f"max_steps={steps}"))
        assert read(resumed)["optimizer_states"][0]["state"][0]["step"] == steps
        assert read(resumed)["global_step"] == steps


@pytest.mark.parametrize(
    "words, says",
    [
        (["max_epochs=1"], "max_epochs is 1, which counts what .* has behind it, 1; raise max_ep"),
        (["max_epochs=9", "max_steps=2"], "max_steps is 2, which .*, 2; raise max_steps"),
    ],
)
def test_nothing_left_to_train_is_said(trained, shrunk, words, says):
    with pytest.raises(ConfigError, match=says):
        main.train(shrunk(f"train_model_file={trained}", "run_name=none", *words))


def test_every_epoch_leaves_a_checkpoint(shrunk, monkeypatch):
    """Not only the last: what a run that is killed in its second epoch leaves of the first."""
    step, seen = main.StoryModel.training_step, []

    def stop_in_the_second(self, batch, index):
        if self.current_epoch == 1:
            last = self.trainer.checkpoint_callbacks[0].dirpath + "/last.ckpt"
            seen.append(behind(read(last)))
            raise KeyError("stopped")
        return step(self, batch, index)

    monkeypatch.setattr(main.StoryModel, "training_step", stop_in_the_second)
    with pytest.raises(KeyError, match="stopped"):
        main.train(shrunk("run_name=stopped", "max_epochs=2"))
    assert seen == [(1, 2)]


# A process that trains and is killed in its third batch of four.
KILLED = """
import os, signal, sys
import main
from config import load_config
from models.story_model import StoryModel

step = StoryModel.training_step
def die_in_the_third(self, batch, index):
    if index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)
StoryModel.training_step = die_in_the_third
main.train(load_config(sys.argv[1:]))
"""


def test_a_killed_process_is_taken_up_within_its_epoch(shrinking, shrunk, tmp_path, monkeypatch):
    """Saved after every batch here; the rest of the epoch and no more is trained."""
    how = ["cartoon.stories.train=12", f"cartoon.data_dir={tmp_path}", f"ckpt_dir={tmp_path}"]
    how += ["run_name=killed", "save_every_minutes=0"]
    command = [sys.executable, "-c", KILLED, *shrinking, *how]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    last = tmp_path / "killed" / "last.ckpt"
    before = read(last)
    assert behind(before) == (0, 2)
    assert [path.name for path in last.parent.glob("*.ckpt")] == ["last.ckpt"]
    batches = []
    step = main.StoryModel.training_step
    monkeypatch.setattr(
        main.StoryModel, "training_step", lambda *a: batches.append(a[2]) or step(*a)
    )
    after = read(main.train(shrunk(*how, f"train_model_file={last}")))
    assert batches == [2, 3]
    assert behind(after) == (1, 4)
    assert after["optimizer_states"][0]["state"][0]["step"] == 4


def test_the_checkpoint_is_read_once_in_full(trained, shrunk, monkeypatch):
    """Checking it before maps the file and leaves its tensors where they are."""
    reads, load = [], torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: reads.append(k.get("mmap", False)) or load(*a, **k)
    )
    main.train(shrunk(f"train_model_file={trained}", "run_name=once", "max_epochs=2"))
    assert sorted(map(bool, reads)) == [False, True]


@pytest.fixture(scope="module")
def averaged(shrunk):
    return main.train(shrunk("run_name=average", "ema_decay=0.5", "max_epochs=2", "save_best=true"))


def test_the_average_is_saved_and_sampled_with(averaged, shrunk, tmp_path):
    content = read(averaged)
    assert not same(content["state_dict"], content["current_model_state"])
    words = ["mode=sample", f"test_model_file={averaged}", "num_stories=1"]
    loaded, predict = [], main.StoryModel.predict_step

    def keep(self, *arguments):
        loaded.append({name: value.clone() for name, value in self.state_dict().items()})
        return predict(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main.StoryModel, "predict_step", keep)
        main.sample(shrunk(*words, f"sample_output_dir={tmp_path}"))
    assert same(loaded[0], content["state_dict"])


def test_an_average_goes_on_from_both_models(averaged, shrunk):
    words = ["run_name=average_on", "ema_decay=0.5", "max_epochs=3", "max_steps=5"]
    after = read(main.train(shrunk(*words, f"train_model_file={averaged}")))
    before = read(averaged)
    assert (before["global_step"], after["global_step"]) == (4, 5)
    name = "conditioner.type_embeddings.weight"
    # One more step: the average moved half of the way to where the model now is.
    expected = (before["state_dict"][name] + after["current_model_state"][name]) / 2
    torch.testing.assert_close(after["state_dict"][name], expected)


def test_the_best_epoch_is_kept(averaged):
    best = read(averaged.parent / "best.ckpt")
    (state,) = (s for k, s in best["callbacks"].items() if "'val_loss'" in k)
    assert state["best_model_score"] <= state["current_score"]
