"""Training through the program: what it writes, what moves, what repeats."""

from __future__ import annotations

import csv
import re
import runpy
import shlex
import warnings

import pytest
import torch
from outcomes import behind, picture, read, same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import building
import train
from configuration import ConfigError, load_config
from models.training.story_model import StoryModel


def validation_losses(checkpoint):
    (log,) = checkpoint.parent.glob("logs/*/metrics.csv")
    with log.open() as file:
        return [float(row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]]


def test_training_writes_a_checkpoint_and_logs(trained, home):
    assert trained == home / "checkpoints" / "cartoon" / "last.ckpt"
    checkpoint = read(trained)
    assert behind(checkpoint) == (1, 2)
    losses = validation_losses(trained)
    assert len(losses) == 1 and 0 < losses[0] < 100


def test_training_moves_what_trains_and_only_that(trained, shrunk):
    start = train.build_model(shrunk(), building.build_parts(shrunk()), 1).state_dict()
    end = read(trained)["state_dict"]
    moved = {key.split(".")[0] for key in end if not torch.equal(start[key], end[key])}
    assert moved == {"unet", "conditioner"}
    tables = ("conditioner.type_embeddings.weight", "conditioner.time_embeddings.weight")
    assert not any(torch.equal(start[key], end[key]) for key in tables)


def test_a_runs_own_files_in_its_folder_are_no_warning():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        runpy.run_path(train.__file__)  # pytest has put its own filters in the place of train's
        for text in ("exists and is not empty.", "is full."):
            warnings.warn(f"Checkpoint directory outputs/cartoon {text}", stacklevel=1)
    assert [str(one.message) for one in said] == ["Checkpoint directory outputs/cartoon is full."]


@pytest.mark.long
def test_one_seed_gives_one_result_and_a_new_run_takes_the_place_of_the_old(trained, shrunk):
    again = train.train(shrunk("run_name=again"))
    assert same(read(again)["state_dict"], read(trained)["state_dict"])
    before = read(again)["state_dict"]
    other = ["run_name=again", "seed=1", "max_steps=1"]
    with pytest.raises(ConfigError, match="holds a training with seed=0, now it is 1; choose ano"):
        train.train(shrunk(*other))
    assert train.train(shrunk(*other, "resume=never")) == again
    assert read(again)["global_step"] == 1
    assert not same(read(again)["state_dict"], before)
    assert same(read(again.with_name("previous.ckpt"))["state_dict"], before)


def test_warm_up_counts_epochs_in_optimiser_steps(shrunk, trained, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "build_model", lambda *arguments: asked.append(arguments[2]))
    for words in ([], ["batch_size=2"], ["batch_size=2", "accumulate_grad_batches=3"]):
        with pytest.raises(AttributeError):  # there is no model to count the parameters of
            train.train(shrunk(*words))
    assert asked == [2, 3, 1]


def test_warm_up_steps_come_before_epochs_and_must_end(shrunk, trained, capsys):
    parts = building.build_parts(shrunk())

    def warmup(*words):
        return train.build_model(shrunk("max_epochs=4", *words), parts, 10).warmup_steps

    assert warmup("warmup_epochs=0.5") == 5
    assert warmup("warmup_epochs=0.5", "warmup_steps=3") == 3
    assert warmup("warmup_epochs=9", "warmup_steps=0") == 0
    assert not capsys.readouterr().out
    for word, steps in (("warmup_steps=40", 40), ("warmup_epochs=0.5", 5)):
        assert warmup(word, "max_steps=2") == steps  # a trial of a long run
        assert "the warm-up is not over when max_steps=2 ends" in capsys.readouterr().out
    says = "^warmup_steps is 40, but training has 40 optimiser steps: .*; lower warmup_steps$"
    with pytest.raises(ConfigError, match=says):
        warmup("warmup_steps=40")
    for word in ("warmup_steps=40", "warmup_epochs=4"):  # epochs end it before max_steps does
        with pytest.raises(ConfigError, match="but training has 40 optimiser steps"):
            warmup(word, "max_steps=100")
    few = shrunk("max_epochs=10", "warmup_steps=7")  # an epoch of fewer stories is a step, too
    assert train.build_model(few, parts, 5 / 8).warmup_steps == 7


