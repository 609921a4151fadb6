"""Products, sums, copies and additions in blocks that stay in a core's cache, shared among threads.  All arrays are on the host."""

import itertools
import math

import numpy as np

from mdps_ref.kernels.buffers import empty
from mdps_ref.kernels.threads import PER_ENTRY, PER_PRODUCT, bands_of, in_threads, pieces, slices_of

BLOCK = 2**17  # entries that a thread works on at a time: half a megabyte in float32, a call of some ten microseconds
LINE = 2048  # entries, about, of a line of several pixels
MANY_LINES = 256  # sums of more lines are taken in float64, since single precision would round too much
ROWS = 1024  # of a linear map's argument that a thread multiplies at a time
SMALL_PRODUCT = 2**18  # multiplications below which sharing a product is not worth it


def matmul(a, b):
    """a @ b.  Shapes: a (..., M, K), b (..., K, N), leading axes broadcast -> (..., M, N)."""
    m, k, n = *a.shape[-2:], b.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if math.prod(lead) * m * k * n < SMALL_PRODUCT:
        return np.matmul(a, b)
    y = empty((*lead, m, n), np.result_type(a, b))
    if lead:
        a, b = (np.broadcast_to(factor, (*lead, *factor.shape[-2:])) for factor in (a, b))
    parts = slices_of(lead[0], max(1, lead[0] // 16)) if lead else slices_of(m, max(32, min(1024, m // 4)))

    def work(parts):
        for part in parts:
            np.matmul(a[part], b[part] if lead else b, out=y[part])

    in_threads(work, parts, PER_PRODUCT * math.prod(lead) * m * k * n)
    return y


def linear(x, w, b):
    """x @ w + b on the last axis.  Shapes: x (..., Ci), w (Ci, Co), b (Co) or 0.0 -> (..., Co)."""
    rows = x.reshape(-1, x.shape[-1])
    y = empty((len(rows), w.shape[1]), x.dtype)
    adds = not isinstance(b, float)

    def work(parts):
        for part in parts:
            np.matmul(rows[part], w, out=y[part])
            if adds:
                add_along(y[part], b[None])

    in_threads(work, pieces(len(rows), ROWS), PER_PRODUCT * x.size * w.shape[1])
    return y.reshape(*x.shape[:-1], w.shape[1])


def add_along(rows, b):
    """Add b to rows in place.  Shapes: rows (P, C), b (1, C), or (N, C) for P / N neighbouring rows each."""
    count, c = rows.shape
    together = pixels_a_line(count // len(b), c) if rows.flags.c_contiguous else 1
    if together > 1:
        line = empty((len(b), together, c), b.dtype)
        line[...] = b[:, None]
        rows, b = rows.reshape(-1, together * c), line.reshape(len(b), -1)
    rows = rows.reshape(len(b), -1, rows.shape[1])
    rows += b[:, None]


def by_blocks(write, shape):
    """Call write(index) for blocks that cover an array of images (N, H, ...)."""

    def work(parts):
        for part in parts:
            write(part)

    in_threads(work, bands_of(*shape[:2], BLOCK // max(1, math.prod(shape[2:]))), PER_ENTRY * math.prod(shape))


def add(a, b):
    """a + b.  Shapes: two arrays alike, of at least two axes -> the same."""
    y = empty(a.shape, a.dtype)
    by_blocks(lambda part: np.add(a[part], b[part], out=y[part]), a.shape)
    return y


def contiguous(x):
    """Return x itself, or its copy in one piece of memory."""
    if x.flags.c_contiguous:
        return x
    return concatenate(x) if x.ndim > 2 else x.copy()


def concatenate(*arrays):
    """Join arrays along the last axis.  Shapes: (N, ..., C1), (N, ..., C2), ... -> (N, ..., C1 + C2 + ...)."""
    ends = list(itertools.accumulate(x.shape[-1] for x in arrays))
    y = empty((*arrays[0].shape[:-1], ends[-1]), np.result_type(*arrays))

    def write(part):
        for x, end in zip(arrays, ends, strict=True):
            y[part][..., end - x.shape[-1] : end] = x[part]

    by_blocks(write, y.shape)
    return y


def upsample2(x):
    """Every pixel as a 2 x 2 block.  Shapes: (N, H, W, C) -> (N, 2 H, 2 W, C)."""
    n, h, w, c = x.shape
    y = empty((n, h, 2, w, 2, c), x.dtype)

    def write(part):
        y[part] = x[part][:, :, None, :, None]

    by_blocks(write, x.shape)
    return y.reshape(n, 2 * h, 2 * w, c)


def mean_pool2(x):
    """The mean of every 2 x 2 block.  Shapes: (N, 2 H, 2 W, C) -> (N, H, W, C)."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c)
    y = empty((n, h // 2, w // 2, c), x.dtype)

    def write(part):
        y[part] = x[part][:, :, 0, :, 0]
        for i, j in ((0, 1), (1, 0), (1, 1)):
            y[part] += x[part][:, :, i, :, j]
        y[part] *= 0.25

    by_blocks(write, y.shape)
    return y


def of_images(b, images):
    """Return the part of b that belongs to some images; b itself where all share it.  Shapes: (N or 1, ...) -> (images or 1, ...)."""
    return b if len(b) == 1 else b[images]


class Padded:
    """Lines of images with a border of zeros, a band at a time, in memory for the largest band.

    Shapes: x (N, H, W, C); a band is (images, lines), two slices.  border: (before, after), zeros at the two ends of lines and columns.
    """

    def __init__(self, x, band, border):
        images, lines = (part.stop - part.start for part in band)
        self._x, (self._before, self._after) = x, border
        self.memory = empty((images, lines + sum(border), x.shape[2] + sum(border), x.shape[3]), x.dtype)
        self.memory[:, :, : self._before] = 0
        self.memory[:, :, self._before + x.shape[2] :] = 0

    def lines(self, band):
        """Return the band's lines with their border.  Shapes: -> (images, before + lines + after, before + W + after, C)."""
        (images, lines), (h, wide), before = band, self._x.shape[1:3], self._before
        to = self.memory[: images.stop - images.start, : lines.stop - lines.start + before + self._after]
        top, bottom = lines.start - before, lines.stop + self._after
        first, last = max(top, 0), min(bottom, h)
        to[:, : first - top] = 0
        to[:, last - top :] = 0
        to[:, first - top : last - top, before : before + wide] = self._x[images, first:last]
        return to


def sum_over(x, axis, keepdims=False):
    """The sum over all axes but the last (axis 0 .. ndim - 2), or over all but the first and the last (1 .. ndim - 2).

    Shapes: x (N, ..., C) -> (C), or (N, C), with the summed axes as ones if keepdims.
    """
    n, c = len(x), x.shape[-1]
    each_image = axis[0] == 1
    sums = pixel_sums(x.reshape(n, -1, c)) if each_image else column_sums(x.reshape(-1, c))
    shape = tuple(1 if at in axis else size for at, size in enumerate(x.shape)) if keepdims else ((n, c) if each_image else (c,))
    return sums.reshape(shape)


def column_sums(x):
    """The sum of all rows.  Shapes: (P, C) -> (C)."""
    count, c = x.shape
    parts = slices_of(count, 2 ** (max(1, BLOCK // c).bit_length() - 1))
    sums = empty((len(parts), c), np.float64)

    def work(numbers):
        for number in numbers:
            sums[number] = _sum_by_lines(x[parts[number]][None])[0]

    in_threads(work, range(len(parts)), 0.3 * PER_ENTRY * x.size)
    return sums.sum(axis=0).astype(x.dtype)


def pixel_sums(x):
    """The sum over the pixels of each image.  Shapes: (N, P, C) -> (N, 1, C)."""
    if x[0].size > BLOCK:
        return np.stack([column_sums(image) for image in x])[:, None]
    return _sum_by_lines(x).astype(x.dtype)[:, None]


def _sum_by_lines(x):
    """The sum over the pixels of each image, by long lines.  Shapes: (N, P, C) -> (N, C), float64 from float32."""
    n, count, c = x.shape
    lines = x.reshape(n, -1, c * pixels_a_line(count, c))
    sums = lines.sum(axis=1, dtype=np.float64 if lines.shape[1] > MANY_LINES else None)
    return sums.reshape(n, -1, c).sum(axis=1, dtype=np.float64)


def pixels_a_line(count, c):
    """Return how many of `count` pixels of c channels to handle as one line of about LINE entries: a power of two that divides `count`.

    NumPy's loops then are long, and sums down the lines short, so that they round little.
    """
    together = 1
    while count % (2 * together) == 0 < count and together * c < LINE:
        together *= 2
    return together
