"""Our `datasets` shadows the Hugging Face library of that name: the stack must not mind."""

from __future__ import annotations

import torch
from torch import nn
from transformers import Trainer, TrainingArguments


class Model(nn.Linear):
    def forward(self, x):
        return {"loss": super().forward(x).sum()}


def test_transformers_and_accelerate_train_beside_our_datasets(tmp_path):
    """They ask whether data is of the library's classes; the other libraries never do."""
    how = {"max_steps": 1, "use_cpu": True, "report_to": [], "save_strategy": "no"}
    arguments = TrainingArguments(tmp_path, disable_tqdm=True, **how)
    trainer = Trainer(Model(2, 1), arguments, train_dataset=[{"x": torch.ones(2)}] * 4)
    assert trainer.train().global_step == 1
