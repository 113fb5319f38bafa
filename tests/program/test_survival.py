"""Runs that are killed, stopped, damaged or started twice: nothing is lost without a word."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from outcomes import behind, read
from pytorch_lightning.strategies import FSDPStrategy
from test_resume import equal, noted, signalled

import building
import main
import sample
import train
from common.files import remove_leftovers, replacing, writing
from configuration import ConfigError
from datasets.shared_memory import workers_that_fit
from models.checkpoints import writer
from models.checkpoints.file_kinds import check_sums
from models.checkpoints.run_folder import last_good
from models.checkpoints.writer import CheckpointWriter, check_room
from models.pipeline import StoryPipeline
from models.pipeline_output import StoryPipelineOutput
from models.training.story_model import StoryModel

ROOT = Path(__file__).parents[2]


@pytest.fixture
def four_batches(tmp_path, home):
    """An epoch of four stories, drawn once for all tests."""
    return [*FOUR, f"cartoon.data_dir={home / 'four'}", f"ckpt_dir={tmp_path}"]


FOUR = [
    "cartoon.stories.train=4", "batch_size=1", "save_every_minutes=null", "init_lr=1e-2",
    "num_workers=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(shrunk, home):
    """The end of two epochs of such a run."""
    words = [*FOUR, f"cartoon.data_dir={home / 'four'}", "max_epochs=2", "run_name=undisturbed"]
    return read(train.train(shrunk(*words)))


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
def test_a_loss_that_is_not_finite_stops_before_anything_is_replaced(
    shrunk, four_batches, tmp_path, undisturbed, capfd
):
    loss = StoryModel.noise_loss
    words = [*four_batches, "save_every_minutes=0", "max_epochs=2"]

    def breaking(self, *arguments):
        place = self.current_epoch, self.trainer.fit_loop.epoch_loop.batch_idx
        nan = self.trainer.training and place == (0, 2)
        return loss(self, *arguments) * (float("nan") if nan else 1)

    folder = tmp_path / "cartoon"
    with pytest.MonkeyPatch.context() as patch:
        seen = noted(patch)
        patch.setattr(StoryModel, "noise_loss", breaking)
        says = "^the loss of step 3 .stories train-.* is not finite: .*max_skipped_steps=10"
        with pytest.raises(ValueError, match=says) as stopped:
            train.train(shrunk(*words))
        assert all(story in str(stopped.value) for story in seen[2][2])
        assert behind(read(folder / "last.ckpt")) == (0, 2)
        # What was saved beside comes to the same step; the run itself may leave it out.
        again = f"train_model_file={folder / 'non_finite.ckpt'}"
        with pytest.raises(ValueError, match="^the loss of step 3 "):
            train.train(shrunk(*words, again))
        assert seen[3][1:] == seen[2][1:]
        end = read(train.train(shrunk(*words, "max_skipped_steps=1", "run_name=other")))
        assert "left out, 1 of max_skipped_steps=1" in capfd.readouterr().out
    assert all(value.isfinite().all() for value in end["state_dict"].values())
    with pytest.MonkeyPatch.context() as patch:  # the saved state is the one that was there
        assert equal(read(train.train(shrunk(*words))), undisturbed)


def test_weights_that_are_not_finite_are_neither_saved_nor_drawn(
    trained, shrunk, tmp_path, own_story
):
    content = read(trained)
    name = "unet.conv_in.weight"
    content["state_dict"][name][0] = float("nan")
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"the one before")
    with pytest.raises(ValueError, match=f"1 tensors .* not finite, such as {name}: .* as it was"):
        CheckpointWriter().save_checkpoint(content, path)
    assert os.listdir(tmp_path) == ["last.ckpt"] and path.read_bytes() == b"the one before"
    torch.save(content, path)
    words = ["mode=sample", own_story(), f"sample_output_dir={tmp_path / 'out'}"]
    with pytest.raises(ValueError, match=f"1 tensors that are not finite, such as {name}"):
        sample.sample(shrunk(*words, f"test_model_file={path}"))
    with pytest.MonkeyPatch.context() as patch:
        black = StoryPipelineOutput(torch.zeros(1, 3, 3, 64, 64, dtype=torch.uint8))
        patch.setattr(StoryPipeline, "draw", lambda *_, **__: black)
        with pytest.raises(ValueError, match="^story .* came out with a black picture"):
            sample.sample(shrunk(*words, f"test_model_file={trained}"))
    assert not (tmp_path / "out" / "manifest.jsonl").read_bytes()  # no story


def test_fsdp_writes_through_our_writer(shrunk, tmp_path):
    """As far as it goes without GPUs: what Lightning's strategy does with a whole checkpoint."""
    (writer_of_all,) = train._plugins(shrunk("strategy=fsdp"))
    strategy, path = FSDPStrategy(checkpoint_io=writer_of_all), tmp_path / "last.ckpt"
    for value in (1.0, 2.0):
        strategy.save_checkpoint({"state_dict": {"x": torch.tensor(value)}}, path)
    previous = tmp_path / "previous.ckpt"
    assert [read(one)["state_dict"]["x"] for one in (previous, path)] == [1, 2]
    with pytest.raises(ValueError, match="not finite, such as x"):
        strategy.save_checkpoint({"state_dict": {"x": torch.tensor(float("nan"))}}, path)
    assert train._plugins(shrunk("strategy=deepspeed_stage_2")) == []


