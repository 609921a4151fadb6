"""3 x 3 convolutions with a quarter of the products: Winograd's F(4 x 4, 3 x 3).

Four neighbouring outputs of a convolution with three taps are coefficients of a product of two polynomials, read backwards. A product
of polynomials is known from its values at six points: evaluate both factors (B and G below), multiply point by point, and interpolate
(A). Six products replace twelve; along both axes 36 replace 144, and each of the 36 is a matrix product over channels:

    y = A [ sum over channels (G w G^T) * (B x B^T) ] A^T        for every tile of 6 x 6 pixels in, 4 x 4 out

(Lavin & Gray 2016). All three steps are matrix products on a band of tiles that stays in cache. The points are 0, +-2/3, +-3/2 and
infinity: with them the largest error in float32 is 1e-6 (32 channels) to 3e-6 (256) of the largest value, a quarter of what the usual
0, +-1, +-2 give; a test bounds it. Direct summation has 2e-7. The pullback to the kernel is the same formula, transposed.
"""

import itertools
import math

import numpy as np

from mdps_ref.kernels.blocks import Padded, of_images
from mdps_ref.kernels.buffers import cut, empty
from mdps_ref.kernels.threads import PER_ENTRY, PER_PRODUCT, bands_of, in_threads, pieces, slices_of

POINTS = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
BAND = 8192  # tiles times channels in a band, about: long enough calls for two threads, and 36 values a tile still stay in cache
PARTIAL_SUMS = 8  # of the pullback to the kernel, at most
FEW_BANDS = 4  # bands; with fewer the output channels are split, too, so that every thread has work
COLUMNS = 256  # output channels at most that are then one piece of work


def _matrices():
    """A (4, 6), B (6, 6) and G (6, 3), float64."""

    def values(length):
        """Polynomials of `length` coefficients at the points; at infinity only the leading coefficient counts."""
        at_infinity = np.eye(length)[-1:]
        return np.concatenate([np.vander(POINTS, length, increasing=True), at_infinity])

    return values(4).T, np.linalg.inv(values(6)).T, values(3)


A, B, G = (np.ascontiguousarray(matrix, np.float32) for matrix in _matrices())


def conv2d(x, w, b, residual=None):
    """The same-size convolution, plus b and `residual`.

    Shapes: x (N, H, W, Ci) float32, H and W multiples of 4, w (3, 3, Ci, Co), b (N or 1, 1, 1, Co), residual (N, H, W, Co) or None
    -> (N, H, W, Co).
    """
    (n, h, wide, c_in), c_out = x.shape, w.shape[3]
    kernel = _by_point(_transformed(G, w))
    y = empty((n, h, wide, c_out), x.dtype)
    bands = _bands(n, h, wide, max(c_in, c_out))
    parts = list(itertools.product(bands, pieces(c_out, COLUMNS) if len(bands) < FEW_BANDS else slices_of(c_out, c_out)))

    def work(parts):
        tiles_in, (one, other) = _overlapping_tiles(x, bands), _memory(bands, wide, max(c_in, c_out))
        for (images, rows), columns in parts:
            tiles = _copied(tiles_in(images, rows), one)
            values = _on_both_axes(B, tiles, other, tiles)
            products = cut(other, (6, 6, values.shape[2], columns.stop - columns.start))
            np.matmul(_by_point(values), kernel[:, :, columns], out=_by_point(products))
            results = _on_both_axes(A, products, one, cut(other, (4, 4, *products.shape[2:])))
            part = y[_lines(images, rows)][..., columns]
            by_tile = _tiles(part)
            np.add(results.reshape(by_tile.shape), of_images(b, images)[..., columns], out=by_tile)
            if residual is not None:
                part += residual[_lines(images, rows)][..., columns]

    in_threads(work, parts, 36 / 16 * PER_PRODUCT * x.size * c_out + 2 * PER_ENTRY * (x.size + y.size))
    return y


def to_image(g, w):
    """The pullback to the image: the convolution with the kernel turned by half a circle, its input and output channels exchanged.

    Shapes: g (N, H, W, Co), w (3, 3, Ci, Co) -> (N, H, W, Ci).
    """
    return conv2d(g, w[::-1, ::-1].swapaxes(2, 3), np.zeros((1, 1, 1, w.shape[2]), g.dtype))


