"""Good inputs of the forms that the other tests spoil."""

from __future__ import annotations

import shutil

import pytest
from good_inputs import build, folder, hdf5, judge, look, plain, png, samples


def test_good_inputs_of_the_same_forms_pass(tmp_path, capsys):
    """So that no row fails for another reason than what spoils it."""
    folder(tmp_path)
    build(tmp_path)
    (tmp_path / "s.h5").unlink()
    hdf5(tmp_path)
    with pytest.raises(SystemExit) as caught:
        look(tmp_path)
    assert caught.value.code == 0
    samples(tmp_path)
    judge(tmp_path)
    assert (tmp_path / "out" / "storyboard.png").is_file()
    shutil.rmtree(tmp_path / "out")
    plain(tmp_path)
    (tmp_path / "out" / ".ipynb_checkpoints").mkdir()
    png(tmp_path / "out" / ".ipynb_checkpoints" / "0.png", 8, 8)
    (tmp_path / "out" / "1" / "._0.png").write_text("left by another system")
    judge(tmp_path)
