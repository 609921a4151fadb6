"""Group normalisation, alone and with its activation, in blocks that stay in a core's cache, in place, shared among threads.

An image is handled as long lines of several pixels each (N, L, W), so that NumPy's loops are long. What depends on the shape alone is
decided once for each shape, see `_Layout`. Then a small image costs about as many calls of NumPy as the formula has signs.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from mdps_ref.autograd.norm import EPSILON
from mdps_ref.kernels.blocks import BLOCK, contiguous, pixels_a_line
from mdps_ref.kernels.buffers import cut, empty
from mdps_ref.kernels.threads import PER_ENTRY, bands_of, in_threads


class _Layout(NamedTuple):
    """How images (N, ..., C) are cut into lines, and lines into blocks.

    lines: (N, L, W), W a multiple of C.  parts: (images, lines, number) of every block, two slices and the block's number in its image.
    sums: (N, K, W), a line for each block.  channels: (N, G, C / G).  count: the entries of a group.  block: those of the largest block.
    """

    lines: tuple
    parts: list
    sums: tuple
    channels: tuple
    count: int
    block: int


@functools.lru_cache(maxsize=1024)
def _layout(shape, groups, block):
    """Return the _Layout of images of a shape."""
    n, c, pixels = shape[0], shape[-1], math.prod(shape[1:-1])
    width = c * pixels_a_line(pixels, c)
    lines = n, pixels * c // width, width
    together = max(1, block // width)
    bands = [(images, part, part.start // together) for images, part in bands_of(*lines[:2], together)]
    largest = max(((i.stop - i.start) * (part.stop - part.start) * width for i, part, _ in bands), default=0)
    return _Layout(lines, bands, (n, -(-lines[1] // together), width), (n, groups, c // groups), pixels * c // groups, largest)


def group_norm_silu(x, scale, shift, *, groups):
    """silu(group_norm(x)), and the pullback to all three arguments.

    silu(v) = h (1 + tanh h) with h = v / 2, so half the scale and half the shift are applied.
    Shapes: x (N, ..., C), scale, shift (C) -> as x.
    """
    layout = _layout(x.shape, groups, BLOCK)
    x = contiguous(x)
    lines, y = x.reshape(layout.lines), empty(layout.lines, x.dtype)
    moments = _centred(lines, y, layout)
    slope, half_shift = _slope(0.5 * scale, moments, layout, x.dtype), _line(0.5 * shift, layout, x.dtype)

    def work(parts):
        memory = empty((layout.block,), x.dtype)
        for images, part, _ in parts:
            h = y[images, part]
            h *= slope[images]
            h += half_shift[images]
            t = np.tanh(h, out=cut(memory, h.shape))
            t += 1
            h *= t

    in_threads(work, layout.parts, 0.7 * PER_ENTRY * x.size)

    def pullback(g):
        twice_g_v, sums = _pull_silu(contiguous(g).reshape(layout.lines), lines, slope, half_shift, moments, layout)
        to_x, *others = _through_norm(twice_g_v, 0.5, sums, lines, scale, moments, layout, twice_g_v)
        return to_x.reshape(x.shape), *others

    return y.reshape(x.shape), pullback


def group_norm(x, scale, shift, *, groups):
    """group_norm(x), and the pullback to all three arguments.  Shapes: x (N, ..., C), scale, shift (C) -> as x."""
    layout = _layout(x.shape, groups, BLOCK)
    x = contiguous(x)
    lines, y = x.reshape(layout.lines), empty(layout.lines, x.dtype)
    moments = _centred(lines, y, layout)
    slope, offset = _slope(scale, moments, layout, x.dtype), _line(shift, layout, x.dtype)

    def work(parts):
        for images, part, _ in parts:
            v = y[images, part]
            v *= slope[images]
            v += offset[images]

    in_threads(work, layout.parts, 0.3 * PER_ENTRY * x.size)

    def pullback(g):
        g, sums = contiguous(g).reshape(layout.lines), empty((2, *layout.sums), x.dtype)

        def work(parts):
            for part in parts:
                _sums_with(lines, g, sums, part)

        in_threads(work, layout.parts, 0.3 * PER_ENTRY * x.size)
        to_x, *others = _through_norm(g, 1.0, sums, lines, scale, moments, layout, empty(g.shape, g.dtype))
        return to_x.reshape(x.shape), *others

    return y.reshape(x.shape), pullback


def _centred(x, y, layout):
    """Fill y with x minus each group's mean; return each group's mean and 1 / deviation, float64.

    The squares are those of the centred entries, so nothing cancels.  Shapes: x, y (N, L, W) -> two of (N, G, 1).
    """
    sums = empty(layout.sums, x.dtype)

    def add_up(parts):
        for images, part, number in parts:
            np.add.reduce(x[images, part], axis=1, out=sums[images, number])

    def centre(parts):
        for images, part, number in parts:
            centred = np.subtract(x[images, part], mean_line[images], out=y[images, part])
            np.einsum("nlw,nlw->nw", centred, centred, out=sums[images, number])

    in_threads(add_up, layout.parts, 0.1 * PER_ENTRY * x.size)
    mean = _group_means(sums, layout)
    mean_line = _line(mean, layout, x.dtype)
    in_threads(centre, layout.parts, 0.3 * PER_ENTRY * x.size)
    return mean, (_group_means(sums, layout) + EPSILON) ** -0.5


def _pull_silu(g, x, slope, half_shift, moments, layout):
    """Twice the cotangent of v, from that of silu(v); and its sums for `_through_norm`.

    2 silu'(v) = u + h u (2 - u)  with h = v / 2 and u = 1 + tanh h.  Shapes: g, x (N, L, W) -> as x, (2, N, K, W).
    """
    twice_g_v, sums = empty(x.shape, x.dtype), empty((2, *layout.sums), x.dtype)
    offset = half_shift - _line(moments[0], layout, x.dtype) * slope

    def work(parts):
        memory = empty((2 * layout.block,), x.dtype)
        for part in parts:
            images, lines, _ = part
            result = twice_g_v[images, lines]
            h, u = cut(memory, (2, *result.shape))
            np.multiply(x[images, lines], slope[images], out=h)
            h += offset[images]
            np.tanh(h, out=u)
            u += 1
            h *= u
            np.subtract(2, u, out=result)
            result *= h
            result += u
            result *= g[images, lines]
            _sums_with(x, twice_g_v, sums, part)

    in_threads(work, layout.parts, 1.2 * PER_ENTRY * x.size)
    return twice_g_v, sums


def _sums_with(x, g, sums, part):
    """Fill in a block's sums over lines: of g, and of g x.  Shapes: x, g (N, L, W), sums (2, N, K, W)."""
    images, lines, number = part
    np.add.reduce(g[images, lines], axis=1, out=sums[0, images, number])
    np.einsum("nlw,nlw->nw", g[images, lines], x[images, lines], out=sums[1, images, number])


