"""Going on with a run that ended, or was ended."""

from __future__ import annotations

import os
import signal
from multiprocessing import active_children

import pytest
import torch
from outcomes import behind, read, same

import building
import sample
import train
from configuration import ConfigError
from configuration.resuming import changed_since, find_start
from models.checkpoints.writer import CheckpointWriter
from models.training.story_model import StoryModel


@pytest.mark.parametrize(
    "words, says",
    [
        (["max_epochs=1"], "max_epochs is 1, which counts what .* has behind it, 1; raise max_ep"),
        (["max_epochs=9", "max_steps=2"], "max_steps is 2, which .*, 2; raise max_steps"),
    ],
)
def test_nothing_left_to_train_is_said(trained, shrunk, words, says):
    with pytest.raises(ConfigError, match=says):
        train.train(shrunk(f"train_model_file={trained}", "run_name=none", *words))


def test_what_computes_otherwise_from_here_on_is_said(trained, shrunk):
    as_before = ["optimizer_in_backward=true", "gradient_clip_val=null"]
    config = shrunk(
        *as_before, "gradient_checkpointing=true", "precision=bf16-mixed", "cache_latents=true",
        "half_trained_weights=true", "latent_draws=2", "max_skipped_steps=3",
    )  # fmt: skip
    was = {**read(trained)["config"], "gradient_clip_val": None}
    assert changed_since(config, {"config": was}) == (
        "precision 32 -> bf16-mixed, half_trained_weights false -> true, cache_latents false -> "
        "true, latent_draws null -> 2, max_skipped_steps 0 -> 3"
    )
    few = shrunk("float8_frozen_weights=true", "half_frozen_weights=true", "precision=bf16-mixed",
                 "tune=lora", f"base_model_file={trained}")  # fmt: skip
    assert changed_since(few, read(trained)) == (
        "precision 32 -> bf16-mixed, float8_frozen_weights false -> true"
    )


def test_what_an_older_run_does_not_say_was_as_it_is_by_default(trained, shrunk):
    content, older = read(trained), trained.parents[1] / "older" / "last.ckpt"
    del content["config"]["prior_stories"]
    older.parent.mkdir()
    torch.save(content, older)
    assert find_start(shrunk("run_name=older")) == older
    config = shrunk("run_name=older")
    config.prior_stories = "none"
    with pytest.raises(ConfigError, match="a training with prior_stories=auto, now it is none"):
        find_start(config)


def test_every_epoch_leaves_a_checkpoint(shrunk, monkeypatch):
    """Not only the last: what a run that is killed in its second epoch leaves of the first."""
    step, seen = StoryModel.training_step, []

    def stop_in_the_second(self, batch, index):
        if self.current_epoch == 1:
            last = self.trainer.checkpoint_callbacks[0].dirpath + "/last.ckpt"
            seen.append(behind(read(last)))
            raise KeyError("stopped")
        return step(self, batch, index)

    monkeypatch.setattr(StoryModel, "training_step", stop_in_the_second)
    with pytest.raises(KeyError, match="stopped"):
        train.train(shrunk("run_name=stopped", "max_epochs=2"))
    assert seen == [(1, 2)]


def test_short_epochs_do_not_all_leave_one(shrunk, monkeypatch):
    """The first and the last do, and one that a signal ends."""
    written, save = [], CheckpointWriter.save_checkpoint

    def noting(self, checkpoint, path, **more):
        written.append((os.path.basename(path), *behind(checkpoint)))
        save(self, checkpoint, path, **more)

    monkeypatch.setattr(CheckpointWriter, "save_checkpoint", noting)
    words = shrunk("run_name=short", "max_epochs=6", "keep_every_n_epochs=4")
    with monkeypatch.context() as patch:
        signalled(patch, (2, 1), signal.SIGTERM)
        with pytest.raises(SystemExit):
            train.train(words)
    assert written == [("last.ckpt", 1, 2), ("last.ckpt", 3, 6)]
    last = train.train(words)
    after = [("epoch-0004.ckpt", 4, 8), ("last.ckpt", 4, 8), ("last.ckpt", 6, 12)]
    assert written[2:] == after and behind(read(last)) == (6, 12)


