"""Our `datasets` shadows the Hugging Face library of that name: the stack must not mind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
torch.set_num_threads(1)

import datasets
from datasets.story_hdf5 import SPLITS
import datasets.data_module  # brings Lightning
assert SPLITS == ("train", "val", "test")

from transformers import CLIPTextConfig, CLIPTextModel
config = CLIPTextConfig(vocab_size=50, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
                        num_attention_heads=2, max_position_embeddings=6, bos_token_id=0,
                        eos_token_id=1, pad_token_id=1)
states = CLIPTextModel(config)(torch.tensor([[1, 2, 3]])).last_hidden_state
assert states.shape == (1, 3, 8)

from transformers import Trainer, TrainingArguments  # asks for datasets.Dataset
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
    def forward(self, x):
        return {"loss": self.linear(x).sum()}
how = TrainingArguments(sys.argv[1], max_steps=1, use_cpu=True, report_to=[], save_strategy="no",
                        disable_tqdm=True)
assert Trainer(Model(), how, train_dataset=[{"x": torch.ones(2)}] * 4).train().global_step == 1

from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
model = torch.nn.Linear(2, 1)
model, optimizer, loader = accelerator.prepare(
    model, torch.optim.SGD(model.parameters(), 0.1), torch.utils.data.DataLoader(torch.ones(2, 2)))
before = model.weight.clone()
for batch in loader:
    accelerator.backward(model(batch).sum())
    optimizer.step()
assert not torch.equal(before, model.weight)

from diffusers import DDIMScheduler, UNet2DConditionModel
unet = UNet2DConditionModel(
    sample_size=8, block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",),
    up_block_types=("CrossAttnUpBlock2D",), layers_per_block=1, cross_attention_dim=8,
    attention_head_dim=2, norm_num_groups=4)
noise = unet(torch.zeros(1, 4, 8, 8), 3, states).sample
scheduler = DDIMScheduler()
scheduler.set_timesteps(2)
assert scheduler.step(noise, 1, torch.zeros(1, 4, 8, 8)).prev_sample.shape == (1, 4, 8, 8)

from torchmetrics.classification import MultilabelF1Score
from torchmetrics.image.fid import FrechetInceptionDistance
truth = torch.tensor([[1, 0]])
assert MultilabelF1Score(num_labels=2, average="micro")(truth, truth) == 1

import open_clip
tokens = open_clip.get_tokenizer("ViT-B-32")(["a cat"])
assert tokens.shape == (1, 77) and tokens[0, 0] == 49406

assert sys.modules["datasets"] is datasets and not hasattr(datasets, "load_dataset")
print("all work")
"""


def test_the_hugging_face_stack_works_beside_our_datasets(tmp_path):
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().endswith("all work"), done.stderr
