"""Convolution with any stride and padding, and depthwise convolution, against the definition: a loop for each index."""

import numpy as np
import pytest
from helpers import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from mdps_ref.autograd.conv import conv2d, depthwise_conv2d
from mdps_ref.autograd.tape import Tensor, pull_back
from mdps_ref.backend import to_device, to_host

SIZES = [(6, 6), (7, 5), (8, 3), (1, 4)]


def conv2d_by_loops(x, w, b, stride=1, pads=None):
    """The definition: y[p] = b + the sum over offsets d of x[stride p - before + d] @ w[d], zeros beyond the border."""
    (n, height, width, _), (k, _, _, c_out) = x.shape, w.shape
    before, after = pads or (k // 2, k // 2)
    y = np.zeros((n, (height + before + after - k) // stride + 1, (width + before + after - k) // stride + 1, c_out)) + b
    for at, row, col, i, j in np.ndindex(*y.shape[:3], k, k):
        r, c = stride * row - before + i, stride * col - before + j
        if 0 <= r < height and 0 <= c < width:
            y[at, row, col] += x[at, r, c] @ w[i, j]
    return y


def on(xp, function, *arrays, **settings):
    """Compute function(*arrays) on a device, and return the result on the host."""
    return to_host(function(*(to_device(a, xp) for a in arrays), **settings))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("k, stride", [(1, 1), (1, 2), (1, 3), (3, 1), (3, 2), (5, 1), (5, 2), (7, 2)])
def test_a_convolution_is_its_twin(k, stride, size, xp):
    x, w, b = normal(2, *size, 3), normal(k, k, 3, 4), normal(4)
    np.testing.assert_allclose(on(xp, conv2d, x, w, b, stride=stride), conv2d_by_loops(x, w, b, stride), atol=1e-12)


@pytest.mark.parametrize(
    "k, stride, pads", [(3, 1, (0, 1)), (3, 1, (2, 0)), (3, 2, (0, 1)), (5, 3, (2, 1)), (2, 2, (1, 0)), (2, 5, (0, 3)), (3, 4, (3, 3))]
)
def test_padding_may_differ_at_both_ends(k, stride, pads, xp):
    x, w, b = normal(2, 7, 6, 3), normal(k, k, 3, 4), normal(4)
    np.testing.assert_allclose(on(xp, conv2d, x, w, b, stride=stride, pads=pads), conv2d_by_loops(x, w, b, stride, pads), atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_single_precision_rounds_little(k):
    x, w, b = (a.astype(np.float32) for a in (normal(2, 6, 5, 3), normal(k, k, 3, 4), normal(4)))
    np.testing.assert_allclose(conv2d(x, w, b), conv2d_by_loops(x, w, b), rtol=0, atol=1e-5 * np.abs(w).sum())


@pytest.mark.parametrize("pixels", [(1, 7, 5), (4, 2, 3), (1, 2, 3)], ids=["one image", "images together", "one small image"])
def test_what_is_added_belongs_to_its_own_image_and_pixel(pixels):
    x, w, residual = normal(*pixels, 3), normal(3, 3, 3, 130), normal(*pixels, 130, seed=1)
    shift = normal(len(x), 1, 1, 130, seed=2)
    np.testing.assert_allclose(conv2d(x, w, shift, residual), conv2d_by_loops(x, w, 0) + shift + residual, atol=1e-12)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3, 5]))
def test_both_pullbacks_are_the_adjoint(n, h, w, c_in, c_out, k):
    """<conv(x, w), z> = <x, pullback to x> = <w, pullback to w>."""
    x, z, kernel = normal(n, h, w, c_in), normal(n, h, w, c_out, seed=1), normal(k, k, c_in, c_out, seed=2)
    tensors = [Tensor(x), Tensor(kernel)]
    y = conv2d(*tensors, np.zeros(c_out))
    for argument, pulled in zip((x, kernel), pull_back(y, z, tensors), strict=True):
        np.testing.assert_allclose((y.value * z).sum(), (argument * pulled).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (8, 3), (2, 9)])
@pytest.mark.parametrize("stride, pads", [(1, (1, 1)), (2, (0, 1)), (2, (1, 1)), (1, (0, 2))])
def test_a_depthwise_convolution_is_a_convolution_with_a_diagonal_kernel(stride, pads, size, xp):
    x, w, b = normal(2, *size, 3), normal(3, 3, 3), normal(3)
    y = on(xp, depthwise_conv2d, x, w, b, stride=stride, pads=pads)
    np.testing.assert_allclose(y, conv2d_by_loops(x, w[..., None] * np.eye(3), b, stride, pads), atol=1e-12)
