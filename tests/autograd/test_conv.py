"""The convolution against its specification, a loop for each index."""

import numpy as np
import pytest
from helpers import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from mdps_ref.autograd.conv import conv2d
from mdps_ref.autograd.ops import linear
from mdps_ref.autograd.tape import Tensor, pull_back


def conv2d_by_loops(x, w, b):
    """The definition: y[p] = b + the sum over offsets d of x[p + d] @ w[d], zeros beyond the border."""
    (n, h, wide, _), (k, _, _, c_out) = x.shape, w.shape
    y = np.zeros((n, h, wide, c_out)) + b
    for at, row, col, i, j in np.ndindex(n, h, wide, k, k):
        r, c = row + i - k // 2, col + j - k // 2
        if 0 <= r < h and 0 <= c < wide:
            y[at, row, col] += x[at, r, c] @ w[i, j]
    return y


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_products_of_windows_are_the_convolution(k, dtype, tolerance):
    x, w, b = (a.astype(dtype) for a in (normal(2, 6, 5, 3), normal(k, k, 3, 4), normal(4)))
    y = conv2d(x, w, b)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, conv2d_by_loops(x, w, b), rtol=0, atol=tolerance * np.abs(w).sum())


@pytest.mark.parametrize("pixels", [(1, 7, 5), (4, 2, 3), (1, 2, 3)], ids=["one image", "images together", "one small image"])
def test_what_is_added_belongs_to_its_own_image_and_pixel(pixels):
    x, w, residual = normal(*pixels, 3), normal(3, 3, 3, 130), normal(*pixels, 130, seed=1)
    shift = normal(len(x), 1, 1, 130, seed=2)
    np.testing.assert_allclose(conv2d(x, w, shift, residual), conv2d_by_loops(x, w, 0) + shift + residual, atol=1e-12)


def pullbacks_by_loops(x, w, g):
    """What every product x[p + d] @ w[d] of the definition owes to its two factors and to the bias."""
    (n, h, wide, _), k = x.shape, w.shape[0]
    to_x, to_w = np.zeros_like(x), np.zeros_like(w)
    for at, row, col, i, j in np.ndindex(n, h, wide, k, k):
        r, c = row + i - k // 2, col + j - k // 2
        if 0 <= r < h and 0 <= c < wide:
            to_x[at, r, c] += w[i, j] @ g[at, row, col]
            to_w[i, j] += np.outer(x[at, r, c], g[at, row, col])
    return to_x, to_w, g.sum(axis=(0, 1, 2))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_three_pullbacks_are_their_twins(k):
    x, w, b, g = normal(2, 4, 5, 3), normal(k, k, 3, 4, seed=1), normal(4, seed=2), normal(2, 4, 5, 4, seed=3)
    tensors = [Tensor(x), Tensor(w), Tensor(b)]
    for ours, twin in zip(pull_back(conv2d(*tensors), g, tensors), pullbacks_by_loops(x, w, g), strict=True):
        np.testing.assert_allclose(ours, twin, atol=1e-12)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3, 5]))
def test_both_pullbacks_are_the_adjoint(n, h, w, c_in, c_out, k):
    """<conv(x, w), z> = <x, pullback to x> = <w, pullback to w>."""
    x, z, kernel = normal(n, h, w, c_in), normal(n, h, w, c_out, seed=1), normal(k, k, c_in, c_out, seed=2)
    tensors = [Tensor(x), Tensor(kernel)]
    y = conv2d(*tensors, np.zeros(c_out))
    for argument, pulled in zip((x, kernel), pull_back(y, z, tensors), strict=True):
        np.testing.assert_allclose((y.value * z).sum(), (argument * pulled).sum(), rtol=1e-10, atol=1e-10)


def test_it_moves_with_the_image():
    x, w, b = np.zeros((1, 12, 12, 2)), normal(3, 3, 2, 3), np.zeros(3)
    x[:, 4:7, 4:7] = normal(1, 3, 3, 2)
    moved = np.roll(conv2d(x, w, b), (2, -1), axis=(1, 2))
    np.testing.assert_allclose(conv2d(np.roll(x, (2, -1), axis=(1, 2)), w, b), moved, atol=1e-13)


def test_one_by_one_is_a_linear_map():
    x, w, b = normal(2, 3, 4, 5), normal(1, 1, 5, 6), normal(6)
    np.testing.assert_allclose(conv2d(x, w, b), linear(x, w[0, 0], b), rtol=1e-12)
