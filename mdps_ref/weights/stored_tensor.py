"""Tensors as the files of others tell of them: views of stored numbers, checked before a number is read, and then read.

A view is an offset, a shape and strides; several may share a storage, and may repeat its numbers.
"""

import math
import typing

import numpy as np

MOST_REPEATED = (4, 2**26)  # the arrays may be this many times as large as the file, and this many bytes more


class Storage(typing.NamedTuple):
    """`size` numbers of a file, from the number `start` on of those stored under a name."""

    name: str
    dtype: str
    size: int
    start: int = 0


class Tensor(typing.NamedTuple):
    """A view of a storage, not yet read, nor checked.  Units: elements of `dtype`, which may be another than the storage's."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple
    strides: tuple


def check_counts(*runs):
    """Raises: ValueError unless each is a tuple of whole numbers from 0 on, no more of them than NumPy has axes."""
    for run in runs:
        if not isinstance(run, tuple) or len(run) > 64 or not all(type(number) is int and 0 <= number < 2**63 for number in run):
            raise ValueError("a size, offset, shape or strides are no counts")


def check_view(tensor):
    """Raises: ValueError unless the view lies inside its storage."""
    storage, dtype, offset, shape, strides = tensor
    check_counts((offset,), shape, strides)
    if len(shape) != len(strides):
        raise ValueError("a tensor's shape and strides do not go together")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * layout_of(dtype).itemsize > storage.size * layout_of(storage.dtype).itemsize:
        raise ValueError("a tensor reaches beyond its storage")


def check_total(tensors, size):
    """Raises: ValueError if views that repeat their numbers (strides of 0, shared storages) make a small file huge."""
    total = sum(math.prod(tensor.shape) * layout_of(tensor.dtype).itemsize for tensor in tensors)
    times, more = MOST_REPEATED
    if total > times * size + more:
        raise ValueError(f"its tensors would take {total} bytes, though the file has {size}")


def layout_of(dtype):
    """The NumPy dtype that the bits of a number are read as."""
    return np.dtype({"bfloat16": "u2", "bool": "u1"}.get(dtype, dtype))


def strides_of(shape):
    """The strides of a contiguous array in C order, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def to_array(tensor, content, order="<"):
    """A contiguous array of its own of a view into `content`, what is stored under the name of its storage.

    bfloat16 becomes float32, of which it is the upper half.  order: NumPy's sign for the byte order.
    """
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, "float32" if tensor.dtype == "bfloat16" else tensor.dtype)
    layout = layout_of(tensor.dtype).newbyteorder(order)
    strides = [stride * layout.itemsize for stride in tensor.strides]
    begin = tensor.storage.start * layout_of(tensor.storage.dtype).itemsize + tensor.offset * layout.itemsize
    bits = np.ndarray(tensor.shape, layout, content, begin, strides)  # NumPy, too, checks that it lies inside
    if tensor.dtype != "bfloat16":
        return np.array(bits, dtype=tensor.dtype, order="C")
    bits = np.array(bits, dtype=np.uint32, order="C")
    bits <<= 16
    return bits.view(np.float32)
