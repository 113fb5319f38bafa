"""Places that a story file cannot be written to: one sentence, and nothing is left or lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import raw_sets

from data_script.pororo_hdf5 import build_pororo_file


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "pororo"
    raw_sets.pororo(folder)
    return folder


TARGETS = {
    "a folder": (lambda out: out, ValueError, "out is a folder: give the name of a file"),
    "below a file": (
        lambda out: (out / "file").touch() or out / "file" / "s.h5",
        OSError,
        "cannot write .*file/s.h5: free some space or choose another place",
    ),
    "read-only": (lambda _: Path("/proc/s.h5"), OSError, "cannot write /proc/s.h5: free .* choose"),
}


@pytest.mark.parametrize("make, error, message", TARGETS.values(), ids=TARGETS)
def test_targets_that_cannot_be_written(raw, tmp_path, make, error, message):
    (tmp_path / "out").mkdir()
    target = make(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message) as caught:
        build_pororo_file(raw, target, num_process=1)
    assert "\n" not in str(caught.value) and sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_keeps_the_file_that_was_there(raw, tmp_path, monkeypatch):
    build_pororo_file(raw, tmp_path / "s.h5", num_process=1)
    before = (tmp_path / "s.h5").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    for place in ("datasets.story_hdf5.StoryWriter._append", "os.replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="free some .*No space"):
            patch.setattr(place, full)
            build_pororo_file(raw, tmp_path / "s.h5", num_process=1)
    assert (tmp_path / "s.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
