"""Convolution and its pullbacks: one product for each offset of the kernel, and their sum.

At offset (i, j) every output pixel reads one pixel of the image: entry (i, j) of its patch. All these pixels form a window of the padded
image, a view. So a K x K convolution is K * K products of windows, and no array of all patches is made.
"""

import numpy as np

from mdps_ref.autograd.ops import pad
from mdps_ref.autograd.tape import primitive
from mdps_ref.backend import array_module


@primitive(
    lambda y, x, w, b, residual=None, **geometry: _to_image(lambda g, offset: g @ w[offset].T, x.shape, len(w), **geometry),
    lambda y, x, w, b, residual=None, **geometry: _to_kernel(_rows_product, x, w.shape, **geometry),
    lambda y, x, w, b, residual=None, **geometry: lambda g: g,
    lambda y, x, w, b, residual=None, **geometry: lambda g: g,
)
def conv2d(x, w, b, residual=None, *, stride=1, pads=None):
    """Convolve images with a kernel: y[p] = b + residual[p] + sum over offsets d of x[stride p - before + d] @ w[d].

    Parameters
    ----------
    x : (N, H, W, Ci)
    w : (K, K, Ci, Co)
    b : (Co) or (N, 1, 1, Co)
    residual : (N, H', W', Co) or None
        Added to the result, as a residual block adds its shortcut.
    stride : int
        Every stride-th pixel of every stride-th line is computed.
    pads : (before, after) or None
        Zeros beyond the two ends of each line and column. None is K // 2 at both, which for odd K and stride 1 keeps the size.

    Returns
    -------
    (N, H', W', Co), H' = (H + before + after - K) // stride + 1
    """
    y = b if residual is None else b + residual
    for offset, window in windows(x, len(w), stride, pads):
        y = y + window @ w[offset]
    return y


@primitive(
    lambda y, x, w, b, **geometry: _to_image(lambda g, offset: g * w[offset], x.shape, len(w), **geometry),
    lambda y, x, w, b, **geometry: _to_kernel(lambda window, g: (window * g).sum(axis=(0, 1, 2)), x, w.shape, **geometry),
    lambda y, x, w, b, **geometry: lambda g: g,
)
def depthwise_conv2d(x, w, b, *, stride=1, pads=None):
    """Convolve each channel with a kernel of its own.

    Shapes: x (N, H, W, C), w (K, K, C), b (C) -> (N, H', W', C), with stride, pads and H' as in `conv2d`.
    """
    y = b
    for offset, window in windows(x, len(w), stride, pads):
        y = y + window * w[offset]
    return y


def windows(x, k, stride=1, pads=None):
    """Yield each offset (i, j) of a K x K kernel with the pixels that it reads, a view of the padded image.

    Shapes: x (N, H, W, C) -> K * K views (N, H', W', C).
    """
    before, after = pads or (k // 2, k // 2)
    return _views(pad(x, widths=((0, 0), (before, after), (before, after), (0, 0))), k, stride)


def _views(padded, k, stride):
    h, w = (size - k + 1 for size in padded.shape[1:3])
    for i, j in np.ndindex(k, k):
        yield (i, j), padded[:, i : i + h : stride, j : j + w : stride]


def _to_image(product, shape, k, stride=1, pads=None):
    """The pullback to an image of `shape`: product(g, offset) goes back to the pixels that the offset read."""
    (n, h, w, c), (before, after) = shape, pads or (k // 2, k // 2)

    def pulled(g):
        padded = array_module(g).zeros((n, h + before + after, w + before + after, c), g.dtype)
        for offset, window in _views(padded, k, stride):
            window += product(g, offset)
        return padded[:, before : before + h, before : before + w]

    return pulled


def _to_kernel(product, x, shape, stride=1, pads=None):
    """The pullback to a kernel of `shape`: for each offset product(window, g)."""

    def pulled(g):
        return array_module(g).stack([product(window, g) for _, window in windows(x, shape[0], stride, pads)]).reshape(shape)

    return pulled


def _rows_product(window, g):
    """window^T g, with pixels as rows.  Shapes: (N, H, W, Ci), (N, H, W, Co) -> (Ci, Co)."""
    return window.reshape(-1, window.shape[-1]).T @ g.reshape(-1, g.shape[-1])
