"""Set before the libraries load: no network, two threads in all."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
THREADS = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"  # one for each process of tests
os.environ.setdefault("OMP_NUM_THREADS", THREADS)  # programs that tests start take it over

import torch  # noqa: E402

torch.set_num_threads(min(int(THREADS), torch.get_num_threads()))
