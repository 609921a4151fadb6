"""Tensors as a file of weights describes them: views of stored numbers, checked before any number is read.

A view is an offset, a shape and strides. Several views may share a storage, and a view may repeat numbers.
"""

import math
import typing

import numpy as np

MOST_REPEATED = (4, 2**26)  # all arrays together may take 4 times the size of the file, plus 2**26 bytes


class Storage(typing.NamedTuple):
    """A run of numbers in a file.

    Attributes
    ----------
    name : str
        The name under which the file stores the numbers.
    dtype : str
    size : int
        How many numbers.
    start : int
        Index of the first number, among those stored under the name.
    """

    name: str
    dtype: str
    size: int
    start: int = 0


class StoredTensor(typing.NamedTuple):
    """A view of a storage, neither read nor checked.

    Attributes
    ----------
    storage : Storage
    dtype : str
        It may differ from the storage's: the view then reads the same bytes as other numbers.
    offset, shape, strides : int, tuple, tuple
        In elements of `dtype`.
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple
    strides: tuple


def check_counts(*tuples):
    """Check that tuples hold whole numbers from 0 on, and no more of them than NumPy has axes.

    Raises
    ------
    ValueError
    """
    for counts in tuples:
        if not isinstance(counts, tuple) or len(counts) > 64 or not all(type(n) is int and 0 <= n < 2**63 for n in counts):
            raise ValueError("its sizes, offsets, shapes and strides must be whole numbers from 0 on, for at most 64 axes")


def check_view(tensor):
    """Check that a StoredTensor lies inside its storage.

    Raises
    ------
    ValueError
    """
    storage, dtype, offset, shape, strides = tensor
    check_counts((offset,), shape, strides)
    if len(shape) != len(strides):
        raise ValueError("a tensor's shape and its strides have different lengths")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * layout_of(dtype).itemsize > storage.size * layout_of(storage.dtype).itemsize:
        raise ValueError("a tensor reaches beyond its storage")


def check_total(tensors, size):
    """Check that views which repeat numbers (strides of 0, shared storages) do not fill the memory from a small file.

    Parameters
    ----------
    tensors : iterable of StoredTensor
    size : int
        Bytes in the file.

    Raises
    ------
    ValueError
    """
    total = sum(math.prod(tensor.shape) * layout_of(tensor.dtype).itemsize for tensor in tensors)
    times, more = MOST_REPEATED
    if total > times * size + more:
        raise ValueError(f"its tensors would take {total} bytes, but the file has only {size}")


def layout_of(dtype):
    """Return the NumPy dtype with which the bits of a stored number are read."""
    return np.dtype({"bfloat16": "u2", "bool": "u1"}.get(dtype, dtype))


def strides_of(shape):
    """Return the strides of a contiguous array in C order, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def to_array(tensor, content, order="<"):
    """Copy a view into a contiguous array. bfloat16, the upper half of float32, becomes float32.

    Parameters
    ----------
    tensor : StoredTensor
    content : bytes
        All numbers stored under the name of the tensor's storage.
    order : {"<", ">"}
        NumPy's sign for the byte order.

    Raises
    ------
    ValueError
        If the content is shorter than the storage should be.
    """
    storage = tensor.storage
    if (storage.start + storage.size) * layout_of(storage.dtype).itemsize > len(content):  # NumPy trusts the strides of an empty buffer
        raise ValueError("a storage has fewer bytes than is told")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, "float32" if tensor.dtype == "bfloat16" else tensor.dtype)
    layout = layout_of(tensor.dtype).newbyteorder(order)
    strides = [stride * layout.itemsize for stride in tensor.strides]
    begin = storage.start * layout_of(storage.dtype).itemsize + tensor.offset * layout.itemsize
    bits = np.ndarray(tensor.shape, layout, content, begin, strides)
    if tensor.dtype != "bfloat16":
        return np.array(bits, dtype=tensor.dtype, order="C")
    bits = np.array(bits, dtype=np.uint32, order="C")
    bits <<= 16
    return bits.view(np.float32)
