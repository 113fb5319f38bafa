"""Runs that are stopped from outside: they save, and go on where they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from outcomes import behind, read
from test_resume import equal, noted, signalled

import main
import sample
import train
from models.training.story_model import StoryModel

ROOT = Path(__file__).parents[2]


SLURM = {
    "SLURM_NTASKS": "1", "SLURM_JOB_ID": "4711", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0", "SLURM_JOB_NAME": "stories",
}  # fmt: skip


@pytest.mark.long
def test_signals_save_first_and_slurm_starts_the_job_again(
    shrunk, tmp_path, four_batches, undisturbed, monkeypatch, capfd
):
    """Under SLURM, where somebody's old state lies in the working directory."""
    for key, value in SLURM.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    other = {**undisturbed, "state_dict": {k: v * 0 for k, v in undisturbed["state_dict"].items()}}
    (tmp_path / "work").mkdir()
    torch.save(other, tmp_path / "work" / "hpc_ckpt_1.ckpt")
    words = shrunk(*four_batches, "max_epochs=2")
    for key in ("tiny.diffusion_model", "tiny.blip_model"):
        section, name = key.split(".")
        words[section][name] = str(Path(words[section][name]).absolute())
    monkeypatch.chdir(tmp_path / "work")
    folder = tmp_path / "cartoon"
    stops = [
        ((0, 1), signal.SIGUSR1, (0, 2)), ((0, 3), signal.SIGTERM, (1, 4)),
        ((1, 0), signal.SIGINT, (1, 5)),
    ]  # fmt: skip
    for at, number, done in stops:
        with monkeypatch.context() as patch:
            signalled(patch, at, number)
            with pytest.raises(SystemExit) as stopped:
                train.train(words)
        assert stopped.value.code == 128 + number
        assert behind(read(folder / "last.ckpt")) == done
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    assert "the same command goes on from it" in capfd.readouterr().out
    assert equal(read(train.train(words)), undisturbed)
    assert os.listdir(tmp_path / "work") == ["hpc_ckpt_1.ckpt"]
    before = (folder / "last.ckpt").read_bytes()
    assert train.train(words) == folder / "last.ckpt"  # there is nothing left to do
    assert (folder / "last.ckpt").read_bytes() == before
    assert "max_epochs=2 is reached: raise it to train for longer" in capfd.readouterr().out


@pytest.mark.long
def test_training_that_starts_anew_is_not_asked_for_again(
    shrunk, tmp_path, four_batches, monkeypatch, capfd
):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    signalled(monkeypatch, (0, 1), signal.SIGUSR1)
    with pytest.raises(SystemExit):
        train.train(shrunk(*four_batches, "resume=never"))
    assert "with resume=auto it can be gone on from" in capfd.readouterr().out
    assert not (tmp_path / "asked").exists()


@pytest.mark.long
def test_another_batch_size_reads_every_story_once(shrunk, four_batches, home, capfd):
    data = ["cartoon.stories.train=12", f"cartoon.data_dir={home / 'twelve'}"]
    words = [*four_batches, *data, "batch_size=2", "unet_lr_scale=1"]
    with pytest.MonkeyPatch.context() as patch:
        seen = noted(patch)
        signalled(patch, (0, 1), signal.SIGTERM)
        with pytest.raises(SystemExit):
            train.train(shrunk(*words))
        first = [story for *_, batch in seen for story in batch]
    with pytest.MonkeyPatch.context() as patch:
        rest = noted(patch)
        changed = [*words, "batch_size=4", "max_epochs=2", "init_lr=1e-3", "unet_lr_scale=0.5"]
        changed.append("ema_decay=0.5")
        end = read(train.train(shrunk(*changed)))
    rates = "from here on init_lr 0.01 -> 0.001, unet_lr_scale 1 -> 0.5"
    said = " ".join(capfd.readouterr().out.split())
    assert f"{rates}, max_epochs 1 -> 2, batch_size 2 -> 4" in said
    stories = [(epoch, story) for epoch, _, batch in rest for story in batch]
    epoch = [*first, *(story for number, story in stories if number == 0)]
    assert len(first) == 4 and len(epoch) == 12 == len(set(epoch))
    assert len({story for number, story in stories if number == 1}) == 12
    groups = end["optimizer_states"][0]["param_groups"]
    assert {group["initial_lr"] for group in groups} == {1e-3, 5e-4}
    assert end["lr_schedulers"][0]["base_lrs"] == [group["initial_lr"] for group in groups]


