"""clip and lpips, with random or tiny networks."""

from __future__ import annotations

import shutil

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from sample_folders import toy_frames, write_samples
from tiny_networks import write_clip
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchvision.models import squeezenet1_1

from common.files import file_hash
from evaluation.networks.clip import clip_network
from evaluation.networks.lpips import lpips_network
from evaluation.options import Options
from evaluation.run import evaluate


def picture(path, seed=0, side=96):
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return path


def test_clip_from_a_local_folder_gives_the_models_own_cosines(tmp_path):
    model = write_clip(tmp_path / "clip")
    clip = clip_network(Options("s", clip_model=f"local-dir:{tmp_path / 'clip'}", device="cpu"))
    pictures, captions, sha256 = clip.encoders["picture"], clip.encoders["text"], clip.sha256
    path = picture(tmp_path / "a.png", side=32)
    pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 127.5 - 1
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a red fox"])
    with torch.inference_mode():
        expected = F.cosine_similarity(model.encode_image(pixels), model.encode_text(tokens))
    found = (pictures([path]) * captions(["a red fox"])).sum()
    assert found == pytest.approx(expected.item(), abs=1e-5)
    assert len(sha256) == 64 and sha256 in pictures.key and pictures.key != captions.key
    settings = tmp_path / "clip" / "open_clip_config.json"
    settings.write_text(settings.read_text() + " ")  # what is mended is not what was kept
    mended = clip_network(Options("s", clip_model=f"local-dir:{tmp_path / 'clip'}", device="cpu"))
    assert mended.sha256 == sha256 and mended.encoders["picture"].key != pictures.key


@pytest.mark.parametrize("name, beside", [
    ("model.safetensors", None), ("pytorch_model.bin", None), ("mine.pth", None),
    ("open_clip_pytorch_model.bin", "mine.safetensors"),
    ("model.safetensors", "open_clip_mine.safetensors"),
])  # fmt: skip
def test_the_hash_of_a_local_clip_is_of_the_file_that_is_read(tmp_path, name, beside):
    folder, found = tmp_path / "clip", []
    for seed in (0, 1):
        shutil.rmtree(folder, ignore_errors=True)
        model = write_clip(folder, seed)
        (folder / "open_clip_model.safetensors").unlink()
        save = save_file if name.endswith("safetensors") else torch.save
        save(model.state_dict(), folder / name)
        if beside:
            save_file({"x": torch.zeros(1)}, folder / beside)
        found.append(clip_network(Options("s", clip_model=f"local-dir:{folder}", device="cpu")))
        assert found[-1].sha256 == file_hash(folder / name)
    assert found[0].encoders["text"].key != found[1].encoders["text"].key


def test_clip_without_weights_names_file_and_key(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("offline")

    def no_retries(*_, **__):
        raise AssertionError("the slow way was tried after the quick one had failed")

    monkeypatch.setattr("evaluation.networks.weights.model_info", no_network)
    monkeypatch.setattr("evaluation.networks.weights.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("open_clip.factory.download_pretrained", no_retries)
    with pytest.raises(ValueError, match="offline") as caught:
        clip_network(Options("s", device="cpu"))
    assert "huggingface.co/timm/vit_base_patch32_clip_224.openai" in str(caught.value)
    assert "clip_weights=FILE" in str(caught.value)
    assert "ViT-B-32.pt, SHA-256 40d365715913c9da" in str(caught.value)
    with pytest.raises(ValueError, match="hf-hub:a/b is not fetched here; run hf download a/b "):
        clip_network(Options("s", clip_model="hf-hub:a/b", device="cpu"))
    with pytest.raises(ValueError, match="clip_model=no-such-model"):
        clip_network(Options("s", clip_model="no-such-model", device="cpu"))


def write_squeezenet(path):
    torch.manual_seed(1)
    shapes = {k: v.shape for k, v in squeezenet1_1().features.state_dict().items()}
    weights = {f"features.{k}": 0.1 * torch.randn(shape) for k, shape in shapes.items()}
    save_file(weights, path)
    return weights


def test_lpips_uses_the_given_backbone(tmp_path):
    weights = write_squeezenet(tmp_path / "net.safetensors")
    one, two = picture(tmp_path / "1.png", 1), picture(tmp_path / "2.png", 2)
    encoder = lpips_network(Options(
        "s", lpips_net="squeeze", lpips_weights=str(tmp_path / "net.safetensors"), device="cpu",
        allow_other_weights=True)).encoders["distance"]  # fmt: skip
    expected = _NoTrainLpips(net="squeeze", pnet_rand=True)
    with torch.inference_mode():
        for mine, theirs in zip(expected.net.parameters(), weights.values(), strict=True):
            mine.copy_(theirs)
        pixels = [
            torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 127.5 - 1
            for path in (one, two)
        ]
        value = expected(*pixels).item()
    assert encoder([(one, two), (one, one)]).ravel() == pytest.approx([value, 0], abs=1e-5)
    assert value > 0


def test_each_metric_meets_its_network_its_pictures_and_its_weights_hash(tmp_path):
    frames, _ = toy_frames(12, seed=1)
    entries = write_samples(tmp_path / "s", stories=3)
    places = [[entry[key][k] for entry in entries for k in range(2)]
              for key in ("frames", "reference_frames")]  # fmt: skip
    for name, frame in zip(sum(places, []), frames, strict=True):
        Image.fromarray(frame).save(tmp_path / "s" / name)
    write_clip(tmp_path / "clip")
    write_squeezenet(tmp_path / "net.safetensors")
    how = {"clip_model": f"local-dir:{tmp_path / 'clip'}", "device": "cpu"}
    found = evaluate(Options(
        str(tmp_path / "s"), ["clip", "lpips_adjacent"], draws=20, lpips_net="squeeze",
        lpips_weights=str(tmp_path / "net.safetensors"), pictures=False, allow_other_weights=True,
        cache=str(tmp_path / "cache.sqlite"), **how))["metrics"]  # fmt: skip
    for name, entry in found.items():
        assert np.isfinite([entry["value"], entry["real"], entry["shuffled"]]).all(), name
        assert len(entry["weights"]["sha256"]) == 64 and entry["protocol"]
    counts = {name: entry["n"] for name, entry in found.items()}
    assert counts == {"clip_t": 6, "clip_i": 6, "clip_i_adjacent": 3, "lpips_adjacent": 3}
    encode = clip_network(Options("s", **how)).encoders["picture"]
    drawn, real = (encode([tmp_path / "s" / name for name in names]) for names in places)
    assert found["clip_i"]["value"] == pytest.approx((drawn * real).sum(1).mean(), abs=1e-6)
    nearby = (drawn[::2] * drawn[1::2]).sum(1).mean()
    assert found["clip_i_adjacent"]["value"] == pytest.approx(nearby, abs=1e-6)
