"""Pictures out of an HDF5 file with one read of the file each.

The library takes a variable-length value through its cache and two copies, ten times as long as
reading it. Where it lies is simple, and laid down in the HDF5 file format specification (2.0 to
4.0, "Global Heap"): an element of the data set is (length, address, number); at the address a heap
collection holds its objects one after the other, each behind a header (number, size). Only what is
exactly so is read here; anything else is left to the library, which knows more and explains better.
"""

from __future__ import annotations

import os
import struct

import h5py
import numpy as np

__all__ = ["StoredBytes"]

_ELEMENT = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
_COLLECTION = struct.Struct("<4sB3xQ")  # signature, version, size
_OBJECT = struct.Struct("<HH4xQ")  # number, references, size
_AHEAD = _COLLECTION.size + _OBJECT.size  # what lies before the first object of a collection


class StoredBytes:
    """Index -> (n,) uint8, of a data set (N,) of variable-length uint8 that stays open."""

    def __init__(self, column: h5py.Dataset) -> None:
        self._column = column
        self._elements: np.ndarray | None = None
        file = column.file
        plain = file.driver == "sec2" and not file.userblock_size and hasattr(os, "pread")
        if plain and file.id.get_create_plist().get_sizes() == (8, 8):  # bytes of address and size
            self._file = file.id.get_vfd_handle()
            self._elements = self._find_elements()

    def __getitem__(self, index: int) -> np.ndarray:
        found = None if self._elements is None else self._read(*self._elements[index].tolist())
        return self._column[index] if found is None else found

    def _find_elements(self) -> np.ndarray | None:
        """All elements, (N,); None if they are stored in no known way."""
        column, blocks = self._column.id, []  # of elements: first one, place, size in the file
        if self._column.ndim != 1 or column.get_create_plist().get_nfilters():
            return None
        if self._column.chunks is not None:
            column.chunk_iter(lambda c: blocks.append((c.chunk_offset[0], c.byte_offset, c.size)))
        elif column.get_offset() is not None:
            blocks.append((0, column.get_offset(), column.get_storage_size()))
        elements = np.zeros(len(self._column), _ELEMENT)
        for first, place, size in blocks:
            data = os.pread(self._file, size, place)
            if len(data) % _ELEMENT.itemsize:
                return None
            block = np.frombuffer(data, _ELEMENT)[: len(elements) - first]
            elements[first : first + len(block)] = block
        return elements

    def _read(self, length: int, address: int, number: int) -> np.ndarray | None:
        """The object `number` of the collection at `address`; None if it is not there."""
        # Large objects are alone in their collection: usually this read is the only one.
        data = os.pread(self._file, _AHEAD + length, address) if length else b""
        if len(data) < _AHEAD + length or data[:5] != b"GCOL\x01":
            return None
        end = address + _COLLECTION.unpack_from(data)[2]
        place = address + _COLLECTION.size
        found, _, size = _OBJECT.unpack_from(data, _COLLECTION.size)
        while found != number:
            place += _OBJECT.size + -(-size // 8) * 8  # padded to eight bytes
            header = os.pread(self._file, _OBJECT.size, place)
            if place >= end or len(header) < _OBJECT.size:
                return None
            found, _, size = _OBJECT.unpack(header)
        if place != address + _COLLECTION.size:
            data = data[:_AHEAD] + os.pread(self._file, length, place + _OBJECT.size)
        whole = size == length and len(data) == _AHEAD + length
        return np.frombuffer(data, np.uint8, length, _AHEAD) if whole else None
