"""Values read past the HDF5 library are the library's, and where they cannot be, it reads them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from datasets.stored_bytes import StoredBytes

BYTES = h5py.vlen_dtype(np.uint8)
# None at all, some that share a heap collection, some that are alone in theirs.
LENGTHS = [0, 1, 7, 8, 9, 100, 4000, 4096, 5000, 100_000, 3, 1, 70_000, 16, 0, 33]
RNG = np.random.default_rng(5)
VALUES = [RNG.integers(0, 256, n, dtype=np.uint8) for n in LENGTHS]

DIRECT = {
    "one block": ({}, {}),
    "chunks": ({}, {"chunks": (3,), "maxshape": (None,)}),
    "newest format": ({"libver": "latest"}, {"chunks": (3,), "maxshape": (None,)}),
    "newest format, one chunk": ({"libver": "latest"}, {"chunks": (len(LENGTHS),)}),
}
OTHERWISE = {
    "user block": ({"userblock_size": 512}, {}),
    "compressed": ({}, {"chunks": (3,), "compression": "gzip"}),
    "in memory": ({"driver": "core"}, {}),
}


def column(tmp_path, how_file: dict, how_column: dict) -> h5py.Dataset:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", **how_file) as file:
        data = file.create_dataset("x", (len(VALUES),), BYTES, **how_column)
        for i in RNG.permutation(len(VALUES)):
            data[i] = VALUES[i]
    return h5py.File(path, driver=how_file.get("driver"))["x"]


@pytest.mark.parametrize("how", [*DIRECT.values(), *OTHERWISE.values()], ids=[*DIRECT, *OTHERWISE])
def test_values_are_those_that_were_stored(tmp_path, how):
    stored = StoredBytes(column(tmp_path, *how))
    for i, value in enumerate(VALUES):
        np.testing.assert_array_equal(stored[i], value)
        assert stored[i].dtype == np.uint8
    np.testing.assert_array_equal(stored[-3], VALUES[-3])
    with pytest.raises(IndexError):
        stored[len(VALUES)]


@pytest.mark.parametrize("how", DIRECT.values(), ids=DIRECT)
def test_the_library_is_asked_for_empty_values_only(tmp_path, how):
    data = column(tmp_path, *how)
    stored = StoredBytes(data)
    stored._column = None
    for i, value in enumerate(VALUES):
        if len(value):
            np.testing.assert_array_equal(stored[i], value)


@pytest.mark.parametrize("field", ["length", "address", "number"])
def test_what_is_not_where_it_should_be_is_left_to_the_library(tmp_path, field):
    stored = StoredBytes(column(tmp_path, {}, {}))
    for i, value in enumerate(VALUES):
        for wrong in (1, -1, 1000, 2**31):
            elements = stored._elements.copy()
            elements[field][i] += np.uint64(wrong % 2**32)
            broken = StoredBytes(stored._column)
            broken._elements = elements
            np.testing.assert_array_equal(broken[i], value)


def test_values_never_written_are_empty(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (5,), BYTES)
        file.create_dataset("y", (500,), BYTES, chunks=(3,))[4] = VALUES[5]
    with h5py.File(tmp_path / "x.h5") as file:
        assert len(StoredBytes(file["x"])[2]) == 0
        stored = StoredBytes(file["y"])
        np.testing.assert_array_equal(stored[4], VALUES[5])
        assert not len(stored[3]) and not len(stored[400])