@pytest.fixture
def four_batches(tmp_path, home):
    """An epoch of four stories, saved after every one; `WHOLE` is not."""
    data = ["cartoon.stories.train=4", f"cartoon.data_dir={home / 'four'}"]
    how = [*data, f"ckpt_dir={tmp_path}"]
    return [*how, "batch_size=1", "save_every_minutes=0", "init_lr=1e-2"]


WHOLE = ["run_name=whole", "save_every_minutes=null"]


def equal(one: dict, other: dict) -> bool:
    """Weights, Adam's moments and the rate, bit for bit."""
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (one, other)]
    assert moments[0].keys() == moments[1].keys()
    assert one["lr_schedulers"] == other["lr_schedulers"]
    assert behind(one) == behind(other)
    return same(one["state_dict"], other["state_dict"]) and all(
        same(moments[0][key], moments[1][key]) for key in moments[0]
    )


def test_a_killed_process_is_taken_up_within_its_epoch(shrunk, tmp_path, four_batches, monkeypatch):
    """It ends as if it had never been killed."""
    words = shrunk(*four_batches, "run_name=killed")
    process = os.fork()
    if not process:
        try:
            signalled(monkeypatch, (0, 2), signal.SIGKILL)
            train.train(words)
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    last = tmp_path / "killed" / "last.ckpt"
    assert behind(read(last)) == (0, 2)
    kept = sorted(path.name for path in last.parent.glob("*.ckpt"))
    assert kept == ["last.ckpt", "previous.ckpt"] and behind(read(last.parent / kept[1])) == (0, 1)
    batches = noted(monkeypatch)
    after = read(train.train(shrunk(*four_batches, "run_name=killed")))
    assert [index for _, index, _ in batches] == [2, 3]
    resumed = batches.copy()
    batches.clear()
    whole = read(train.train(shrunk(*four_batches, *WHOLE)))
    assert resumed == batches[2:]
    assert behind(after) == (1, 4) and equal(after, whole)


def signalled(monkeypatch, at: tuple[int, int], number: int) -> None:
    """Send this process a signal in the middle of a batch of an epoch."""
    step = StoryModel.training_step

    def sending(self, batch, index):
        if (self.current_epoch, index) == at:
            os.kill(os.getpid(), number)
        return step(self, batch, index)

    monkeypatch.setattr(StoryModel, "training_step", sending)


def noted(monkeypatch, stop_before=None) -> list[tuple[int, int, list[int]]]:
    """Epoch, number and stories of every batch to come; KeyError at the one to stop before."""
    batches, step = [], StoryModel.training_step

    def noting(self, batch, index):
        if stop_before == (self.current_epoch, index):
            raise KeyError("stopped")
        batches.append((self.current_epoch, index, batch["story_id"]))
        return step(self, batch, index)

    monkeypatch.setattr(StoryModel, "training_step", noting)
    return batches


ENDINGS = {  # keys, which batch is not reached, and how many of its epoch come back
    "first epoch": (["ema_decay=0.9999", "cache_latents=true"], (0, 1), 3),
    "half a step": (["num_workers=1", "accumulate_grad_batches=2"], (1, 3), 2),
    "the last half step": (["accumulate_grad_batches=3"], (1, 3), 1),
    "end of an epoch": (["num_workers=1", "max_epochs=3", "max_steps=7"], (1, 0), 3),
}


