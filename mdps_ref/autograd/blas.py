"""Matrix products. On the host they all go to one BLAS, SciPy's, which can also add a product to an array in place.

NumPy and SciPy each bring an OpenBLAS with threads that spin for a while after every product; using both in turn makes them fight
for the cores (a training step of the `small` network took 2.4 x as long on 2 cores). On a GPU, products are the array module's own.
"""

import numpy as np
from scipy.linalg import blas

from mdps_ref.backend import array_module

_GEMM = {np.dtype("float32"): blas.sgemm, np.dtype("float64"): blas.dgemm}


def product(a, b):
    """a @ b.  Shapes: a (..., M, K), b (..., K, N) with the same leading axes, or none -> (..., M, N).  float32 or float64."""
    xp = array_module(a, b)
    if xp is not np or a.dtype not in _GEMM or a.dtype != b.dtype:
        return a @ b
    if a.ndim == b.ndim == 2:
        return add_product(a, b, np.empty((len(a), b.shape[1]), a.dtype), keep=False)
    y = np.empty((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)
    a, b = (np.broadcast_to(m, (*y.shape[:-2], *m.shape[-2:])) for m in (a, b))
    for at in np.ndindex(y.shape[:-2]):
        add_product(a[at], b[at], y[at], keep=False)
    return y


def add_product(a, b, y, keep=True):
    """y += a @ b where `keep`, else y = a @ b, in place.  Shapes: a (M, K), b (K, N), y (M, N), its rows contiguous -> y."""
    if array_module(a, b, y) is np:
        (b, b_turned), (a, a_turned) = _fortran(b), _fortran(a)
        _GEMM[y.dtype](1.0, b, a, float(keep), y.T, trans_a=b_turned, trans_b=a_turned, overwrite_c=True)
    elif keep:
        y += a @ b
    else:
        y[...] = a @ b
    return y


def row_sums(x):
    """The sum of all rows of each matrix.  Shapes: (N, P, C) -> (N, C).

    On the host one half of the rows is folded onto the other, again and again: as exact as pairwise summation, and about
    three times as fast as NumPy's sum over an axis that is not the last.
    """
    if array_module(x) is np:
        while x.shape[1] > 8 and x.shape[1] % 2 == 0:
            half = x.shape[1] // 2
            x = x[:, :half] + x[:, half:]
    return x.sum(axis=1)


def _fortran(m):
    """m's transpose as BLAS wants it, without a copy where it can be: a column-contiguous array, and whether BLAS must turn it."""
    if m.flags.f_contiguous and not m.flags.c_contiguous:
        return m, True
    return np.ascontiguousarray(m).T, False