def flip(path: Path) -> None:
    """Change one bit in the middle of a file's largest tensor."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:  # within a tensor, not in what pads it
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    start = largest.header_offset
    lengths = (
        int.from_bytes(content[start + 26 : start + 28], "little"),
        int.from_bytes(content[start + 28 : start + 30], "little"),
    )
    content[start + 30 + sum(lengths) + largest.file_size // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.long
def test_a_damaged_last_checkpoint_is_replaced_by_the_one_before(
    shrunk, four_batches, tmp_path, undisturbed, capfd
):
    words = [*four_batches, "save_every_minutes=0", "max_epochs=2"]
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, (0, 2), signal.SIGTERM)
        with pytest.raises(SystemExit):
            train.train(shrunk(*words))
    folder = tmp_path / "cartoon"
    flip(folder / "last.ckpt")
    with pytest.raises(ValueError, match="is damaged: .* is not as it was written"):
        train.train(shrunk(*words, f"train_model_file={folder / 'last.ckpt'}"))
    where = [f"test_model_file={folder / 'last.ckpt'}", f"sample_output_dir={tmp_path / 'drawn'}"]
    with pytest.raises(ValueError, match="^test_model_file: .* is damaged: its part .* is not as"):
        sample.sample(shrunk("mode=sample", *where))
    assert not (tmp_path / "drawn").exists()
    (folder / ".last.ckpt.4711.tmp").write_bytes(b"half of one")
    assert equal(read(train.train(shrunk(*words))), undisturbed)
    out = capfd.readouterr().out
    assert "last.ckpt is damaged" in out and "the checkpoint before it is taken" in out
    assert "removed .last.ckpt.4711.tmp, left by a training that was killed" in out
    assert sorted(path.name for path in folder.glob("*.ckpt")) == [
        "damaged.ckpt", "last.ckpt", "previous.ckpt",
    ]  # fmt: skip
    for path in ("last.ckpt", "previous.ckpt"):
        flip(folder / path)
    with pytest.raises(ValueError, match="last.ckpt is damaged.*previous.ckpt is damaged"):
        last_good(folder)


@pytest.mark.long
def test_training_states_that_cannot_be_taken_up_are_said(trained, shrunk, tmp_path):
    content, path = read(trained), tmp_path / "model.ckpt"
    (state,) = content["optimizer_states"]
    first = {**state["state"], 0: {**state["state"][0], "exp_avg": torch.zeros(1)}}
    damaged = {
        "optimiser's state is gone": {"optimizer_states": [{**state, "state": {}}]},
        "exp_avg of trained tensor 0": {"optimizer_states": [{**state, "state": first}]},
        "is damaged: its training cannot": {"lr_schedulers": []},
        "is damaged: its training cannot be": {"loops": {}},
    }
    for says, part in damaged.items():
        torch.save(content | part, path)
        with pytest.raises(ValueError, match=f"^{path}.*{says}"):
            train.train(shrunk(f"train_model_file={path}", "run_name=none", "max_epochs=2"))
    torch.save(content, path)
    for word, says in {
        "optimizer=adamw8bit": "with optimizer=adamw, but the configuration has adamw8bit",
        "freeze_clip=true": "tensors, but [0-9]+ train now; set freeze_clip",
    }.items():
        with pytest.raises(ValueError, match=says):
            train.train(shrunk(f"train_model_file={path}", "run_name=none", "max_epochs=2", word))


def test_a_run_is_not_written_over_without_a_word(trained, shrunk):
    before = trained.read_bytes()
    tuned = ["tune=lora", f"base_model_file={trained}"]
    for words, says in (
        (tuned, "base_model_file: .* where this training writes its own; give .* run_name"),
        ([*tuned, "resume=never"], "base_model_file: .* give the training another run_name"),
        (["seed=1"], "holds a training with seed=0, now it is 1; choose another run_name"),
        (["optimizer=adamw8bit"], "holds a training with optimizer=adamw, now it is adamw8bit"),
        (["cartoon.max_length=21"], "a training with cartoon.max_length=20, now it is 21"),
    ):
        with pytest.raises(ConfigError, match=says):
            train.train(shrunk(*words))
    assert trained.read_bytes() == before
    for name in ("a/../../b", "/tmp/b", "~/b", "."):
        with pytest.raises(ConfigError, match="^run_name is .*name of a folder within ckpt_dir"):
            shrunk(f"run_name='{name}'")


def test_the_second_of_two_is_refused(trained, shrunk, tmp_path, own_story):
    with FileLock(trained.parent / ".lock"):
        with pytest.raises(ValueError, match="^run_name: .*cartoon is in use by another process"):
            train.train(shrunk("max_epochs=2"))
    words = ["mode=sample", own_story(), f"sample_output_dir={tmp_path / 'out'}"]
    with FileLock(tmp_path / "out" / ".lock"):
        with pytest.raises(ValueError, match="^sample_output_dir: .*out is in use by another"):
            sample.sample(shrunk(*words))


def test_a_checkpoint_renewed_while_it_is_read_is_said(trained, shrunk, tmp_path, own_story):
    path, load = tmp_path / "last.ckpt", building.load_weights
    shutil.copy(trained, path)

    def renewing(*arguments):
        load(*arguments)
        with replacing(path) as temporary:
            shutil.copy(trained, temporary)

    words = ["mode=sample", own_story(), f"sample_output_dir={tmp_path / 'out'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "load_weights", renewing)
        with pytest.raises(ValueError, match="last.ckpt was replaced while it was being read"):
            sample.sample(shrunk(*words, f"test_model_file={path}"))


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


def test_disks_that_cannot_be_written_are_said_with_their_name(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    path = tmp_path / "deep" / "last.ckpt"
    with pytest.raises(OSError, match=f"cannot write {path}: {tmp_path} has .* MB left and 5 MB"):
        with writing(path, 5_000_000):
            raise full
    with pytest.raises(OSError, match="Permission denied; make .* writable, or choose another"):
        with writing(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with pytest.raises(OSError, match="has .* MB left, but .* need about .* set ckpt_dir to anoth"):
        check_room(tmp_path, ["last.ckpt", "previous.ckpt"], 10**15)
    monkeypatch.setattr(writer.torch, "save", lambda content, file: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        CheckpointWriter().save_checkpoint({}, path)
    assert os.listdir(path.parent) == []


def test_a_small_shared_memory_is_said_and_done_without(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert workers_that_fit(1, free // 20, tmp_path) == (1, "")
    assert workers_that_fit(0, free, tmp_path) == (0, "")
    workers, why = workers_that_fit(4, free // 10, tmp_path)
    assert workers == 0 and "num_workers=4 needs about" in why and "--shm-size" in why


def test_leftovers_are_only_what_this_program_left(tmp_path):
    for name in (".a.12.tmp", ".a.12", ".b.12.tmp", "a.12", ".a", ".a.x.tmp"):
        (tmp_path / name).mkdir() if name == ".a.12" else (tmp_path / name).write_text("")
    assert remove_leftovers(tmp_path, ["a"]) == [".a.12", ".a.12.tmp"]
    assert len(os.listdir(tmp_path)) == 4


def test_every_part_of_a_file_is_summed(trained, tmp_path):
    """Any flipped bit of what tensors are made of is found."""
    path = tmp_path / "model.ckpt"
    size = trained.stat().st_size
    check_sums(trained)
    for place in range(size // 10, size, size // 7):
        content = bytearray(trained.read_bytes())
        content[place] ^= 16
        path.write_bytes(content)
        with pytest.raises(ValueError, match="^is damaged: "):
            check_sums(path)


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
