"""Convolution with strides and uneven padding, and depthwise convolution, against the definition: a loop for each index."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.autograd.conv import conv2d, depthwise_conv2d
from mdps_ref.backend import to_device, to_host

SIZES = [(6, 6), (7, 5), (8, 3), (1, 4)]


def conv2d_by_loops(x, w, b, stride, before, after):
    """The definition: y[p] = b + the sum over offsets d of x[stride p - before + d] @ w[d], zeros beyond the border."""
    (n, height, width, _), (k, _, _, c_out) = x.shape, w.shape
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
@pytest.mark.parametrize("k, stride", [(1, 1), (1, 2), (1, 3), (3, 1), (3, 2), (7, 2)])
def test_a_convolution_is_its_twin(k, stride, size, xp):
    x, w, b = normal(2, *size, 3), normal(k, k, 3, 4), normal(4)
    np.testing.assert_allclose(on(xp, conv2d, x, w, b, stride=stride), conv2d_by_loops(x, w, b, stride, k // 2, k // 2), atol=1e-12)


@pytest.mark.parametrize(
    "k, stride, pads", [(3, 1, (0, 1)), (3, 1, (2, 0)), (3, 2, (0, 1)), (5, 3, (2, 1)), (2, 2, (1, 0)), (2, 5, (0, 3)), (3, 4, (3, 3))]
)
def test_padding_may_differ_at_both_ends(k, stride, pads, xp):
    x, w, b = normal(2, 7, 6, 3), normal(k, k, 3, 4), normal(4)
    np.testing.assert_allclose(on(xp, conv2d, x, w, b, stride=stride, pads=pads), conv2d_by_loops(x, w, b, stride, *pads), atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5, 7])
@pytest.mark.parametrize("size", SIZES)
def test_stride_2_takes_every_second_pixel_of_stride_1(k, size):
    x, w, b = normal(2, *size, 3), normal(k, k, 3, 4), normal(4)
    np.testing.assert_allclose(conv2d(x, w, b, stride=2), conv2d(x, w, b)[:, ::2, ::2], atol=1e-12)


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (8, 3), (2, 9)])
@pytest.mark.parametrize("stride, pads", [(1, (1, 1)), (2, (0, 1)), (2, (1, 1)), (1, (0, 2))])
def test_a_depthwise_convolution_is_a_convolution_with_a_diagonal_kernel(stride, pads, size, xp):
    x, w, b = normal(2, *size, 3), normal(3, 3, 3), normal(3)
    y = on(xp, depthwise_conv2d, x, w, b, stride=stride, pads=pads)
    np.testing.assert_allclose(y, conv2d_by_loops(x, w[..., None] * np.eye(3), b, stride, *pads), atol=1e-12)


def test_an_image_does_not_see_its_neighbours():
    x, w, b = normal(3, 9, 8, 4), normal(3, 3, 4, 4), normal(4)
    for convolve in (lambda x: conv2d(x, w, b, stride=2), lambda x: depthwise_conv2d(x, w[..., 0], b)):
        for i, together in enumerate(convolve(x)):
            np.testing.assert_allclose(convolve(x[i : i + 1])[0], together, atol=1e-13)
