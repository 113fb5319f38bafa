"""Raw pickles are read like NumPy reads them, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import pytest
from raw_sets import objects, python2_pickle, save_python2

from data_script.safe_pickle import load_npy, load_pickle, text

ARRAYS = {
    "bytes": np.array([b"a/1.png", b"b/22.png"]),
    "text": np.array([["ä", "b"], ["c", "dd"]]),
    "big endian": np.arange(5, dtype=">f8"),
    "fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "uint8 4-d": np.arange(48, dtype=np.uint8).reshape(2, 2, 4, 3),
    "scalar": np.array(3.5),
    "objects": np.array([["a", 1], [None, 2.5]], object),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_like_numpy_alone_and_inside_pickles(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    loaded = [load_npy(tmp_path / "a.npy")]
    for protocol in (2, 4):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": [array]}, protocol))
        loaded.append(np.asarray(load_pickle(tmp_path / "a.pkl")["x"][0]))
    for one in loaded:
        assert one.dtype == array.dtype
        np.testing.assert_array_equal(one, array)


def test_object_arrays_of_python_2_as_numpy_reads_them(tmp_path):
    value = {b"ep/1": [b"Caf\xe9", "Ünï"], b"x" * 300: [7, -1, None, True, (b"a",)]}
    save_python2(tmp_path / "d.npy", value)
    save_python2(tmp_path / "i.npy", objects([np.arange(3), np.arange(5), np.array([7])]))
    for name in ("d.npy", "i.npy"):
        trusted = np.load(tmp_path / name, allow_pickle=True, encoding="latin1")
        mine = load_npy(tmp_path / name)
        assert mine.shape == trusted.shape and mine.dtype == trusted.dtype == object
        for a, b in zip(mine.flat, trusted.flat, strict=True):
            if isinstance(b, np.ndarray):
                np.testing.assert_array_equal(np.asarray(a), b)
            else:
                assert a == b
    codes = [op.name for op, *_ in pickletools.genops(python2_pickle(value))]
    assert "SHORT_BINSTRING" in codes and "BINSTRING" in codes  # what Python 3 never writes


def test_text_is_utf8_where_it_can_be():
    assert text(b"caf\xc3\xa9") == text("caf\xc3\xa9") == text("café") == text(b"caf\xe9") == "café"
    assert text("日本") == "日本" and type(text(np.str_("a"))) is str
    with pytest.raises(TypeError):
        text(3)


def test_numbers_and_scalars(tmp_path):
    value = {"a": [np.int64(3), np.float32(0.5), np.str_("é"), 2**80, -1.5, {4}, b"\xff", (1,)]}
    for protocol in (2, 4):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": value["a"][:5]}, protocol))
        assert load_pickle(tmp_path / "a.pkl") == {"a": [3, 0.5, "é", 2**80, -1.5]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, 4))
    assert load_pickle(tmp_path / "a.pkl") == value


class Calls:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


STRANGE = {
    "system": lambda marker: pickle.dumps(Calls(os.system, f"touch {marker}")),
    "protocol 0": lambda marker: f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode(),
    "dotted": lambda _: b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "a class": lambda _: pickle.dumps(OrderedDict(a=1)),
    "alters a function": lambda _: b"\x80\x02cnumpy\ndtype\n}(U\x01aK\x01ub.",
    "persistent": lambda _: b"Px\n.",
    "makes pointers of bytes": lambda _: (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x08\x85cnumpy\ndtype\nU\x02V8K\x00K\x01\x87R\x89U\x08AAAAAAAAtb."
    ),
    "type by another name": lambda _: b"cnumpy\ndtype\n(S'O,O'\ntR.",
    "more than there is": lambda _: (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R\x89U\x08AAAAAAAAtb."
    ),
    "deep": lambda _: b"(" * 100_000,
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_strange_pickles_are_refused(tmp_path, make):
    path, marker = tmp_path / "x.pkl", tmp_path / "marker"
    path.write_bytes(make(marker))
    with pytest.raises(ValueError, match="x.pkl is not a whole pickle of plain data .*get it ag"):
        load_pickle(path)
    assert not marker.exists()


def test_bytes_never_become_objects(tmp_path):
    """A forged array of objects whose data are bytes: NumPy itself would follow them in memory."""
    forged = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x08\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNK\x08K\x08K\x00tb"
        b"\x89U\x08AAAAAAAAtb."
    )
    (tmp_path / "x.pkl").write_bytes(forged)
    assert np.asarray(load_pickle(tmp_path / "x.pkl")).tolist() == ["A"] * 8


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


BAD_NPY = {
    "empty": b"",
    "short": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (4,)}\n", b"\0" * 31),
    "huge": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999,)}\n", b"\0" * 8),
    "pointers": npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}\n", b"\0" * 8),
    "code": npy("{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,)}\n"),
}


@pytest.mark.parametrize("content", BAD_NPY.values(), ids=BAD_NPY)
def test_bad_npy_files(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(ValueError, match="x.npy is not a whole NumPy array of plain data .*get it"):
        load_npy(tmp_path / "x.npy")
