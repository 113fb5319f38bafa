"""What a file given as weights really is, told from its first bytes: nothing of it is loaded."""

from __future__ import annotations

import json
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from shlex import quote

from common.files import file_state

__all__ = ["CUT_SHORT", "check_sums", "file_kind", "whole_kind"]

CUT_SHORT = "is cut short{}; copy or download it again"
_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # PyTorch's, before 1.6
_DAMAGED = "is damaged: {} is not as it was written; give another copy"
_ARCHIVE = "is an archive; unpack it and give the checkpoint that is in it"
_STARTS = {
    b"\x1f\x8b": _ARCHIVE,
    b"7z\xbc\xaf": _ARCHIVE,
    b"\xfd7zXZ": _ARCHIVE,
    b"\x28\xb5\x2f\xfd": _ARCHIVE,
    b"BZh": _ARCHIVE,
    b"Rar!": _ARCHIVE,
    b"\x89HDF": "is an HDF5 file, as stories are kept in; give a checkpoint",
    b"version https://git-lfs": "is a git-lfs pointer, not the file it stands for; run git lfs "
    "pull in its folder, or download the file itself",
}  # fmt: skip


def file_kind(path: str | Path) -> str:
    """`zip` (PyTorch's own), `pickle` (PyTorch's before 1.6) or `safetensors`.

    Raises:
        ValueError: something else; the sentence goes on from the file's name and says what to do.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError("is not there; give a path that exists")
    if path.is_dir():
        raise ValueError(_folder(path))
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError("is empty; copy or download it again")
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head[8:9] == b"{":
        return _safetensors(path, int.from_bytes(head[:8], "little"))
    if head[:1] == b"\x80":
        if _LEGACY_MAGIC in head[:32]:
            return "pickle"
        raise ValueError(
            "is a pickle that torch.save did not write, and could run code; save its weights "
            "with torch.save or as safetensors"
        )
    raise ValueError(_no_weights(head))


def _zip(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        raise ValueError(CUT_SHORT.format(": the table at its end is missing"))
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(_DAMAGED.format("the table at its end")) from error
    if "data.pkl" not in names:
        raise ValueError(_ARCHIVE)
    if "constants.pkl" in names:
        raise ValueError("is a TorchScript program; save the model's state_dict and give that")
    return "zip"


def whole_kind(path: str | Path) -> str:
    """`file_kind`, of a file that is as it was written as far as its form can tell."""
    kind = file_kind(path)
    if kind == "zip":
        check_sums(path)
    return kind


def check_sums(path: str | Path) -> None:
    """ValueError, as above, unless all of a zip file is as it was written; read once a process."""
    _check_sums(path, file_state(path))


@lru_cache(maxsize=64)
def _check_sums(path: str | Path, state: tuple[int, ...]) -> None:
    part = "the table at its end"
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                part = f"its part {Path(entry.filename).name}"
                if entry.CRC:  # PyTorch can be told not to count them
                    with archive.open(entry) as file:
                        while file.read(1 << 24):
                            pass
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, zlib.error) as error:
        raise ValueError(_DAMAGED.format(part)) from error


def _safetensors(path: Path, length: int) -> str:
    size = path.stat().st_size
    if 8 + length > size:
        raise ValueError(CUT_SHORT.format(""))
    with open(path, "rb") as file:
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            ends = [about["data_offsets"][1] for k, about in header.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError("is no whole safetensors file; copy or download it again") from error
    whole = 8 + length + max(ends, default=0)
    if size < whole:
        raise ValueError(CUT_SHORT.format(f": {size:,} of {whole:,} bytes"))
    return "safetensors"


def _no_weights(head: bytes) -> str:
    for start, what in _STARTS.items():
        if head.startswith(start):
            return what
    if head[257:262] == b"ustar":
        return _ARCHIVE
    if not head.strip(b"\0"):
        return CUT_SHORT.format(": it begins with zeros, which a download left unfilled")
    text = head.decode("utf-8-sig", errors="replace").strip()
    if text.lower().startswith(("<!doctype html", "<html")):
        return "is a web page saved under that name; download the file itself"
    if "�" not in text[:-4] and text.isprintable() or "\n" in text and text.isascii():
        return f"is a text file that begins with {text[:40]!r}; give a checkpoint"
    return f"is no file of weights: it begins with {head[:8]!r}; give a checkpoint"


def _folder(path: Path) -> str:
    """What a folder is, and what to do with it."""
    names = {entry.name for entry in path.iterdir()}
    if "zero_to_fp32.py" in names or list(path.glob("**/mp_rank_*_model_states.pt")):
        return (
            "is a DeepSpeed folder; run its zero_to_fp32.py with --max_shard_size 100GB and give "
            "the pytorch_model.bin that it writes"
        )
    if ".metadata" in names or list(path.glob("**/*.distcp")):
        return (
            "is a sharded folder of FSDP; run python -m torch.distributed.checkpoint.format_utils "
            "dcp_to_torch FOLDER FILE and give that file"
        )
    if {"model_index.json", "conditioner"} <= names:
        return (
            f"is a folder that models.export wrote; make a checkpoint of it with python -m "
            f"models.export checkpoint={quote(str(path))} out=model.ckpt, and give that"
        )
    if "model_index.json" in names or {"unet", "vae"} <= names:
        return (
            "is a folder in diffusers' layout, as the backbone's diffusion_model takes; give a "
            "checkpoint here"
        )
    endings = (".ckpt", ".pth", ".pt", ".bin", ".safetensors")
    inside = sorted(name for name in names if name.endswith(endings))
    hint = f", such as {inside[0]}" if inside else ""
    return f"is a folder; give a checkpoint file{hint}"
