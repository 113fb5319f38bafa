"""Two programs in one place, and places that are full or too small."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from filelock import FileLock

import sample
import train
from common.files import remove_leftovers, writing
from configuration import ConfigError
from datasets.shared_memory import workers_that_fit
from models.checkpoints import writer
from models.checkpoints.writer import CheckpointWriter, check_room


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