@pytest.mark.long
def test_an_average_with_cached_encoders_goes_on(shrunk, tmp_path):
    """It makes -0 of frozen weights to +0, once it keeps more than half of itself."""
    words = ["cache_latents=true", "ema_decay=0.9", f"cartoon.data_dir={tmp_path}"]
    words += [f"ckpt_dir={tmp_path}", "max_epochs=4", "cartoon.stories.train=4", "batch_size=1"]
    parts = train.build_parts

    def negative(config):
        built = parts(config)
        bias = next(built.vae.parameters()).data
        bias[(0,) * bias.ndim] = -0.0
        return built

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_parts", negative)
        train.train(shrunk(*words, "max_epochs=3"))
        saved = read(tmp_path / "cartoon" / "last.ckpt")["state_dict"]
        assert not any(torch.signbit(v[v == 0]).any() for k, v in saved.items() if "vae" in k)
        end = read(train.train(shrunk(*words)))
        assert behind(end) == (4, 16) and "current_model_state" in end
        # Without the average training goes on from the weights, not from their average.
        plain = train.train(shrunk(*words[:1], *words[2:], "max_epochs=5"))
    assert "current_model_state" not in read(plain)


@pytest.mark.long
def test_the_best_epoch_is_still_known_after_a_resume(shrunk, four_batches, tmp_path):
    """The first epoch is the best by decree; the second must not take its place."""
    words = [*four_batches, "save_best=true"]
    validation = StoryModel.validation_step

    def worse(self, batch, index):
        self.log("val_loss", 1.0 + self.current_epoch, batch_size=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoryModel, "validation_step", worse)
        train.train(shrunk(*words, "max_epochs=1"))
        best = read(tmp_path / "cartoon" / "best.ckpt")
        train.train(shrunk(*words, "max_epochs=2"))
        (tmp_path / "cartoon").rename(tmp_path / "moved")
        train.train(shrunk(*words, "max_epochs=3", "run_name=moved"))
    assert validation and behind(best) == (1, 4)  # epochs, steps
    assert behind(read(tmp_path / "moved" / "best.ckpt")) == (1, 4)


INTERRUPTED = (
    "import os, runpy, signal, sys\n"
    "_, at, program, *sys.argv[1:] = sys.argv\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's & ignores it
    "import builtins; real = builtins.__import__\n"
    "def importing(name, *rest, **how):\n"
    "    if name == at: os.kill(os.getpid(), signal.SIGINT)\n"
    "    return real(name, *rest, **how)\n"
    "builtins.__import__ = importing\n"
    "run = runpy.run_path if program.endswith('.py') else runpy.run_module\n"
    "run(program, run_name='__main__')\n"
)


@pytest.mark.parametrize("words", [
    "hydra main.py mode=sample test_model_file=none", "numpy evaluation samples=none",
    "h5py data_script/pororo_hdf5.py --data_dir none --save_path none",
])  # fmt: skip
def test_ctrl_c_while_importing_is_one_line(words):
    command = [sys.executable, "-c", INTERRUPTED, *words.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.decode().strip() == "Interrupted (Ctrl-C)"


@pytest.mark.long
def test_a_sampler_is_stopped_by_a_signal_and_goes_on(sampled, trained, monkeypatch, tmp_path):
    """Under SLURM, where somebody's old state lies in the working directory."""
    folder, _ = sampled("batch_size=1")
    for key, value in SLURM.items():
        monkeypatch.setenv(key, value)
    content = read(trained)
    ruined = {key: value * 0 for key, value in content["state_dict"].items()}
    torch.save({**content, "state_dict": ruined}, tmp_path / "hpc_ckpt_1.ckpt")
    monkeypatch.chdir(tmp_path)
    lines = (folder / "manifest.jsonl").read_text()
    add, again = sample.SamplesFolder.add, tmp_path / "again"

    def sending(self, story, *rest):
        if story == "test-00001":
            os.kill(os.getpid(), signal.SIGTERM)
        add(self, story, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(sample.SamplesFolder, "add", sending)
        with pytest.raises(SystemExit) as stopped:
            sampled("batch_size=1", to="again")
    assert stopped.value.code == 128 + signal.SIGTERM
    first = (again / "manifest.jsonl").read_text()
    assert [json.loads(line)["story_id"] for line in first.splitlines()] == ["test-00000"]
    (again / ".test-00001.4711").mkdir()
    sampled("batch_size=1", to="again")
    assert (again / "manifest.jsonl").read_text() == lines
    for path in folder.glob("*/*.png"):
        assert (again / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert not (again / ".test-00001.4711").exists()


def test_a_worker_that_dies_is_one_line(shrinking, monkeypatch):
    def dying(config):
        raise RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed.")

    monkeypatch.setattr(train, "train", dying)
    with pytest.raises(SystemExit, match="^error: a process that reads stories died .*num_workers"):
        main.run(shrinking)
