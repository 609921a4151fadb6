"""Group normalisation, alone and with its activation, in blocks that stay in a core's cache, in place, shared among threads.

An image is handled as long lines of several pixels each (N, L, W), so that NumPy's loops are long.
"""

import math

import numpy as np

from mdps_ref.autograd.norm import EPSILON
from mdps_ref.kernels.blocks import BLOCK, contiguous, pixels_a_line
from mdps_ref.kernels.buffers import cut, empty
from mdps_ref.kernels.threads import PER_ENTRY, bands_of, blocks, in_threads


def group_norm_silu(x, scale, shift, *, groups):
    """silu(group_norm(x)), and the pullback to all three arguments.

    Once the mean and the deviation of each group are known, normalisation, scale and shift are one affine map of each channel,
    v = a x + c; and silu(v) = h (1 + tanh h) with h = v / 2.  x is read twice and the result is written once.
    Shapes: x (N, ..., C), scale, shift (C) -> as x.
    """
    lines = _as_lines(x)
    mean, inverse_deviation = _moments(lines, x.shape[-1], groups)
    half = 0.5 * scale * inverse_deviation, 0.5 * (shift - mean * scale * inverse_deviation)
    slope, offset = (_along(lines, values) for values in half)
    y = empty(x.shape, x.dtype)

    def work(parts):
        memory = _scratch(lines)
        for part in parts:
            h = y.reshape(lines.shape)[part]
            _affine(lines[part], slope[part[0]], offset[part[0]], h)
            t = np.tanh(h, out=cut(memory, h.shape))
            t += 1
            h *= t

    in_threads(work, _parts(lines), 1.5 * PER_ENTRY * x.size)

    def pullback(g):
        pulled = _pull_group_norm_silu(_as_lines(g), lines, scale, mean, inverse_deviation, half, groups)
        return pulled[0].reshape(x.shape), *pulled[1:]

    return y, pullback


def group_norm(x, scale, shift, *, groups):
    """group_norm(x), and the pullback to all three arguments.  Shapes: x (N, ..., C), scale, shift (C) -> as x."""
    lines, c = _as_lines(x), x.shape[-1]
    mean, inverse_deviation = _moments(lines, c, groups)
    y = _by_channel(lines, scale * inverse_deviation, shift - mean * scale * inverse_deviation)

    def pullback(g):
        g = _as_lines(g)
        sums = np.zeros((2, *_sums_shape(lines, c)))

        def work(parts):
            for part in parts:
                sums[0][_number(part, lines)] = _over_lines(g[part].sum(axis=1), c)
                sums[1][_number(part, lines)] = _over_lines(_sums_of_products(g[part], lines[part]), c)

        in_threads(work, _parts(lines), PER_ENTRY * x.size)
        to_x, *others = _through_norm(g, 1.0, sums, lines, scale, mean, inverse_deviation, groups)
        return to_x.reshape(x.shape), *others

    return y.reshape(x.shape), pullback


def _by_channel(x, slope, offset):
    """slope x + offset, in blocks.  Shapes: x (N, L, W), slope, offset (N, 1, C) -> as x."""
    slope, offset, y = _along(x, slope), _along(x, offset), empty(x.shape, x.dtype)

    def work(parts):
        for part in parts:
            _affine(x[part], slope[part[0]], offset[part[0]], y[part])

    in_threads(work, _parts(x), 0.5 * PER_ENTRY * x.size)
    return y


def _pull_group_norm_silu(g, x, scale, mean, inverse_deviation, half, groups):
    """The cotangents of x, scale and shift.  Shapes: g, x (N, L, W) -> as x, (C), (C).

    Through silu:  g_v = g ((1 + t) + h (1 - t^2)) / 2  with t = tanh h.  The half is left to `_through_norm`.
    """
    c = len(scale)
    twice_g_v, sums = empty(x.shape, x.dtype), np.zeros((2, *_sums_shape(x, c)))
    slope, offset = (_along(x, values) for values in half)

    def work(parts):
        memory = _scratch(x, 2)
        for part in parts:
            result, block = twice_g_v[part], _number(part, x)
            h, t = cut(memory, (2, *result.shape))
            _affine(x[part], slope[part[0]], offset[part[0]], h)
            np.tanh(h, out=t)
            np.multiply(t, t, out=result)
            np.subtract(1, result, out=result)
            result *= h
            result += t
            result += 1
            result *= g[part]
            sums[0][block] = _over_lines(result.sum(axis=1), c)
            sums[1][block] = _over_lines(_sums_of_products(result, x[part]), c)

    in_threads(work, _parts(x), 2.5 * PER_ENTRY * x.size)
    return _through_norm(twice_g_v, 0.5, sums, x, scale, mean, inverse_deviation, groups, twice_g_v)


