"""Reads the pickles that raw data sets come as (`.npy` object arrays, `.pkl`) and runs nothing.

A pickle is a program: it may name any function of any module and call it. This reader knows the
five names that plain data needs, and answers each with a stand-in that builds a value and can be
neither replaced nor altered from within the file. NumPy's own array and type states are not used
either, as a forged type could make bytes into pointers. Any other name is refused.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.terminal import in_one_line

_KINDS = "biufSU"  # booleans, numbers, byte strings, text: what a plain array may hold


def load_npy(path: str | os.PathLike) -> np.ndarray:
    """A `.npy` file of numbers, strings or objects; ValueError if it is anything else.

    Arrays inside an object array have to be asked for: np.asarray(array[0]).
    """

    def read(file: io.BufferedReader) -> np.ndarray:
        version = np.lib.format.read_magic(file)
        header = "read_array_header_1_0" if version == (1, 0) else "read_array_header_2_0"
        shape, fortran, dtype = getattr(np.lib.format, header)(file)
        if dtype.kind == "O":
            return np.asarray(_Unpickler(file, encoding="latin1").load()).reshape(shape)
        _check_plain(dtype)
        data = file.read(math.prod(shape) * dtype.itemsize)
        return np.ndarray(shape, dtype, data, order="F" if fortran else "C")

    return _read(path, "NumPy array", read)


def load_pickle(path: str | os.PathLike) -> object:
    """A pickle of plain containers, text, numbers and arrays; ValueError if it is anything else."""
    return _read(path, "pickle", lambda file: _Unpickler(file, encoding="latin1").load())


def text(value: object) -> str:
    """A string as it was meant: Python 2 stored bytes, and did not say in which encoding.

    The pickle module reads them as Latin-1; they are UTF-8 wherever they can be.
    """
    if not isinstance(value, bytes | str):
        raise TypeError(f"{value!r} is no text")
    try:
        data = value if isinstance(value, bytes) else value.encode("latin1")
    except UnicodeEncodeError:
        return str(value)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin1")


def _read(path: str | os.PathLike, what: str, read: Callable) -> np.ndarray | object:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: complete the download or correct its path")
    try:
        with path.open("rb") as file:
            return read(file)
    except Exception as error:  # a broken pickle may raise anything
        reason = in_one_line(error)
        raise ValueError(
            f"{path} is not a whole {what} of plain data ({reason}): get it again from its source"
        ) from None


def _check_plain(dtype: np.dtype) -> None:
    if dtype.kind not in _KINDS:
        raise pickle.UnpicklingError(f"it holds {dtype}")


class _Allowed:
    """Stands for a name in a pickle. It can be called; the pickle cannot change it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable) -> None:
        self._call = call

    def __call__(self, *args: object) -> object:
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it tries to alter a function")


class _Dtype:
    """Stands for numpy.dtype; of its state only the byte order is taken."""

    def __init__(self, name: object, *_: object) -> None:
        if not re.fullmatch(r"[<>|=]?([biufSU]\d{1,9}|O8?)", text(name)):
            raise pickle.UnpicklingError(f"it holds {name!r}")
        self.dtype = np.dtype(text(name))

    def __setstate__(self, state: tuple) -> None:
        if text(state[1]) in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(text(state[1]))


class _Array:
    """Stands for numpy.ndarray; the array is made from shape, type and data of its state."""

    def __init__(self, *_: object) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        shape, kind, fortran, data = state[-4:]  # a version may come first
        order = "F" if fortran else "C"
        if kind.dtype.kind == "O":
            flat = np.empty(len(data), object)
            for i, value in enumerate(data):
                flat[i] = value
            self.array = flat.reshape(shape, order=order)
        else:
            self.array = np.ndarray(shape, kind.dtype, _bytes(data), order=order)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


def _bytes(data: object) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _scalar(kind: _Dtype, data: object) -> object:
    _check_plain(kind.dtype)
    return np.ndarray((), kind.dtype, _bytes(data)).item()


_NUMPY = {"_reconstruct": _Allowed(_Array), "scalar": _Allowed(_scalar)}
_NAMES = {
    ("numpy", "dtype"): _Allowed(_Dtype),
    ("numpy", "ndarray"): None,  # handed to _reconstruct, which knows
    ("_codecs", "encode"): _Allowed(lambda data, _: data.encode("latin1")),  # bytes, protocol 2
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in _NUMPY.items()
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which data has no use for")
        return _NAMES[module, name]
