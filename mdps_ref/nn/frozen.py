"""Layers of frozen networks: forward only, on plain arrays, batch norm folded into the kernels."""

import numpy as np

from mdps_ref.backend import array_module


def fold(kernel, gamma, beta, mean, variance, epsilon):
    """Fold a batch norm with frozen moments into the convolution before it:  gamma (kernel * x - mean) / sqrt(variance + epsilon) + beta.

    Parameters
    ----------
    kernel : (..., C)
    gamma, beta, mean, variance : (C)
    epsilon : float

    Returns
    -------
    kernel (..., C), bias (C), float32
    """
    kernel, gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in (kernel, gamma, beta, mean, variance))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # `make_features` refuses what is not finite
        scale = gamma / np.sqrt(variance + epsilon)
        return np.ascontiguousarray(kernel * scale, np.float32), (beta - mean * scale).astype(np.float32)


def size_of(arrays, name, axis):
    """Return the size of an axis of the array `name`; None if there is no such array or axis."""
    shape = np.shape(arrays[name]) if name in arrays else ()
    return shape[axis] if axis < len(shape) else None


def max_pool(x):
    """Take the largest of the 3 x 3 pixels around every second pixel of every second line; beyond the border there are no pixels.

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
    return array_module(x).clip(x, 0, 6, out=x)