def to_kernel(x, g):
    """The pullback of the convolution to its kernel: G^T [ sum over tiles of (B x B^T)^T (A^T g A) ] G.

    Many tiles are summed in groups, one thread for each group, and the groups do not depend on the number of threads. With few tiles
    all threads first evaluate tiles, then multiply points.
    Shapes: x (N, H, W, Ci), g (N, H, W, Co), float32, H and W multiples of 4 -> (3, 3, Ci, Co).
    """
    (n, h, wide, c_in), c_out = x.shape, g.shape[3]
    bands = _bands(n, h, wide, max(c_in, c_out))
    count = min(PARTIAL_SUMS, n * h * wide // 16 // (2 * max(c_in, c_out)))
    sums = _sums_by_group(x, g, bands, count) if count > 1 else _sums_by_point(x, g, bands)
    return _transformed(G.T, sums.reshape(6, 6, c_in, c_out))


def _sums_by_group(x, g, bands, count):
    """The sum over tiles, band by band in `count` groups of bands.  Shapes: x (N, H, W, Ci), g (N, H, W, Co) -> (36, Ci, Co)."""
    groups = slices_of(len(bands), -(-len(bands) // count))
    sums = empty((len(groups), 36, x.shape[3], g.shape[3]), x.dtype)
    most = _count(bands[0], x.shape[2])

    def work(numbers):
        evaluate, values, g_values = _evaluation(x, g, bands), *_both_values(x, g, most)
        product = empty(sums.shape[1:], x.dtype)
        for number in numbers:
            sums[number] = 0
            for band in bands[groups[number]]:
                tiles = _count(band, x.shape[2])
                evaluate(band, values[:, :, :tiles], g_values[:, :, :tiles])
                np.matmul(_by_point(values)[:, :tiles].swapaxes(1, 2), _by_point(g_values)[:, :tiles], out=product)
                sums[number] += product

    in_threads(work, range(len(groups)), 36 / 16 * PER_PRODUCT * x.size * g.shape[3] + 2 * PER_ENTRY * (x.size + g.size))
    return sums.sum(axis=0)


def _sums_by_point(x, g, bands):
    """The sum over tiles, point by point once all are evaluated.  Shapes: x (N, H, W, Ci), g (N, H, W, Co) -> (36, Ci, Co)."""
    starts = np.cumsum([0, *(_count(band, x.shape[2]) for band in bands)])
    values, g_values = _both_values(x, g, starts[-1])
    sums = empty((36, x.shape[3], g.shape[3]), x.dtype)

    def work(numbers):
        evaluate = _evaluation(x, g, bands)
        for number in numbers:
            here = slice(starts[number], starts[number + 1])
            evaluate(bands[number], values[:, :, here], g_values[:, :, here])

    def multiply(parts):
        for points in parts:
            np.matmul(_by_point(values)[points].swapaxes(1, 2), _by_point(g_values)[points], out=sums[points])

    in_threads(work, range(len(bands)), 2 * PER_ENTRY * (x.size + g.size))
    in_threads(multiply, slices_of(36, 9), PER_PRODUCT * values.size * g.shape[3])
    return sums


def _both_values(x, g, tiles):
    """Memory for B x B^T and A^T g A of T tiles.  Shapes: x (N, H, W, Ci), g (N, H, W, Co) -> (6, 6, T, Ci), (6, 6, T, Co)."""
    return [empty((6, 6, tiles, images.shape[3]), images.dtype) for images in (x, g)]


def _evaluation(x, g, bands):
    """evaluate(band, values, g_values) fills in B x B^T, (6, 6, T, Ci), and A^T g A, (6, 6, T, Co), for the band's T tiles."""
    tiles_in, (one, other) = _overlapping_tiles(x, bands), _memory(bands, x.shape[2], max(x.shape[3], g.shape[3]))

    def evaluate(band, values, g_values):
        images, rows = band
        _on_both_axes(B, _copied(tiles_in(images, rows), one), other, values)
        _on_both_axes(A.T, _copied(_tiles(g[_lines(images, rows)]), one), other, g_values)

    return evaluate


def _transformed(matrix, x):
    """matrix x matrix^T on the first two axes, block by block.  Shapes: matrix (P, R), x (R, R, Ci, Co) -> (P, P, Ci, Co)."""
    p, r = matrix.shape
    flat = _in_one_piece(x).reshape(r, r, -1)
    y = empty((p, p, flat.shape[2]), x.dtype)

    def work(parts):
        half = empty((r * p * BAND,), x.dtype)
        for part in parts:
            _on_both_axes(matrix, flat[:, :, part], half, y[:, :, part])

    in_threads(work, slices_of(flat.shape[2], BAND), 0.25 * PER_ENTRY * y.size)
    return y.reshape(p, p, *x.shape[2:])


def _in_one_piece(w):
    """Return a kernel in one piece of memory. A view is copied a few columns at a time, so that its lines stay in the nearest cache."""
    if w.flags.c_contiguous:
        return w
    copy = empty(w.shape, w.dtype)

    def work(parts):
        for part in parts:
            copy[..., part] = w[..., part]

    in_threads(work, slices_of(w.shape[3], 32), 0.3 * PER_ENTRY * w.size)
    return copy


def _on_both_axes(matrix, x, half, y):
    """y, filled with matrix x matrix^T on the first two axes; `half` is memory for what is half done, and y may be x's own.

    Shapes: matrix (P, R), x (R, R, ...), y (P, P, ...).
    """
    p, r = matrix.shape
    half = cut(half, (r, p, math.prod(x.shape[2:])))
    np.matmul(matrix, x.reshape(r, r, -1), out=half)
    np.matmul(matrix, half.swapaxes(0, 1), out=y.reshape(p, p, -1).swapaxes(0, 1))
    return y


def _bands(n, h, wide, c):
    """(images, rows of tiles) of every band."""
    return bands_of(n, h // 4, 4 * BAND // (wide * c))


def _count(band, wide):
    """How many tiles a band has."""
    images, rows = band
    return (images.stop - images.start) * (rows.stop - rows.start) * wide // 4


def _memory(bands, wide, c):
    """Two buffers for 36 values of each tile and channel of a band; the first band is the largest."""
    return empty((2, 36 * _count(bands[0], wide) * c), np.float32)


def _overlapping_tiles(x, bands):
    """tiles_in(images, rows) -> the tiles of 6 x 6 pixels of a band, zeros beyond the image.  Shapes: -> (6, 6, I, rows, W / 4, C)."""
    padded = Padded(x, _lines(*bands[0]), (1, 1))
    image, line, pixel, channel = padded.memory.strides

    def tiles_in(images, rows):
        i, lines, width, c = padded.lines(_lines(images, rows)).shape
        shape = (6, 6, i, lines // 4, width // 4, c)
        return np.lib.stride_tricks.as_strided(padded.memory, shape, (line, pixel, image, 4 * line, 4 * pixel, channel), subok=True)

    return tiles_in


def _lines(images, rows):
    """(images, lines of pixels) for rows of tiles."""
    return images, slice(4 * rows.start, 4 * rows.stop)


def _tiles(band):
    """A view of an image's tiles of 4 x 4 pixels.  Shapes: (I, 4 rows, W, C) -> (4, 4, I, rows, W / 4, C)."""
    i, lines, wide, c = band.shape
    return band.reshape(i, lines // 4, 4, wide // 4, 4, c).transpose(2, 4, 0, 1, 3, 5)


def _copied(tiles, memory):
    """A copy in `memory` of tiles as a list.  Shapes: (R, R, I, rows, across, C) -> (R, R, T, C)."""
    copy = cut(memory, tiles.shape)
    copy[...] = tiles
    return copy.reshape(*tiles.shape[:2], -1, tiles.shape[-1])


def _by_point(x):
    """The 36 points of both axes as one axis.  Shapes: (6, 6, ...) -> (36, ...)."""
    return x.reshape(36, *x.shape[2:])
