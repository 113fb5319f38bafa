"""Set before the libraries load: no network, two threads in all."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
threads = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # programs that tests start take it over

import torch

torch.set_num_threads(min(threads, torch.get_num_threads()))
