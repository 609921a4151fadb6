"""Buffers that are used again, so that large arrays do not cost fresh pages of memory each time.

The system hands out every fresh page zeroed, which for arrays of megabytes takes longer than filling them. CuPy and PyTorch keep pools
on the GPU for the same reason.
"""

import bisect
import contextvars
import math
import sys
import threading

import numpy as np

ALIGNMENT = 64  # bytes: a vector register and a cache line
WASTE = 4  # a buffer may be this many times larger than asked for
SMALL_BYTES = 2**16  # bytes; the system's allocator keeps smaller pieces by itself, and hands them out faster than the pool
POOL = contextvars.ContextVar("pool", default=None)  # the Pool in use; `fast` sets it


def _reference_count(buffers, at):
    """The reference count of one of a list's buffers."""
    return sys.getrefcount(buffers[at])


_FREE = _reference_count([np.empty(0)], 0)  # the count of a buffer that nothing but its list holds


def _first_free(buffers, first, last):
    """The place of the first buffer that nothing but its list holds; None if all are in use."""
    return next((at for at in range(first, last) if _reference_count(buffers, at) == _FREE), None)


class Pool:
    """Host memory for the large results of fast kernels.

    A buffer is handed out again once no array made of it is held by anyone, which Python's reference count tells. So an array that
    outlives the pool keeps its values.
    """

    def __init__(self):
        self._sizes, self._buffers, self._starts = [], [], []  # sorted by size; a start is the first aligned byte of its buffer
        self._lock = threading.Lock()

    def empty(self, shape, dtype):
        """Return an array of any content: a small one from the system, a large one in a buffer."""
        small = math.prod(shape) * np.dtype(dtype).itemsize < SMALL_BYTES
        return np.empty(shape, dtype) if small else self.in_buffer(shape, dtype)

    def in_buffer(self, shape, dtype):
        """Return an array of any content in the smallest free buffer of at most WASTE times its size."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with self._lock:
            first, last = bisect.bisect_left(self._sizes, size), bisect.bisect_right(self._sizes, WASTE * size)
            at = _first_free(self._buffers, first, last)
            if at is None:
                at = first
                self._insert(at, size)
            return np.ndarray(shape, dtype, self._buffers[at], self._starts[at])

    def _insert(self, at, size):
        buffer = np.empty(size + ALIGNMENT, np.uint8)
        for column, entry in ((self._sizes, size), (self._buffers, buffer), (self._starts, -buffer.ctypes.data % ALIGNMENT)):
            column.insert(at, entry)


def empty(shape, dtype):
    """Return a host array of any content: from the pool in use, else from fresh memory."""
    pool = POOL.get()
    return np.empty(shape, dtype) if pool is None else pool.empty(shape, dtype)


def cut(memory, shape):
    """Return an array of `shape` at the start of a flat array."""
    return memory[: math.prod(shape)].reshape(shape)