def _through_norm(g, share, sums, x, scale, moments, layout, to_x):
    """The cotangents of x, scale and shift from `share` times g, the cotangent of the normalised image; to_x may be g's own memory.

    The sums of g and of g x give to_shift and to_scale, and with these what the group's mean and variance take up. With u = x
    normalised and h = scale g:  (h - mean(h) - u mean(h u)) / deviation, which is affine in g and x.
    """
    (mean, inverse_deviation), scale = moments, scale.reshape(layout.channels[1:])
    to_shift, along_x = share * _channel_sums(sums, layout)
    to_scale = (along_x - mean * to_shift) * inverse_deviation
    along_mean, along_u = (np.add.reduce(scale * to, axis=2, keepdims=True) / layout.count for to in (to_shift, to_scale))
    along_u *= inverse_deviation
    factor_g = _line(share * scale * inverse_deviation, layout, x.dtype)
    factor_x = _line(-along_u * inverse_deviation, layout, x.dtype)
    constant = _line(inverse_deviation * (along_u * mean - along_mean), layout, x.dtype)

    def work(parts):
        memory = empty((layout.block,), x.dtype)
        for images, lines, _ in parts:
            result = to_x[images, lines]
            from_x = np.multiply(x[images, lines], factor_x[images], out=cut(memory, result.shape))
            from_x += constant[images]
            np.multiply(g[images, lines], factor_g[images], out=result)
            result += from_x

    in_threads(work, layout.parts, 0.6 * PER_ENTRY * x.size)
    return to_x, *(np.add.reduce(to, axis=0).reshape(-1).astype(x.dtype) for to in (to_scale, to_shift))


def _channel_sums(sums, layout):
    """The sums of each channel, from those of lines.  Shapes: (..., N, K, W) -> (..., N, G, C / G), float64."""
    *lead, n, _, _ = sums.shape
    _, groups, together = layout.channels
    by_pixel = sums.reshape(*lead, n, -1, groups * together)
    return np.add.reduce(by_pixel, axis=-2, dtype=np.float64).reshape(*lead, n, groups, together)


def _group_means(sums, layout):
    """Each group's mean, from sums of lines.  Shapes: (N, K, W) -> (N, G, 1), float64."""
    return np.add.reduce(_channel_sums(sums, layout), axis=2, keepdims=True) / layout.count


def _slope(scale, moments, layout, dtype):
    """scale / deviation, along a line.  Shapes: (C) -> (N, 1, W)."""
    return _line(scale.reshape(layout.channels[1:]) * moments[1], layout, dtype)


def _line(values, layout, dtype):
    """Values of channels or groups, repeated along a line.  Shapes: (C), (N, G, C / G) or (N, G, 1) -> (N, 1, W)."""
    n, groups, together = layout.channels
    width = layout.lines[2]
    line = empty((n, width // (groups * together), groups, together), dtype)
    line[...] = values.reshape(-1, 1, groups, together if values.ndim == 1 else values.shape[2])
    return line.reshape(n, 1, width)