@pytest.mark.long
def test_previews_show_validation_stories(shrunk, home):
    words = ["run_name=previews", "max_epochs=2", "sample_every_n_epochs=2", "logger=tensorboard"]
    folder = train.train(shrunk(*words)).parent
    first, second = sorted((folder / "previews").iterdir())
    assert (first.name, second.name) == ("epoch-0002.png", "step-000000.png")
    rows, columns = 2, 5  # validation stories, frames
    assert picture(first).shape == (rows * 66 + 2, columns * 66 + 2, 3)
    assert picture(first).std() > 5
    events = EventAccumulator(str(next(folder.glob("logs/*"))), {"images": 0}).Reload()
    assert events.Tags()["images"] == ["stories"]


@pytest.mark.long
def test_previews_of_own_stories_take_nothing_from_training(shrunk, trained, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("stories: [{captions: [Pip waves.]}, {captions: [Luna sleeps., She wakes.]}]")
    words = ["sample_every_n_epochs=1", "sample_every_n_steps=1", f"story={own}"]
    drawn = train.train(shrunk("run_name=drawn", *words))
    assert same(read(drawn)["state_dict"], read(trained)["state_dict"])
    pictures = {path.stem: picture(path) for path in drawn.parent.glob("previews/*")}
    assert set(pictures) == {"step-000000", "step-000001", "step-000002", "epoch-0001"}
    assert (pictures["epoch-0001"] == pictures["step-000002"]).all()
    assert (pictures["step-000000"] != pictures["step-000001"]).any()
    assert (pictures["epoch-0001"][2:66, 68:132] == 255).all()  # the first story has one frame
    words += ["run_name=halves", "accumulate_grad_batches=2", "batch_size=1"]
    halves = train.train(shrunk(*words, "cartoon.stories.train=3", f"cartoon.data_dir={tmp_path}"))
    steps = {path.stem for path in halves.parent.glob("previews/step*")}
    assert steps == {"step-000000", "step-000001", "step-000002"}  # of the last batch, too


@pytest.mark.long
@pytest.mark.parametrize("every, epochs", [(1, (1, 2)), (2, (2, 4))])
def test_every_so_many_epochs_are_kept(shrunk, every, epochs):
    words = [f"run_name=kept{every}", f"max_epochs={2 * every}", "save_best=true"]
    words += [f"keep_every_n_epochs={every}"]
    folder = train.train(shrunk(*words)).parent
    kept = {path.name: behind(read(path))[0] for path in folder.glob("epoch-*.ckpt")}
    assert kept == {f"epoch-{epoch:04}.ckpt": epoch for epoch in epochs}


@pytest.mark.long
def test_cached_encoders_give_the_same_training(shrunk, trained, tmp_path):
    where = f"cartoon.data_dir={tmp_path}"  # the cache lies beside the stories
    again = train.train(shrunk("run_name=cached", "cache_latents=true", "logger=csv", where))
    (cache,) = tmp_path.glob("*.latents.h5")
    # Weights whose gradient is next to nothing go either way in AdamW's first steps.
    assert validation_losses(again) == pytest.approx(validation_losses(trained), rel=1e-3)
    assert not same(read(again)["state_dict"], read(trained)["state_dict"])  # states were rounded
    half = "precision=bf16-mixed", "half_frozen_weights=true"
    with pytest.raises(ValueError, match="was made with another autoencoder; delete it"):
        train.train(shrunk("run_name=half", "cache_latents=true", where, *half))
    cache.unlink()
    train.train(shrunk("run_name=half", "cache_latents=true", where, *half, "max_steps=1"))


def test_precision_accumulation_and_eight_bits_train(shrunk):
    words = ["precision=bf16-mixed", "optimizer=adamw8bit", "accumulate_grad_batches=2"]
    words += ["gradient_checkpointing=true", "frames_per_micro_batch=4", "stochastic_depth=0.1"]
    words += ["freeze_clip=true", "freeze_resnet=true", "half_frozen_weights=true"]
    path = train.train(shrunk("run_name=everything", *words))
    content = read(path)
    assert content["global_step"] == 1  # of two batches
    dtypes = {value.dtype for value in content["state_dict"].values()}
    assert {torch.float32, torch.bfloat16} <= dtypes
    for value in content["state_dict"].values():
        assert value.isfinite().all()
    longer = read(train.train(shrunk("run_name=everything", *words, "max_epochs=2")))
    assert longer["global_step"] == 2  # taken up, with moments of 8 bits


def test_half_precision_needs_a_gpu_to_train_but_not_to_draw(shrunk, trained, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    asked = ["precision=16-mixed", "accelerator=auto"]
    with pytest.raises(ConfigError, match="^precision is 16-mixed, which needs a GPU; use bf16-mi"):
        train.train(shrunk(*asked, "run_name=halved"))
    assert building.find_devices(shrunk(*asked, "mode=sample")) == [torch.device("cpu")]


def test_sizes_of_the_token_tables_are_checked(shrunk):
    parts = building.build_parts(shrunk())
    size = len(parts.clip_tokenizer)
    building.build_parts(shrunk(f"cartoon.clip_embedding_tokens={size}"))
    says = f"cartoon.clip_embedding_tokens is {size + 1}, but the tokenizer .* comes to {size}"
    with pytest.raises(ConfigError, match=says):
        building.build_parts(shrunk(f"cartoon.clip_embedding_tokens={size + 1}"))


def test_without_a_terminal_lines_say_how_training_goes(shrunk, capfd):
    words = ['run_name="shown/seed=0"', "max_epochs=9", "max_steps=3", "logger=csv"]  # as of -m
    path = train.train(shrunk(*words))
    shown, errors = capfd.readouterr()
    assert "\r" not in shown + errors
    assert "Tip" not in shown + errors and "litlogger" not in shown + errors
    lines = re.findall(
        r"epoch (\d), step (\d) of (\d): loss [\d.]+, learning rate [\de.-]+, "
        r"gradient norm [\d.]+, stories per second .*, memory gib .* left",
        shown,
    )
    assert lines == [("1", "2", "3"), ("2", "3", "3")]
    assert re.search(r"Trained to step 3, on 6 stories: 3 steps in [\d.]+ min, loss", shown)
    (draw,) = re.findall(r"draw with it: python main.py (.*)", shown)
    assert load_config(shlex.split(draw)).test_model_file == str(path)
    (log,) = path.parent.glob("logs/*/metrics.csv")
    rows = [row for row in csv.DictReader(log.open()) if row["loss"]]
    assert [row["step"] for row in rows] == ["2", "3"]
    assert all(float(row["gradient_norm"]) > 0 for row in rows)


@pytest.mark.parametrize("batches", [1, 2])
def test_the_loss_that_is_told_is_that_of_a_batch(shrunk, monkeypatch, capfd, batches):
    step, losses = StoryModel.training_step, []

    def noting(self, *arguments):
        losses.append(step(self, *arguments))
        return losses[-1]

    monkeypatch.setattr(StoryModel, "training_step", noting)
    words = ["logger=csv", "batch_size=2", f"accumulate_grad_batches={batches}", "max_epochs=1"]
    path = train.train(shrunk(f"run_name=told{batches}", *words))
    (log,) = path.parent.glob("logs/*/metrics.csv")
    (told,) = [float(row["loss"]) for row in csv.DictReader(log.open()) if row["loss"]]
    assert len(losses) == 3 and told == pytest.approx(sum(losses).item() / 3)
    assert f"loss {told:.3g} at first, {told:.3g} at the end" in capfd.readouterr().out


def test_a_terminals_bar_counts_to_max_steps(shrunk, monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train.train(shrunk("run_name=bar", "max_epochs=9", "max_steps=3"))
    shown = "".join(capfd.readouterr())
    assert "2/2" in shown and "1/1" in shown and "loss=" in shown and "gradient_norm=" in shown
