from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_networks import write_inception

from common.files import file_hash
from evaluation.networks.features import FeatureCache
from evaluation.networks.inception import inception_at_64, inception_at_native_size, prepare
from evaluation.networks.weights import INCEPTION, Published, find_weights, load_weights
from evaluation.options import Options


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    return path, write_inception(path)


def by_hand(path, first_side):
    """Preparation as FACTS of the lineage tell it, bilinear interpolation written out."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if first_side:
        picture = picture.resize((first_side, first_side), Image.Resampling.BILINEAR)
    x = np.asarray(picture, np.float64) / 255

    def stretch(x):  # along axis 0: corners not aligned, no antialiasing
        at = ((np.arange(299) + 0.5) * len(x) / 299 - 0.5).clip(0)
        low = np.floor(at).astype(int)
        high, part = np.minimum(low + 1, len(x) - 1), (at - low)[:, None, None]
        return x[low] * (1 - part) + x[high] * part

    x = stretch(stretch(x).transpose(1, 0, 2)).transpose(1, 0, 2)
    return (2 * x - 1).transpose(2, 0, 1)


@pytest.mark.parametrize("size, first_side", [((512, 400), 64), ((50, 90), 64), ((50, 90), None)])
def test_preparation_equals_the_protocol_written_by_hand(tmp_path, size, first_side):
    random = np.random.default_rng(0)
    path = tmp_path / "picture.png"
    Image.fromarray(random.integers(0, 256, (*size[::-1], 3), np.uint8)).save(path)
    found = prepare(path, first_side).numpy()
    assert found.shape == (3, 299, 299)
    assert np.abs(found - by_hand(path, first_side)).max() < 5e-5  # a hundredth of a grey level


def test_the_whole_way_from_pictures_to_features(tmp_path, random_weights):
    path, network = random_weights
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 80, 3), np.uint8)).save(
        tmp_path / "picture.png"
    )
    kept = {}
    network.avgpool.register_forward_hook(lambda _, __, out: kept.update(pool3=out.flatten(1)))
    pixels = torch.from_numpy(by_hand(tmp_path / "picture.png", 64)).float()
    with torch.inference_mode():
        network(pixels[None])
    options = Options("s", inception_weights=str(path), allow_other_weights=True, device="cpu")
    encoder = inception_at_64(options).encoders["features"]
    found = encoder([tmp_path / "picture.png"])
    assert found.shape == (1, 2048) == (1, encoder.width)
    assert np.ptp(found) > 0
    assert np.allclose(found, kept["pool3"].numpy(), rtol=1e-3, atol=1e-4)
    assert encoder.key != inception_at_native_size(options).encoders["features"].key


def test_network_has_the_names_and_shapes_of_the_published_file(random_weights):
    shapes = {name: tuple(value.shape) for name, value in random_weights[1].state_dict().items()}
    assert shapes["fc.weight"] == (1008, 2048)
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert shapes["Mixed_5b.branch_pool.conv.weight"] == (32, 192, 1, 1)
    assert shapes["Mixed_6b.branch7x7_2.conv.weight"] == (128, 128, 1, 7)
    assert shapes["Mixed_7c.branch_pool.conv.weight"] == (192, 2048, 1, 1)
    assert not any(name.startswith("AuxLogits") for name in shapes)


@pytest.mark.parametrize(
    "block, channels",
    [("Mixed_5b", 192), ("Mixed_6b", 768), ("Mixed_7b", 1280), ("Mixed_7c", 2048)],
)
def test_pooling_leaves_the_padding_out_and_is_a_maximum_in_the_last_block(
    random_weights, block, channels
):
    module = getattr(random_weights[1], block)
    x = torch.rand(1, channels, 5, 5)
    around = F.pad(x, (1, 1, 1, 1), value=float("nan")).unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    if block == "Mixed_7c":
        pooled = around.nan_to_num(-1).amax(-1)
    else:
        pooled = around.nanmean(-1)
    with torch.inference_mode():
        found, expected = module(x), module.branch_pool(pooled)
    assert torch.allclose(found[:, -expected.shape[1] :], expected, atol=1e-5)


def test_wrong_weights_are_refused_unless_allowed(random_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: open("/no route"))
    with pytest.raises(FileNotFoundError, match="no route") as caught:
        find_weights(INCEPTION, None, "inception_weights")
    for part in (INCEPTION.name, INCEPTION.url, "6726825d", "inception_weights=FILE"):
        assert part in str(caught.value)
    path, _ = random_weights
    with pytest.raises(ValueError, match="6726825d.*allow_other_weights=true") as caught:
        find_weights(INCEPTION, path, "inception_weights")
    assert find_weights(INCEPTION, path, "inception_weights", allow_other=True) == path
    whole = file_hash(path)
    assert f"inception_weights={path} has SHA-256 {whole}" in str(caught.value)
    url = f"https://example.org/net-{whole[:8]}.pth"
    assert find_weights(Published(url, whole), path, "inception_weights") == path
    like = Published(url, whole[:8] + "0" * 56)  # alike in the digits that its name shows
    with pytest.raises(ValueError, match="allow_other_weights=true"):
        find_weights(like, path, "inception_weights")


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    torch.save(FeatureCache, tmp_path / "code.pth")  # a pickled class must not be loaded
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for name, says in (
        ("text", "cannot be read as|is not a plain"), ("code", "is not a plain file of weights"),
        ("list", "holds no tensors by name"), ("gone", "cannot be read as weights"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"inception_weights=.*{name}.pth ({says})"):
            load_weights(tmp_path / f"{name}.pth", "inception_weights")
