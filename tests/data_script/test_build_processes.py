"""Builds with several processes: the same file, and an orderly end when something is killed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import pytest
import raw_sets

from common.processes import in_order
from data_script.pororo_hdf5 import build_pororo_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "pororo"
    raw_sets.pororo(folder)
    return folder


def script(raw: Path, target: Path, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "data_script/pororo_hdf5.py", "--data_dir", raw]
    command += ["--save_path", target, *more]
    return subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)


def test_the_script_in_two_processes_says_what_it_does(raw, tmp_path):
    build_pororo_file(raw, tmp_path / "one.h5", num_process=1)
    done = script(raw, tmp_path / "two.h5", "--num_process", "2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert "two.h5 (writes it when whole)" in done.stdout
    assert "train          3         0" in done.stdout
    assert "next: python main.py config=presets/arldm-pororo-visualization.yaml " in done.stdout
    assert "building: 100%" in done.stderr
    refused = script(raw, tmp_path)
    assert refused.stderr.startswith(f"error: --save_path: {tmp_path} is a folder: give the name")
    assert not refused.stdout


# Does what a test wants to happen at a certain picture, in the process that encodes it.
PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path}
import data_script.pororo_hdf5 as pororo
from data_script.raw_pictures import load_strip

def load(path):
    if path.name == "0.png":
        {happens}
    return load_strip(path)

if __name__ == "__main__":
    from argparse import Namespace
    from data_script.story_builder import run
    pororo.load_strip = load
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where a test runs in the background
    args = dict(data_dir={raw!r}, save_path={target!r}, num_process=2)
    run(pororo.build_pororo_file, Namespace(**args), "")
"""
KILLS = {
    "the worker": ("os._exit(9)", 1, "a process that encodes pictures was killed, .*smaller"),
    "interrupted": (
        "os.kill(os.getppid(), signal.SIGINT)", -signal.SIGINT,
        r"Interrupted \(Ctrl-C\): nothing is written",
    ),
    "ended": (
        "os.kill(os.getppid(), signal.SIGTERM)", 128 + signal.SIGTERM, "SIGTERM: nothing is written"
    ),
    "killed": ("os.kill(os.getppid(), signal.SIGKILL)", -signal.SIGKILL, ""),
}  # fmt: skip


@pytest.mark.parametrize("happens, status, message", KILLS.values(), ids=KILLS)
def test_killed_builds(raw, tmp_path, happens, status, message):
    target = tmp_path / "s.h5"
    with h5py.File(target, "w") as older:
        older["old"] = 1
    before = target.read_bytes()
    program = PROGRAM.format(path=[str(ROOT)], happens=happens, raw=str(raw), target=str(target))
    (tmp_path / "program.py").write_text(program)
    # The output ends when the last process that could write to it has ended: none is left behind.
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == status, done.stderr
    assert re.search(message, done.stderr) and "Traceback" not in done.stderr
    assert target.read_bytes() == before
    if status != -signal.SIGKILL:
        assert sorted(p.name for p in tmp_path.iterdir()) == ["program.py", "s.h5"]


def test_a_fast_encoder_waits_for_a_slow_writer():
    """No more results wait than were asked for, so memory does not grow with the set."""
    made, lock = [], threading.Lock()

    def work(i: int) -> int:
        with lock:
            made.append(i)
        return i

    with ThreadPoolExecutor(3) as pool:
        for taken, value in enumerate(in_order(pool, work, iter(range(200)), ahead=7)):
            assert value == taken
            with lock:
                assert len(made) <= taken + 7
    assert sorted(made) == list(range(200))
