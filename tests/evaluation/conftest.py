"""A judge of the toy world, trained once for all tests that read with one."""

from __future__ import annotations

import pytest
from sample_folders import VOCABULARY, toy_frames

from evaluation.networks.judge_training import train_judge


@pytest.fixture(scope="session")
def judge():
    frames, labels = toy_frames(120, seed=0)
    judge = train_judge(frames, labels, VOCABULARY, 1, steps=40, batch_size=16)
    judge.known_error = judge.error(*toy_frames(20, seed=9))
    return judge


@pytest.fixture(scope="session")
def judge_file(judge, tmp_path_factory):
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    judge.save(path)
    return path
