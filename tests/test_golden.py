"""The original system's recorded numbers, where GOLDEN_FOLDER says they are.

`python -m tests.golden FOLDER` compares all of them; here are as many as fit into a minute.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.forward import compare_forward
from tests.golden.keys import compare_keys
from tests.golden.model import TASKS
from tests.golden.reference import compare_reference
from tests.golden.sampling import compare_sampling, compare_sampling64
from tests.golden.tokens import compare_tokens
from tests.golden.training import compare_rates, compare_train_mode, compare_training

FOLDER = Path(os.environ.get("GOLDEN_FOLDER", ""))
pytestmark = pytest.mark.skipif(
    "GOLDEN_FOLDER" not in os.environ, reason="GOLDEN_FOLDER is not set"
)


def agree(lines, count: int) -> None:
    assert len(lines) == count
    assert all(line.good for line in lines), "\n".join(map(str, lines))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["nocf", "cf"])
def test_conditioning_mask_noise_and_loss_are_the_originals(task: str, kind: str) -> None:
    agree(compare_forward(FOLDER, task, kind), 13)


@pytest.mark.parametrize("task, scheduler", [("visualization", "ddim"), ("continuation", "pndm")])
def test_sampling_is_the_originals(task: str, scheduler: str) -> None:
    agree(compare_sampling(FOLDER, task, scheduler, 4), 7)


@pytest.mark.parametrize("task, scheduler", [("continuation", "ddim"), ("visualization", "pndm")])
def test_sampling_in_float64_is_the_originals_to_the_last_pixel(task: str, scheduler: str) -> None:
    agree(compare_sampling64(FOLDER, task, scheduler, 4, targets=2), 5)


@pytest.mark.parametrize("task", TASKS)
def test_the_reference_of_the_speed_table_is_the_original(task: str) -> None:
    agree(compare_reference(FOLDER, task), 7)


@pytest.mark.parametrize(
    "kind", ["upstream_scheduler", pytest.param("frozen_all_const_lr", marks=pytest.mark.long)]
)
def test_three_optimizer_steps_are_the_originals(kind: str) -> None:
    agree(compare_training(FOLDER, kind), 18)


def test_learning_rates_once_warm_are_the_originals() -> None:
    agree(compare_rates(FOLDER), 3)


def test_dropout_and_stochastic_depth_are_the_originals() -> None:
    agree(compare_train_mode(FOLDER), 2)


def test_every_key_of_a_full_size_checkpoint_is_accounted_for() -> None:
    agree(compare_keys(FOLDER), 5)


def test_every_caption_has_the_originals_ids() -> None:
    agree(compare_tokens(FOLDER), 6)
