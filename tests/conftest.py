"""Set before the libraries load: no network, and no more than two threads in any process."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "2")  # programs that tests start take it over

import torch

torch.set_num_threads(min(2, torch.get_num_threads()))
