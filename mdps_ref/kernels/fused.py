"""Two primitives in blocks that stay in a core's cache, in place, a thread a core: normalisation with its activation, and attention.

Each stands beside the plain expression of which it is the fast form: `silu(group_norm(x))` in `ops.py`, and softmax(q k^T) v below,
which are what runs on a GPU.
"""

import math

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.kernels.blocks import BLOCK, contiguous, pixels_a_line
from mdps_ref.autograd.tape import fused_primitive
from mdps_ref.kernels.threads import PER_ENTRY, PER_PRODUCT, bands_of, blocks, in_threads
from mdps_ref.kernels.buffers import cut, empty
from mdps_ref.backend import array_module


@fused_primitive
def group_norm_silu(x, scale, shift, *, groups):
    """silu(group_norm(x)).

    Eq: with the mean and the deviation of each group known, both norms are one affine map a channel, v = a x + c; then
    silu(v) = h (1 + tanh h) with h = v / 2.  x is read twice and the result written once.
    Shapes: x (N, H, W, C), scale, shift (C) -> as x.
    """
    if array_module(x) is not np:
        return _group_norm_silu_at_once(x, scale, shift, groups)
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


def _pull_group_norm_silu(g, x, scale, mean, inverse_deviation, half, groups):
    """The cotangents of x, scale and shift.  Shapes: g, x (N, L, W) -> as x, (C), (C).

    First through silu, g_v = g ((1 + t) + h (1 - t^2)) / 2 with t = tanh h, the half left out until the end; and with it the two sums
    a channel that follow from the group's mean and variance. Then x's own, with u = x normalised:
    (scale g_v - mean(scale g_v) - u mean(scale g_v u)) / deviation, which is affine in g_v and x.
    """
    c = len(scale)
    twice_g_v, sums = empty(x.shape, x.dtype), np.zeros((2, *_sums_shape(x, c)))
    slope, offset = (_along(x, values) for values in half)

    def through_silu(parts):
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

    in_threads(through_silu, _parts(x), 2.5 * PER_ENTRY * x.size)
    to_shift, along_x = 0.5 * sums.sum(axis=2, keepdims=True)
    to_scale = (along_x - mean * to_shift) * inverse_deviation
    count = x[0].size // c
    along_mean = ops.group_means(scale * to_shift / count, groups)
    along_u = ops.group_means(scale * to_scale / count, groups) * inverse_deviation
    factor_g = _along(x, 0.5 * scale * inverse_deviation)
    factor_x = _along(x, -along_u * inverse_deviation)
    constant = _along(x, inverse_deviation * (along_u * mean - along_mean))

    def through_norm(parts):
        memory = _scratch(x)
        for part in parts:
            result = twice_g_v[part]
            from_x = cut(memory, result.shape)
            _affine(x[part], factor_x[part[0]], constant[part[0]], from_x)
            result *= factor_g[part[0]]
            result += from_x

    in_threads(through_norm, _parts(x), PER_ENTRY * x.size)
    return twice_g_v, to_scale.sum(axis=(0, 1)).astype(scale.dtype), to_shift.sum(axis=(0, 1)).astype(scale.dtype)


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
    mean = ops.group_means((share * means).sum(axis=1, keepdims=True), groups)
    variance = squares.sum(axis=1, keepdims=True) * (c / x[0].size) + (share * (means - mean) ** 2).sum(axis=1, keepdims=True)
    return mean, (ops.group_means(variance, groups) + ops.EPSILON) ** -0.5


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


def _group_norm_silu_at_once(x, scale, shift, groups):
    """The plain expression."""
    v = ops.group_norm(x, scale, shift, groups=groups)

    def pullback(g):
        g_v = g * ops.silu_slope(v)
        axes = tuple(range(g.ndim - 1))
        return ops.group_norm_to_x(g_v, x, scale, groups), (g_v * ops.normalised(x, groups)[0]).sum(axis=axes), g_v.sum(axis=axes)

    return ops.silu(v), pullback


@fused_primitive
def attend(qkv, *, heads):
    """Self-attention:  softmax(q k^T / sqrt(d)) v  for each head, of d channels.

    Eq: Vaswani et al. 2017, Eq. (1).  The channels of qkv are ordered head by head, q, k and v within each.
    Of a head's weights only the largest logit and the sum are kept for each query: from them the pullback computes them again. They are
    written a column a query, so that maxima and sums run down columns, which is faster.  Shapes: qkv (N, L, 3 C) -> (N, L, C).
    """
    n, length, width = qkv.shape
    d = width // (3 * heads)
    xp = array_module(qkv)
    q, k, v = (qkv.reshape(n, length, heads, 3, d)[:, :, :, i].swapaxes(1, 2) for i in range(3))
    parts = _heads_together(n, heads, length) if xp is np else [(slice(None), slice(None))]
    y = empty((n, length, heads, d), qkv.dtype, xp)
    largest, sums = (empty((n, heads, 1, length), qkv.dtype, xp) for _ in range(2))

    def work(parts):
        for part in parts:
            weights = _logits(k[part], q[part])
            largest[part] = weights.max(axis=-2, keepdims=True)
            weights -= largest[part]
            xp.exp(weights, out=weights)
            sums[part] = weights.sum(axis=-2, keepdims=True)
            y.swapaxes(1, 2)[part] = xp.matmul(weights.swapaxes(-1, -2), v[part]) / sums[part].swapaxes(-1, -2)

    seconds = n * heads * length**2 * (2 * d * PER_PRODUCT + PER_ENTRY)
    in_threads(work, parts, seconds)

    def pullback(g):
        g = g.reshape(n, length, heads, d).swapaxes(1, 2)
        to_qkv = empty((n, length, heads, 3, d), qkv.dtype, xp)
        to_q, to_k, to_v = (to_qkv[:, :, :, i].swapaxes(1, 2) for i in range(3))

        def work(parts):
            for part in parts:
                weights = _logits(k[part], q[part])
                weights -= largest[part]
                xp.exp(weights, out=weights)
                share = g[part] / sums[part].swapaxes(-1, -2)
                to_v[part] = xp.matmul(weights, share)
                to_weights = empty(weights.shape, weights.dtype, xp)
                xp.matmul(v[part], share.swapaxes(-1, -2), out=to_weights)
                to_weights -= (share * y.swapaxes(1, 2)[part]).sum(axis=-1)[..., None, :]
                to_weights *= weights
                to_q[part] = xp.matmul(to_weights.swapaxes(-1, -2), k[part]) * d**-0.5
                to_k[part] = xp.matmul(to_weights, q[part]) * d**-0.5

        in_threads(work, parts, 2 * seconds)
        return [to_qkv.reshape(qkv.shape)]

    return y.reshape(n, length, heads * d), pullback


def _heads_together(n, heads, length):
    """(images, heads) of every block: some heads of one image, or all of some images."""
    return bands_of(n, heads, BLOCK // length**2)


def _logits(k, q):
    """k q^T / sqrt(d), a column a query.  Shapes: k, q (..., L, d) -> (..., L, L)."""
    xp = array_module(q, k)
    logits = empty((*k.shape[:-1], q.shape[-2]), q.dtype, xp)
    return xp.matmul(k, (q * q.shape[-1] ** -0.5).swapaxes(-1, -2), out=logits)
