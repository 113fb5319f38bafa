from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import get_worker_info

from evaluation.metrics.choice import preflight
from evaluation.networks.features import Encoder, FeatureCache, Features, device_of
from evaluation.options import Options
from evaluation.samples import read_picture


def load(path):
    if isinstance(path, tuple):
        return torch.stack([load(one) for one in path])
    return torch.from_numpy(read_picture(path).copy()).float().flatten() / 255


def encoder(key="linear 1", side=4, width=3):
    torch.manual_seed(0)
    return Encoder(key, width, nn.Linear(3 * side**2, width), load)


def pictures(folder, count, side=4):
    random = np.random.default_rng(0)
    paths = [folder / f"{n}.png" for n in range(count)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return paths


class Counting(nn.Linear):
    seen = 0

    def forward(self, x):
        Counting.seen += len(x)
        return super().forward(x)


def test_features_are_those_of_the_network_in_order_whatever_the_processes(tmp_path):
    paths, found = pictures(tmp_path, 9), encoder()
    one = Features(FeatureCache(tmp_path / "one.sqlite"), batch_size=2)(paths, found)
    expected = found.network(torch.stack([load(path) for path in paths])).detach().numpy()
    assert one == pytest.approx(expected, abs=1e-6) and one.dtype == np.float32
    assert isinstance(one, np.memmap)  # on disk: many pictures take no more memory than few
    two = Features(FeatureCache(tmp_path / "two.sqlite"), batch_size=2, processes=2)
    assert np.array_equal(one, two(paths, found))
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="^picture .*damaged.png cannot be used .*replace it"):
        two([*paths, damaged, paths[0]], encoder("another"))


def test_cache_is_keyed_by_picture_and_weights(tmp_path):
    paths = pictures(tmp_path, 4)
    one = Encoder("linear 1", 3, Counting(48, 3), load)
    Features(FeatureCache(tmp_path / "c.sqlite"))([*paths, paths[0]], one)
    assert Counting.seen == 4  # the repeated picture once
    moved = tmp_path / "moved.png"
    paths[0].rename(moved)
    again = Features(FeatureCache(tmp_path / "c.sqlite"))([moved, *paths[1:]], one)
    assert Counting.seen == 4
    Image.new("RGB", (4, 4), "red").save(moved)
    changed = Features(FeatureCache(tmp_path / "c.sqlite"))([moved, *paths[1:]], one)
    assert Counting.seen == 5
    assert (changed[0] != again[0]).any() and (changed[1:] == again[1:]).all()
    two = Encoder("linear 2", 3, one.network, load)
    Features(FeatureCache(tmp_path / "c.sqlite"))(paths[1:], two)
    assert Counting.seen == 8


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(tmp_path):
    paths = pictures(tmp_path, 6)
    one = Encoder("linear 1", 3, Counting(48, 3), load)
    whole = paths[4].read_bytes()
    paths[4].write_bytes(b"damaged")
    with pytest.raises(ValueError, match="4.png cannot be used"):
        Features(FeatureCache(tmp_path / "c.sqlite"), batch_size=2)(paths, one)
    paths[4].write_bytes(whole)
    before = Counting.seen
    Features(FeatureCache(tmp_path / "c.sqlite"), batch_size=2)(paths, one)
    assert Counting.seen == before + 2


def killed(path):
    if get_worker_info():
        os.kill(os.getpid(), signal.SIGKILL)
    return load(path)


def test_a_killed_reader_and_a_damaged_cache_end_in_one_sentence(tmp_path):
    paths, path = pictures(tmp_path, 60), tmp_path / "c.sqlite"
    found = Encoder("linear 1", 3, nn.Linear(48, 3), killed)
    with pytest.raises(OSError, match="^a process that reads pictures was killed.*processes than"):
        Features(FeatureCache(path), batch_size=2, processes=2)(paths, found)
    Features(FeatureCache(path))(paths, found)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))  # the first page is whole
    with pytest.raises(ValueError, match="cache=.*c.sqlite cannot be read .*: delete it"):
        Features(FeatureCache(path))(paths, found)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named(tmp_path, device):
    with pytest.raises(ValueError, match=f"^device={device} cannot be used .*: give cpu, auto or"):
        device_of(device)
    options = Options("later", "all", device=device, cache=str(tmp_path / "c"))
    with pytest.raises(ValueError, match=f"device={device} cannot"):
        preflight(options)


def test_bad_input(tmp_path):
    broken = encoder()
    torch.nn.init.constant_(broken.network.bias, float("nan"))
    with pytest.raises(ValueError, match="linear gave infinite numbers"):
        Features(FeatureCache(tmp_path / "c.sqlite"))(pictures(tmp_path, 1), broken)
    paths = pictures(tmp_path, 2)
    Image.new("RGB", (5, 4)).save(paths[1])
    with pytest.raises(ValueError, match="1.png is .* but .*0.png is .*one size"):
        Features(FeatureCache(tmp_path / "c.sqlite"))(paths, encoder())
    with pytest.raises(ValueError, match="gone.png cannot be read"):
        Features(FeatureCache(tmp_path / "c.sqlite"))([Path(tmp_path / "gone.png")], encoder())
    (tmp_path / "text.sqlite").write_text("no data base, but long enough to be looked at" * 30)
    with pytest.raises(ValueError, match="text.sqlite is no feature cache"):
        FeatureCache(tmp_path / "text.sqlite")