@pytest.mark.parametrize("words, stop_before, left", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.long
def test_a_run_that_stopped_ends_as_if_it_had_not(
    shrunk, tmp_path, four_batches, words, stop_before, left
):
    words = ["max_epochs=2", "num_workers=0", *four_batches, *words]
    with pytest.MonkeyPatch.context() as patch:
        batches = noted(patch)
        whole = read(train.train(shrunk(*words, *WHOLE)))
    words += ["run_name=stopped"]
    with pytest.MonkeyPatch.context() as patch:
        noted(patch, stop_before)
        with pytest.raises(KeyError, match="stopped"):
            train.train(shrunk(*words))
    with pytest.MonkeyPatch.context() as patch:
        rest = noted(patch)
        last = tmp_path / "stopped" / "last.ckpt"
        resumed = read(train.train(shrunk(*words, f"train_model_file={last}")))
    assert rest == batches[-len(rest) :] and sum(e == stop_before[0] for e, *_ in rest) == left
    assert equal(resumed, whole)


@pytest.mark.long
def test_an_epoch_that_max_steps_cut_off_goes_on(shrunk, tmp_path, four_batches):
    """Without a larger max_epochs, as it is not over."""
    with pytest.MonkeyPatch.context() as patch:
        batches = noted(patch)
        last = train.train(shrunk(*four_batches, "max_steps=3"))
        train.train(shrunk(*four_batches, f"train_model_file={last}"))
        seen = batches.copy()
        batches.clear()
        train.train(shrunk(*four_batches, *WHOLE))
    assert seen == batches and len(seen) == 4


@pytest.mark.long
def test_a_run_killed_while_validating_goes_on_after_it(shrunk, tmp_path, four_batches):
    words = [*four_batches, "max_epochs=2"]
    whole = read(train.train(shrunk(*words, *WHOLE)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoryModel, "validation_step", lambda *a: {}["stopped"])
        with pytest.raises(KeyError, match="stopped"):
            train.train(shrunk(*words, "num_workers=1"))
    assert not active_children()  # who heed no signal, so that the program would not end
    last = tmp_path / "cartoon" / "last.ckpt"
    assert behind(read(last)) == (0, 4)
    at_the_end = ["max_epochs=1", "run_name=ended", f"train_model_file={last}"]
    assert behind(read(train.train(shrunk(*four_batches, *at_the_end)))) == (1, 4)
    with pytest.MonkeyPatch.context() as patch:
        rest = noted(patch)
        resumed = read(train.train(shrunk(*words, f"train_model_file={last}")))
    assert [(epoch, index) for epoch, index, _ in rest] == [(1, k) for k in range(4)]
    assert equal(resumed, whole)


@pytest.mark.long
def test_the_checkpoint_is_read_once_in_full(trained, shrunk, monkeypatch):
    """Checks before map the file and leave its tensors where they are."""
    reads, load = [], torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: reads.append(k.get("mmap", False)) or load(*a, **k)
    )
    train.train(shrunk(f"train_model_file={trained}", "run_name=once", "max_epochs=2"))
    assert reads.count(True) == len(reads) - 1 == 1


@pytest.fixture(scope="module")
def averaged(shrunk):
    return train.train(
        shrunk("run_name=average", "ema_decay=0.5", "max_epochs=2", "save_best=true")
    )


@pytest.mark.long
def test_the_average_is_saved_and_sampled_with(averaged, shrunk, tmp_path):
    content = read(averaged)
    assert not same(content["state_dict"], content["current_model_state"])
    words = ["mode=sample", f"test_model_file={averaged}", "num_stories=1"]
    loaded, load = [], building.load_weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "load_weights", lambda *a: (load(*a), loaded.append(a[0])))
        sample.sample(shrunk(*words, f"sample_output_dir={tmp_path}"))
    assert same(loaded[0].modules().state_dict(), content["state_dict"])


@pytest.mark.long
def test_an_average_goes_on_from_both_models(averaged, shrunk):
    words = ["run_name=average_on", "ema_decay=0.5", "max_epochs=3", "max_steps=5"]
    after = read(train.train(shrunk(*words, f"train_model_file={averaged}")))
    before = read(averaged)
    assert (before["global_step"], after["global_step"]) == (4, 5)
    name = "conditioner.type_embeddings.weight"
    # One more step, the fifth, before which four were averaged: of less than half it keeps 5 / 14.
    expected = torch.lerp(before["state_dict"][name], after["current_model_state"][name], 9 / 14)
    torch.testing.assert_close(after["state_dict"][name], expected)