def _through_norm(g, share, sums, x, scale, mean, inverse_deviation, groups, to_x=None):
    """The cotangents of x, scale and shift from `share` times g, the cotangent of the normalised image; to_x may be g's own memory.

    sums: of g, and of g x, for each channel of each block.  They give to_shift and to_scale, and with these what the group's mean and
    variance take up. With u = x normalised and h = scale g:  (h - mean(h) - u mean(h u)) / deviation, which is affine in g and x.
    """
    c, to_x = len(scale), empty(x.shape, x.dtype) if to_x is None else to_x
    to_shift, along_x = share * sums.sum(axis=2, keepdims=True)
    to_scale = (along_x - mean * to_shift) * inverse_deviation
    count = x[0].size // c
    along_mean = _group_means(scale * to_shift / count, groups)
    along_u = _group_means(scale * to_scale / count, groups) * inverse_deviation
    factor_g = _along(x, share * scale * inverse_deviation)
    factor_x = _along(x, -along_u * inverse_deviation)
    constant = _along(x, inverse_deviation * (along_u * mean - along_mean))

    def work(parts):
        memory = _scratch(x)
        for part in parts:
            from_x = cut(memory, to_x[part].shape)
            _affine(x[part], factor_x[part[0]], constant[part[0]], from_x)
            np.multiply(g[part], factor_g[part[0]], out=to_x[part])
            to_x[part] += from_x

    in_threads(work, _parts(x), PER_ENTRY * x.size)
    return to_x, to_scale.sum(axis=(0, 1)).astype(scale.dtype), to_shift.sum(axis=(0, 1)).astype(scale.dtype)


def _moments(x, c, groups):
    """Each group's mean and 1 / deviation, handed to its channels.  Shapes: x (N, L, W) -> two of (N, 1, C), float64.

    Block by block while it is in the cache; the squares are taken about the block's own mean, and the blocks put together by
    the law of total variance, so nothing cancels.
    """
    means, squares = np.zeros((2, *_sums_shape(x, c)))

    def work(parts):
        memory = _scratch(x)
        for part in parts:
            mean = _over_lines(x[part].sum(axis=1), c) * (c / x[part][0].size)
            centred = np.subtract(x[part], _along(x, mean[:, None]), out=cut(memory, x[part].shape))
            means[_number(part, x)] = mean
            squares[_number(part, x)] = _over_lines(_sums_of_products(centred, centred), c)

    in_threads(work, _parts(x), PER_ENTRY * x.size)
    share = np.array([[part.stop - part.start] for part in blocks(x.shape[1], _lines_together(x))]) / x.shape[1]
    mean = _group_means((share * means).sum(axis=1, keepdims=True), groups)
    variance = squares.sum(axis=1, keepdims=True) * (c / x[0].size) + (share * (means - mean) ** 2).sum(axis=1, keepdims=True)
    return mean, (_group_means(variance, groups) + EPSILON) ** -0.5


def _group_means(values, groups):
    """Means over each group's channels, handed back to every channel.  Shapes: (N, 1, C) -> the same."""
    n, _, c = values.shape
    return values.reshape(n, groups, -1).mean(axis=-1).repeat(c // groups, axis=1)[:, None]


def _as_lines(x):
    """Images as lists of long lines, some pixels each.  Shapes: x (N, ..., C) -> (N, L, W), W a multiple of C."""
    width = x.shape[-1] * pixels_a_line(math.prod(x.shape[1:-1]), x.shape[-1])
    return contiguous(x).reshape(len(x), -1, width)


def _along(lines, values):
    """Values a channel repeated along a line.  Shapes: lines (N, L, W), values (N, 1, C) -> (N, 1, W), as `lines`."""
    return np.tile(values, lines.shape[2] // values.shape[2]).astype(lines.dtype)


def _over_lines(entries, c):
    """Sums over the pixels of a line.  Shapes: (N, W) -> (N, C)."""
    return entries.reshape(len(entries), -1, c).sum(axis=1)


def _lines_together(x):
    """How many lines make a block.  Shapes: x (N, L, W)."""
    return max(1, BLOCK // x.shape[2])


def _parts(x):
    """(images, lines) of every block.  Shapes: x (N, L, W)."""
    return bands_of(*x.shape[:2], _lines_together(x))


def _sums_shape(x, c):
    """The shape of an array with a number for each channel of each block of each image: (N, K, C)."""
    return len(x), -(-x.shape[1] // _lines_together(x)), c


def _number(part, x):
    """Where in such an array a block's numbers belong."""
    images, lines = part
    return images, lines.start // _lines_together(x)


def _scratch(x, count=1):
    """Memory for `count` arrays as large as a block."""
    return empty((count * min(x.size, max(BLOCK, x.shape[2])),), x.dtype)


def _affine(x, slope, offset, y):
    """y = slope x + offset."""
    np.multiply(x, slope, out=y)
    y += offset


def _sums_of_products(a, b):
    """Sums of a b over lines, without an array of the products.  Shapes: (N, L, W), (N, L, W) -> (N, W)."""
    return np.einsum("nlw,nlw->nw", a, b)
