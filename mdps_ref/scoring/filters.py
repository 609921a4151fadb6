"""Blur, pool and enlarge images. Each of these is one small matrix for the rows and one for the columns: A x B^T.

The matrices are made on the host in float64. The products run where the image is.
"""

import functools

import numpy as np

from mdps_ref.autograd.ops import matmul
from mdps_ref.backend import array_module, to_device


def along_both_axes(x, rows, columns):
    """Multiply every image and channel: rows @ x @ columns^T.

    Parameters
    ----------
    x : array, (N, H, W, C)
    rows : array, (H', H)
    columns : array, (W', W)

    Returns
    -------
    array, (N, H', W', C)
    """
    xp = array_module(x)
    rows, columns = (to_device(np.ascontiguousarray(matrix, x.dtype), xp) for matrix in (rows, columns))
    n, h, w, c = x.shape
    x = matmul(rows, x.reshape(n, h, w * c))
    return matmul(columns, x.reshape(n, len(rows), w, c))


@functools.cache
def gaussian_matrix(size, sigma):
    """Gaussian smoothing, cut off at 4 sigma, with the border mirrored about the centre of the edge pixel.

    Parameters
    ----------
    size : int
    sigma : float
        In pixels; 0 gives the identity.

    Returns
    -------
    array, (size, size)
        Each row sums to 1.
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
    """Mean of three neighbours, where pixels beyond the border count as 0.

    Returns
    -------
    array, (size, size)
    """
    return (np.eye(size) + np.eye(size, k=1) + np.eye(size, k=-1)) / 3


@functools.cache
def bilinear_matrix(size_in, size_out):
    """Linear interpolation that keeps the first and the last pixel in place ("align corners").

    Returns
    -------
    array, (size_out, size_in)
        Each row is a weighted mean of at most two neighbours.
    """
    at = np.linspace(0, size_in - 1, size_out)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size_in)))
