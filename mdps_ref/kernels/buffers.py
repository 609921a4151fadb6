"""Buffers that are used again, so that large arrays do not cost fresh pages each time.

The system hands out every fresh page zeroed, which for arrays of megabytes takes longer than filling them. CuPy and PyTorch's GPU side
keep pools for the same reason.
"""

import bisect
import math
import sys
import threading

import numpy as np

from mdps_ref.kernels.threads import SIDE_BY_SIDE

ALIGNMENT = 64  # bytes: a vector register and a cache line
WASTE = 4  # how many times larger than asked for a buffer may be
_current = [None]


def _counts(buffers, first, last):
    """How often Python counts each of some buffers as held."""
    return [sys.getrefcount(buffers[at]) for at in range(first, last)]


(_IDLE,) = _counts([np.empty(0)], 0, 1)  # by its list alone


class Workspace:
    """A pool of host memory; inside `with Workspace():` the large results of primitives come from it, and threads work side by side.

    A buffer is handed out again once no array made of it is held by anyone, which Python's reference count tells. So an array taken
    out of the block stays what it is.
    """

    def __init__(self):
        self._sizes, self._buffers, self._starts = [], [], []  # by size, and where in the buffer the first aligned byte is
        self._lock = threading.Lock()

    def __enter__(self):
        SIDE_BY_SIDE.__enter__()
        _current.append(self)
        return self

    def __exit__(self, *_):
        _current.pop()
        SIDE_BY_SIDE.__exit__()

    def empty(self, shape, dtype):
        """An array of any content, in the smallest free buffer of at most WASTE times its size.  Shapes: -> `shape`."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with self._lock:
            first, last = bisect.bisect_left(self._sizes, size), bisect.bisect_right(self._sizes, WASTE * size)
            counts = _counts(self._buffers, first, last)
            if _IDLE in counts:
                first += counts.index(_IDLE)
            else:
                self._insert(first, size)
            return np.ndarray(shape, dtype, self._buffers[first], self._starts[first])

    def _insert(self, at, size):
        """A new buffer."""
        buffer = np.empty(size + ALIGNMENT, np.uint8)
        for column, entry in ((self._sizes, size), (self._buffers, buffer), (self._starts, -buffer.ctypes.data % ALIGNMENT)):
            column.insert(at, entry)


def empty(shape, dtype, xp=np):
    """An array of any content: on the host from the innermost Workspace, if there is one, else fresh.  Shapes: -> `shape`."""
    return _current[-1].empty(shape, dtype) if xp is np and _current[-1] else xp.empty(shape, dtype)


def cut(memory, shape):
    """An array of `shape` at the start of a flat one."""
    return memory[: math.prod(shape)].reshape(shape)
