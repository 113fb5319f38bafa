"""Our `datasets` shadows the Hugging Face library of that name: the stack must not mind."""

from __future__ import annotations

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

import datasets


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x):
        return {"loss": self.linear(x).sum()}


def test_transformers_and_accelerate_train_beside_our_datasets(tmp_path):
    """They ask whether data is of the library's classes; the other libraries never do."""
    model = Model()
    before = model.linear.weight.detach().clone()
    how = {"max_steps": 1, "use_cpu": True, "report_to": [], "save_strategy": "no"}
    trainer = Trainer(
        model, TrainingArguments(tmp_path, disable_tqdm=True, **how),
        train_dataset=[{"x": torch.ones(2)}] * 4,
    )  # fmt: skip
    assert trainer.train().global_step == 1
    assert not torch.equal(before, model.linear.weight)
    assert not hasattr(datasets, "load_dataset")
