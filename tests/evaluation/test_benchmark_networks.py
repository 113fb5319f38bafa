"""The networks of the benchmarks and DINO's, from small random files in the published layouts."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import entropy
from tiny_networks import write_clip
from torchvision import transforms
from torchvision.models.inception import Inception3
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    SwinConfig,
)

from evaluation.metrics.inception_score import InceptionScore
from evaluation.networks.aesthetic import aesthetic_network
from evaluation.networks.classifier import imagenet_network
from evaluation.networks.clip import clip_network, crop_name
from evaluation.networks.csd import csd_network
from evaluation.networks.detector import BOXES, detector_network
from evaluation.networks.dino import dino_network
from evaluation.networks.inception import inception_at_64
from evaluation.networks.lpips import lpips_network
from evaluation.options import Options

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture
def picture(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((90, 60)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def refused(load, message, **options):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(Options("s", device="cpu", **options))


LOADERS = {
    "inception_weights": inception_at_64, "imagenet_inception": imagenet_network,
    "lpips_weights": lpips_network, "dino_weights": dino_network, "csd_weights": csd_network,
    "aesthetic_head": aesthetic_network, "clip_weights": clip_network,
}  # fmt: skip


@pytest.mark.parametrize("option", LOADERS)
def test_files_of_something_else_are_refused_in_a_sentence(tmp_path, option):
    """A library would list every tensor that it misses."""
    path = tmp_path / "other.pth"
    torch.save({f"{n}.weight": torch.zeros(1) for n in range(300)}, path)
    more = {"dino_model": "test_vit", option: str(path), "allow_other_weights": True}
    with pytest.raises(ValueError, match="does not fit|cannot be loaded") as caught:
        LOADERS[option](Options("s", device="cpu", **more))
    assert f"{option}={path}" in str(caught.value) and len(str(caught.value)) < 400
    if option != "clip_weights":  # which may be the name of published ones
        refused(LOADERS[option], f"{option}=gone does not exist: ", **{**more, option: "gone"})


def test_csd_is_clips_tower_with_its_own_projection(tmp_path, picture):
    torch.manual_seed(0)
    tower = open_clip.CLIP(
        8, {"image_size": 224, "layers": 2, "width": 64, "patch_size": 56, "head_width": 64},
        {"context_length": 8, "vocab_size": 9, "width": 16, "heads": 2, "layers": 1},
        quick_gelu=True,
    ).visual.eval()  # fmt: skip
    body = {name: value for name, value in tower.state_dict().items() if name != "proj"}
    heads = {"last_layer_style": torch.randn(64, 8), "last_layer_content": torch.randn(64, 8)}
    flat = {f"backbone.{name}": value for name, value in body.items()} | heads
    torch.save(flat, tmp_path / "csd_vit-large.pth")
    nested = {f"module.{name}": value for name, value in flat.items()}
    torch.save({"model_state_dict": nested, "epoch": 3}, tmp_path / "checkpoint.pth")
    pixels = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1) / 255
    pixels = transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC)(pixels)
    with torch.inference_mode():
        tower.proj = None
        wanted = tower(transforms.Normalize(MEAN, DEVIATION)(pixels)[None])
        wanted = F.normalize(wanted @ heads["last_layer_style"])
    for name in ("csd_vit-large.pth", "checkpoint.pth"):
        network = csd_network(Options("s", csd_weights=str(tmp_path / name), device="cpu"))
        assert network.encoders["picture"]([picture]) == pytest.approx(wanted.numpy(), abs=1e-5)
    (tmp_path / "x.pth").write_bytes((tmp_path / "checkpoint.pth").read_bytes()[:1000])
    refused(csd_network, "cannot be read as weights", csd_weights=str(tmp_path / "x.pth"))


def test_dino_reads_timms_files_and_metas(tmp_path, picture):
    name = "vit_tiny_patch16_224"
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    weights = network.state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    torch.save(weights | {"mask_token": torch.zeros(1, 192)}, tmp_path / "dinov2_pretrain.pth")
    prepare = transforms.Compose([
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224),
        transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    with torch.inference_mode():
        wanted = F.normalize(network(prepare(Image.open(picture))[None])).numpy()
    for file in ("model.safetensors", "dinov2_pretrain.pth"):
        options = Options("s", dino_model=name, dino_weights=str(tmp_path / file), device="cpu")
        encode = dino_network(options).encoders["picture"]
        assert encode([picture]) == pytest.approx(wanted, abs=1e-5)
    refused(dino_network, "dino_model=dinov9 is no network of timm", dino_model="dinov9")
    refused(dino_network, "cannot be downloaded .*: without a network give dino_weights=FILE",
            dino_model="vit_small_patch16_224.dino")  # fmt: skip


def test_the_aesthetic_head_stands_on_siglip(tmp_path, picture):
    torch.manual_seed(0)
    config = SiglipVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                num_attention_heads=2, image_size=32, patch_size=8)  # fmt: skip
    encoder = SiglipVisionModel(config).eval()
    encoder.save_pretrained(tmp_path)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    sizes, head = [16, 1024, 128, 64, 16, 1], {}
    pixels = Image.open(picture).resize((32, 32), Image.Resampling.BICUBIC)
    with torch.inference_mode():
        pooled = encoder(transforms.ToTensor()(pixels)[None] * 2 - 1).pooler_output
        value = pooled / pooled.norm()
        for number, (one, two) in enumerate(zip(sizes, sizes[1:], strict=False)):
            weight, bias = torch.randn(two, one) / one**0.5, torch.randn(two)
            head[f"scoring_head.{2 * number}.weight"] = weight
            head[f"scoring_head.{2 * number}.bias"] = bias
            value = value @ weight.T + bias
    torch.save(head, tmp_path / "aesthetic_predictor_v2_5.pth")
    files = {"aesthetic_head": str(tmp_path / "aesthetic_predictor_v2_5.pth"),
             "aesthetic_encoder": str(tmp_path)}  # fmt: skip
    network = aesthetic_network(Options("s", device="cpu", **files))
    assert network.encoders["score"]([picture])[0, 0] == pytest.approx(value.item(), abs=2e-2)
    head["scoring_head.0.weight"] = torch.zeros(1024, 12)
    torch.save(head, tmp_path / "x.pth")
    refused(aesthetic_network, "takes vectors of 12, but aesthetic_encoder=.* gives 16",
            **files | {"aesthetic_head": str(tmp_path / "x.pth")})  # fmt: skip


def test_grounding_dino_gives_its_surest_boxes_first(tmp_path, picture):
    torch.manual_seed(0)
    detector = GroundingDinoForObjectDetection(GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1,
                               num_attention_heads=2, intermediate_size=16),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=6,
        max_text_len=16,
    )).eval()  # fmt: skip
    folder = tmp_path / "detector"
    folder.mkdir()
    detector.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "character", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    processor = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(processor, tokenizer).save_pretrained(folder)
    clip = tmp_path / "clip"
    write_clip(clip)
    files = {"detector": str(folder), "clip_l14_model": f"local-dir:{clip}"}
    network = detector_network(Options("s", device="cpu", **files))
    (found,) = network.encoders["boxes"]([picture]).reshape(1, BOXES, 5)
    with torch.inference_mode():
        out = detector(
            processor(images=Image.open(picture), return_tensors="pt").pixel_values,
            torch.tensor([[2, 5, 6, 3]]),  # [CLS] character . [SEP]
        )
    wanted = []
    for logits, (x, y, w, h) in zip(out.logits[0], out.pred_boxes[0].tolist(), strict=True):
        corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        sure = 1 / (1 + np.exp(-logits.max().item()))
        wanted.append([sure, *(min(max(corner, 0), 1) for corner in corners)])
    wanted.sort(reverse=True)
    assert found[:6] == pytest.approx(np.array(wanted), abs=1e-4) and not found[6:].any()
    whole, part, mirrored = network.encoders["picture"]([
        picture, (picture, crop_name((0, 0, 0.5, 1))), (picture, crop_name((0, 0, 0.5, 1), True)),
    ])  # fmt: skip
    Image.open(picture).crop((0, 0, 45, 60)).save(tmp_path / "half.png")
    half = network.encoders["picture"]([tmp_path / "half.png"])[0]
    assert part == pytest.approx(half, abs=1e-6) and not np.allclose(part, mirrored, atol=1e-4)
    assert not np.allclose(part, whole, atol=1e-4)
    refused(detector_network, "is no folder of a GroundingDINO", **files | {"detector": str(clip)})


def test_inception_score_is_scipys_over_torchvisions_classes(tmp_path, picture):
    torch.manual_seed(0)
    network = Inception3(10, False, False, init_weights=False).eval()
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    options = Options("s", imagenet_inception=str(tmp_path / "inception.pth"), device="cpu",
                      allow_other_weights=True)  # fmt: skip
    prepare = transforms.Compose([
        transforms.Resize(299), transforms.CenterCrop(299), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    with torch.inference_mode():
        wanted = network(prepare(Image.open(picture))[None])[0].numpy()
    encoder = imagenet_network(options).encoders["features"]
    assert encoder([picture])[0] == pytest.approx(wanted, abs=1e-4)
    logits = 3 * np.random.default_rng(0).standard_normal((6, 10))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    def plain(rows):
        return np.exp(np.mean([entropy(row, rows.mean(0)) for row in rows]))

    weights = np.array([[1, 1, 1], [2, 0, 1]])  # stories of 2, 3 and 1 pictures
    first, second = InceptionScore()(logits, np.array([2, 3, 1]), weights)
    assert first == pytest.approx(plain(shares))
    assert second == pytest.approx(plain(np.concatenate([shares[:2], shares[:2], shares[5:]])))
    options.allow_other_weights = False
    with pytest.raises(ValueError, match="has SHA-256 .* has 0cc3c7bd"):
        imagenet_network(options)
