"""Set before the libraries load: no network, one thread, and the same bits wherever numbers lie."""

from __future__ import annotations

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Programs that tests start take these over. Two threads in each of two processes wait for each
# other most of the time on two cores, with networks this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Without it MKL's matrix products have other last bits where a tensor begins at another address.
os.environ.setdefault("MKL_CBWR", "AVX2")

import torch

from tests.noise import start_again

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
gc.disable()  # until all is imported, see common/imports.py


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_runtest_setup() -> None:
    start_again()
