"""Matrix products, and sums over pixels, split among threads on the host; on a GPU they are the array module's own."""

import itertools
import math

import numpy as np

from mdps_ref.kernels.threads import PER_ENTRY, PER_PRODUCT, bands_of, blocks, in_threads
from mdps_ref.kernels.buffers import empty
from mdps_ref.backend import array_module

BLOCK = 2**18  # entries of an array that a thread works on at a time: a megabyte in float32, a call of some thirty microseconds
LINE = 2048  # entries, about, of a line of several pixels
MANY_LINES = 256  # beyond that many their sums are taken in float64, since single precision would round too much
SMALL = 2**18  # multiplications below which BLAS uses one thread anyhow


def product(a, b):
    """a @ b.  Shapes: a (..., M, K), b (..., K, N), leading axes broadcast -> (..., M, N)."""
    if array_module(a, b) is not np or a.ndim == 1 or b.ndim == 1:
        return a @ b
    m, k, n = *a.shape[-2:], b.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if math.prod(lead) * m * k * n < SMALL:
        return np.matmul(a, b)
    y = empty((*lead, m, n), np.result_type(a, b))
    if lead:
        a, b = (np.broadcast_to(factor, (*lead, *factor.shape[-2:])) for factor in (a, b))
    parts = blocks(lead[0], max(1, lead[0] // 16)) if lead else blocks(m, max(32, min(1024, m // 4)))

    def work(parts):
        for part in parts:
            np.matmul(a[part], b[part] if lead else b, out=y[part])

    in_threads(work, parts, PER_PRODUCT * math.prod(lead) * m * k * n)
    return y


def by_blocks(write, shape, xp):
    """Call write(index) for blocks of an array of images (N, H, ...) that cover it; on a GPU for all of it at once."""
    if xp is not np:
        return write((slice(None), slice(None)))

    def work(parts):
        for part in parts:
            write(part)

    return in_threads(work, bands_of(*shape[:2], BLOCK // max(1, math.prod(shape[2:]))), PER_ENTRY * math.prod(shape))


def add_arrays(a, b):
    """a + b.  Shapes: both alike -> the same."""
    xp = array_module(a, b)
    if xp is not np or a.size < BLOCK or a.ndim < 2:
        return a + b
    y = empty(a.shape, a.dtype)
    by_blocks(lambda part: np.add(a[part], b[part], out=y[part]), a.shape, xp)
    return y


def contiguous(x):
    """x itself, or its copy in one piece of memory."""
    if array_module(x) is not np or x.flags.c_contiguous:
        return x
    return joined([x]) if x.ndim > 2 else np.ascontiguousarray(x)


def joined(arrays):
    """Arrays side by side along the last axis.  Shapes: (N, ..., C1), (N, ..., C2), ... -> (N, ..., C1 + C2 + ...).

    Raises: ValueError where they differ in another axis.
    """
    xp = array_module(*arrays)
    if xp is not np or arrays[0].ndim < 3 or len({x.shape[:-1] for x in arrays}) > 1:
        return xp.concatenate(arrays, axis=-1)
    ends = list(itertools.accumulate(x.shape[-1] for x in arrays))
    y = empty((*arrays[0].shape[:-1], ends[-1]), np.result_type(*arrays))

    def write(part):
        for x, end in zip(arrays, ends, strict=True):
            y[part][..., end - x.shape[-1] : end] = x[part]

    by_blocks(write, y.shape, xp)
    return y


def of_images(b, images):
    """The part of b that belongs to some images, or b, if it is one for all.  Shapes: (N or 1, ...) -> (images or 1, ...)."""
    return b if len(b) == 1 else b[images]


class Padded:
    """Lines of images with `border` zeros around them, a band at a time, in memory as large as `band`, the largest.

    Shapes: x (N, H, W, C); a band is (images, lines), slices.
    """

    def __init__(self, x, band, border):
        images, lines = (part.stop - part.start for part in band)
        self._x, self._border = x, border
        self.memory = empty((images, lines + 2 * border, x.shape[2] + 2 * border, x.shape[3]), x.dtype)
        self.memory[:, :, :border] = 0
        self.memory[:, :, border + x.shape[2] :] = 0

    def lines(self, band):
        """The band's lines with their border.  Shapes: -> (images, lines + 2 border, W + 2 border, C)."""
        (images, lines), (h, wide), border = band, self._x.shape[1:3], self._border
        to = self.memory[: images.stop - images.start, : lines.stop - lines.start + 2 * border]
        top, bottom = lines.start - border, lines.stop + border
        first, last = max(top, 0), min(bottom, h)
        to[:, : first - top] = 0
        to[:, last - top :] = 0
        to[:, first - top : last - top, border : border + wide] = self._x[images, first:last]
        return to


def column_sums(x):
    """The sum of all rows.  Shapes: (P, C) -> (C)."""
    if array_module(x) is not np:
        return x.sum(axis=0)
    count, c = x.shape
    parts = blocks(count, 2 ** (max(1, BLOCK // c).bit_length() - 1))
    sums = np.zeros((len(parts), c), np.float64)

    def work(numbers):
        for number in numbers:
            sums[number] = _sum_by_lines(x[parts[number]][None])[0]

    in_threads(work, range(len(parts)), 0.3 * PER_ENTRY * x.size)
    return sums.sum(axis=0).astype(x.dtype)


def pixel_sums(x):
    """The sum over the pixels of each image.  Shapes: (N, P, C) -> (N, 1, C)."""
    if x[0].size > BLOCK:
        return array_module(x).stack([column_sums(image) for image in x])[:, None]
    return _sum_by_lines(x).astype(x.dtype)[:, None]


def _sum_by_lines(x):
    """The sum over the pixels of each image, by long lines.  Shapes: (N, P, C) -> (N, C), float64 from float32."""
    n, count, c = x.shape
    lines = x.reshape(n, -1, c * pixels_a_line(count, c))
    sums = lines.sum(axis=1, dtype=np.float64 if lines.shape[1] > MANY_LINES else None)
    return sums.reshape(n, -1, c).sum(axis=1, dtype=np.float64)


def pixels_a_line(count, c):
    """How many of `count` pixels of c channels to handle as one long line: a power of two that divides them, for lines of about LINE.

    NumPy's loops then are long, and sums down the lines short, so that they round little.
    """
    together = 1
    while count % (2 * together) == 0 < count and together * c < LINE:
        together *= 2
    return together
