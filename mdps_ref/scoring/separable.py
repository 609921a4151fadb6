"""Blurring, pooling and enlarging an image as one small matrix along each axis:  A x B^T.

The matrices are made on the host in float64; the products run wherever the image is.
"""

import functools

import numpy as np

from mdps_ref.autograd.ops import matmul
from mdps_ref.backend import array_module, to_device


def along_both_axes(x, rows, columns):
    """rows @ x @ columns^T for every image and channel.  Shapes: x (N, H, W, C), rows (H', H), columns (W', W) -> (N, H', W', C)."""
    xp = array_module(x)
    rows, columns = (to_device(np.ascontiguousarray(matrix, x.dtype), xp) for matrix in (rows, columns))
    n, h, w, c = x.shape
    x = matmul(xp.broadcast_to(rows, (n, *rows.shape)), x.reshape(n, h, w * c))
    x = x.reshape(n * len(rows), w, c)
    return matmul(xp.broadcast_to(columns, (len(x), *columns.shape)), x).reshape(n, len(rows), len(columns), c)


@functools.cache
def gaussian_matrix(size, sigma):
    """Gaussian smoothing of `size` pixels, cut off at 4 sigma, the border mirrored about the edge pixel's centre.

    Shapes: -> (size, size), each row a mean.  sigma in pixels; 0 gives the identity.
    """
    radius = min(round(4 * sigma), size - 1)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma else np.ones(1)
    at = np.abs(np.arange(size)[:, None] + offsets)
    at = np.where(at < size, at, 2 * (size - 1) - at)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], at), kernel / kernel.sum())
    return matrix


@functools.cache
def mean3_matrix(size):
    """The mean of three neighbours, zeros beyond the border counted.  Shapes: -> (size, size)."""
    return (np.eye(size) + np.eye(size, k=1) + np.eye(size, k=-1)) / 3


@functools.cache
def bilinear_matrix(size_in, size_out):
    """Linear interpolation that puts the first and the last pixel of both grids on each other ("align corners").

    Shapes: -> (size_out, size_in), each row a mean of at most two neighbours.
    """
    at = np.linspace(0, size_in - 1, size_out)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size_in)))
