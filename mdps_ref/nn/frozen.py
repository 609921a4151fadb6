"""Layers of frozen networks: forward only, on plain arrays, batch norm folded into the kernels.

A convolution of stride s unfolds each line once: the K pixels under the kernel side by side, for every s-th position. Moved by whole
lines that list is what the kernel's other lines see, so the convolution is K matrix products of slices, one a line of the kernel.
"""

import itertools

import numpy as np

from mdps_ref.kernels.blocks import by_blocks, product
from mdps_ref.autograd.conv import conv2d
from mdps_ref.backend import array_module


def fold(kernel, gamma, beta, mean, variance, epsilon):
    """A convolution without bias and the batch norm behind it, its moments frozen, as one convolution: its kernel and its bias.

    gamma (kernel * x - mean) / sqrt(variance + epsilon) + beta.  Shapes: kernel (..., C), the others (C) -> (..., C), (C), float32.
    """
    kernel, gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in (kernel, gamma, beta, mean, variance))
    scale = gamma / np.sqrt(variance + epsilon)
    return np.ascontiguousarray(kernel * scale, np.float32), (beta - mean * scale).astype(np.float32)


def size_of(arrays, name, axis):
    """The size of an array's axis; None if there is no such array or axis."""
    shape = np.shape(arrays[name]) if name in arrays else ()
    return shape[axis] if axis < len(shape) else None


def convolution(x, kernel, bias, stride=1, pads=None):
    """A convolution, y[p] = bias + sum over offsets d of x[stride p - before + d] @ kernel[d], zeros beyond the border.

    pads: (before, after), how many zeros lines and columns get at their two ends; K // 2 each if not given.
    Shapes: x (N, H, W, Ci), kernel (K, K, Ci, Co), bias (Co) -> (N, H', W', Co), H' = (H + before + after - K) // stride + 1.
    """
    k, _, c_in, c_out = kernel.shape
    if k == 1:
        x = x[:, ::stride, ::stride]
        y = product(x.reshape(-1, c_in), kernel[0, 0]).reshape(*x.shape[:3], c_out)
        y += bias
        return y
    pads = (k // 2, k // 2) if pads is None else pads
    return conv2d(x, kernel, bias) if stride == 1 and pads == (k // 2, k // 2) else _strided(x, kernel, bias, stride, pads)


def _strided(x, kernel, bias, stride, pads):
    """The convolution for any stride and padding."""
    xp = array_module(x, kernel, bias)
    (k, _, c_in, c_out), n = kernel.shape, len(x)
    rows, columns = ((size + sum(pads) - k) // stride + 1 for size in x.shape[1:3])
    more = (k - 1) // stride  # steps that the kernel reaches beyond its first pixel
    groups = padded(x, pads[0], stride * (rows + more), stride * (columns + more)).reshape(n, rows + more, stride, -1, stride * c_in)
    lines = xp.empty((stride, n, rows + more, columns, k * c_in), x.dtype)
    for i, step in itertools.product(range(stride), range(more + 1)):
        part = lines[i, ..., step * stride * c_in : (step + 1) * stride * c_in]
        part[...] = groups[:, :, i, step : step + columns, : part.shape[-1]]
    y = xp.empty((n, rows, columns, c_out), x.dtype)
    y[...] = bias
    for at, i in itertools.product(range(n), range(k)):
        step, phase = divmod(i, stride)
        under = lines[phase, at, step : step + rows].reshape(-1, k * c_in)
        y[at] += product(under, kernel[i].reshape(-1, c_out)).reshape(y.shape[1:])
    return y


def padded(x, before, height, width):
    """x with `before` zeros above and to the left, then zeros, or cut off, up to (height, width).  Shapes: x (N, H, W, C)."""
    y = array_module(x).zeros((len(x), height, width, x.shape[-1]), x.dtype)
    x = x[:, : height - before, : width - before]
    y[:, before : before + x.shape[1], before : before + x.shape[2]] = x
    return y


def depthwise(x, kernel, bias, stride=1, pads=(1, 1)):
    """A convolution of every channel by itself, in blocks of lines that stay in cache.

    Shapes: x (N, H, W, C), kernel (K, K, C), bias (C) -> (N, H', W', C), as in `convolution`.
    """
    xp, k = array_module(x, kernel, bias), len(kernel)
    rows, columns = ((size + sum(pads) - k) // stride + 1 for size in x.shape[1:3])
    x = padded(x, pads[0], *(size + sum(pads) for size in x.shape[1:3]))
    y = xp.empty((len(x), rows, columns, x.shape[-1]), x.dtype)

    def write(part):
        images, lines = part
        first, stop, _ = lines.indices(rows)
        total = y[part]
        total[...] = bias
        for i, j in itertools.product(range(k), repeat=2):
            under = slice(stride * first + i, stride * (stop - 1) + i + 1, stride), slice(j, stride * (columns - 1) + j + 1, stride)
            total += x[images, *under] * kernel[i, j]

    by_blocks(write, y.shape, xp)
    return y


def max_pool(x):
    """The largest of the 3 x 3 pixels around every second pixel of every second line; there are none beyond the border.

    Shapes: (N, H, W, C) -> (N, ceil(H / 2), ceil(W / 2), C).
    """
    return _largest_of_three(_largest_of_three(x, axis=1), axis=2)


def _largest_of_three(x, axis):
    """Every second entry along an axis, or one of the two beside it if that is larger."""
    to_axis, maximum = (slice(None),) * axis, array_module(x).maximum
    largest, between = x[*to_axis, ::2].copy(), x[*to_axis, 1::2]
    first, rest = largest[*to_axis, : between.shape[axis]], largest[*to_axis, 1:]
    maximum(first, between, out=first)
    maximum(rest, between[*to_axis, : rest.shape[axis]], out=rest)
    return largest


def relu(x):
    """max(x, 0), in place."""
    return array_module(x).maximum(x, 0, out=x)


def relu6(x):
    """min(max(x, 0), 6), in place."""
    return array_module(x).minimum(relu(x), 6, out=x)
