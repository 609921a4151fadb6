"""The layers of frozen networks against their definitions, a loop an index, and against each other."""

import numpy as np
import pytest

from mdps_ref.backend import to_device, to_host
from mdps_ref.errors import check_arrays
from mdps_ref.nn.frozen import convolution, depthwise, fold, max_pool, relu, relu6

SIZES = [(6, 6), (7, 5), (8, 3), (1, 4)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def convolution_by_loops(x, kernel, bias, stride, before, after):
    """The definition: y[p] = bias + the sum over offsets d of x[stride p - before + d] @ kernel[d], zeros beyond the border."""
    (n, h, w, _), (k, _, _, c_out) = x.shape, kernel.shape
    y = np.zeros((n, (h + before + after - k) // stride + 1, (w + before + after - k) // stride + 1, c_out)) + bias
    for at, row, col, i, j in np.ndindex(*y.shape[:3], k, k):
        r, c = stride * row - before + i, stride * col - before + j
        if 0 <= r < h and 0 <= c < w:
            y[at, row, col] += x[at, r, c] @ kernel[i, j]
    return y


def on(xp, function, *arrays, **settings):
    """function(*arrays) computed on a device, the result on the host."""
    return to_host(function(*(to_device(a, xp) for a in arrays), **settings))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "k, stride, pads", [(1, 1, (0, 0)), (1, 2, (0, 0)), (1, 3, (0, 0)), (3, 1, (1, 1)), (3, 2, (1, 1)), (7, 2, (3, 3))]
)
def test_a_convolution_is_its_twin(k, stride, pads, size, xp):
    x, kernel, bias = normal(2, *size, 3), normal(k, k, 3, 4), normal(4)
    y = on(xp, convolution, x, kernel, bias, stride=stride)
    np.testing.assert_allclose(y, convolution_by_loops(x, kernel, bias, stride, *pads), atol=1e-12)


@pytest.mark.parametrize(
    "k, stride, pads", [(3, 1, (0, 1)), (3, 1, (2, 0)), (3, 2, (0, 1)), (5, 3, (2, 1)), (2, 2, (1, 0)), (2, 5, (0, 3)), (3, 4, (3, 3))]
)
def test_padding_may_differ_at_both_ends(k, stride, pads, xp):
    x, kernel, bias = normal(2, 7, 6, 3), normal(k, k, 3, 4), normal(4)
    y = on(xp, convolution, x, kernel, bias, stride=stride, pads=pads)
    np.testing.assert_allclose(y, convolution_by_loops(x, kernel, bias, stride, *pads), atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5, 7])
@pytest.mark.parametrize("size", SIZES)
def test_stride_2_takes_every_second_pixel_of_stride_1(k, size):
    x, kernel, bias = normal(2, *size, 3), normal(k, k, 3, 4), normal(4)
    np.testing.assert_allclose(convolution(x, kernel, bias, 2), convolution(x, kernel, bias)[:, ::2, ::2], atol=1e-12)


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (8, 3), (2, 9)])
@pytest.mark.parametrize("stride, pads", [(1, (1, 1)), (2, (0, 1)), (2, (1, 1)), (1, (0, 2))])
def test_a_depthwise_convolution_is_a_convolution_with_a_diagonal_kernel(stride, pads, size, xp):
    x, kernel, bias = normal(2, *size, 3), normal(3, 3, 3), normal(3)
    y = on(xp, depthwise, x, kernel, bias, stride=stride, pads=pads)
    np.testing.assert_allclose(y, convolution_by_loops(x, kernel[..., None] * np.eye(3), bias, stride, *pads), atol=1e-12)


def test_a_large_depthwise_convolution_is_one_across_its_blocks():
    """Of 15 lines each, at 65 pixels of 64 channels."""
    x, kernel, bias = normal(1, 70, 130, 64), normal(3, 3, 64), normal(64)
    y = depthwise(x, kernel, bias, 2, (0, 1))
    for line in (0, 14, 15, 29, 30):
        part = convolution_by_loops(x[:, 2 * line : 2 * line + 3], kernel[..., None] * np.eye(64), bias, 2, 0, 1)
        np.testing.assert_allclose(y[:, line], part[:, 0], atol=1e-12)


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (2, 2), (9, 9)])
def test_the_maximum_is_of_what_there_is(size, xp):
    x = normal(2, *size, 3) - 10  # all negative: a padding with zeros would win
    y = on(xp, max_pool, x)
    assert y.shape == (2, -(-size[0] // 2), -(-size[1] // 2), 3)
    for row, col in np.ndindex(*y.shape[1:3]):
        around = x[:, max(2 * row - 1, 0) : 2 * row + 2, max(2 * col - 1, 0) : 2 * col + 2]
        np.testing.assert_array_equal(y[:, row, col], around.max(axis=(1, 2)))


@pytest.mark.parametrize("function, low, high", [(relu, 0, np.inf), (relu6, 0, 6)])
def test_what_lies_outside_is_cut_off_in_place(function, low, high, xp):
    x = 5 * normal(2, 3, 4, 5)
    there = to_device(x.copy(), xp)
    np.testing.assert_array_equal(to_host(function(there)), np.clip(x, low, high))
    np.testing.assert_array_equal(to_host(there), np.clip(x, low, high))


def test_no_layer_but_those_changes_its_input():
    x = normal(1, 5, 5, 3)
    before = x.copy()
    for y in (convolution(x, normal(1, 1, 3, 3), normal(3)), convolution(x, normal(3, 3, 3, 3), normal(3), 2), max_pool(x)):
        relu(y)
    relu(depthwise(x, normal(3, 3, 3), normal(3)))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_folding_is_the_convolution_and_then_the_norm(dtype):
    kernel = normal(4, 3, 3, 3).astype(dtype).transpose(2, 3, 1, 0)
    gamma, beta, mean, root = (normal(4, seed=i).astype(dtype) for i in range(4))
    variance = root * root
    x = normal(2, 5, 6, 3)
    apart = convolution_by_loops(x, kernel.astype(float), 0, 1, 1, 1)
    apart = (apart - mean.astype(float)) / np.sqrt(variance.astype(float) + 1e-3) * gamma.astype(float) + beta.astype(float)
    folded, bias = fold(kernel, gamma, beta, mean, variance, 1e-3)
    assert folded.dtype == bias.dtype == np.float32 and folded.flags.c_contiguous
    np.testing.assert_allclose(convolution(x.astype(np.float32), folded, bias), apart, rtol=0, atol=1e-6 * abs(apart).max())


def test_an_image_does_not_see_its_neighbours():
    x, kernel = normal(3, 9, 8, 4), normal(3, 3, 4, 4)
    layers = (lambda x: convolution(x, kernel, normal(4), 2), lambda x: depthwise(x, kernel[..., 0], normal(4)), max_pool)
    for layer in layers:
        for i, together in enumerate(layer(x)):
            np.testing.assert_allclose(layer(x[i : i + 1])[0], together, atol=1e-13)


def test_the_first_five_arrays_that_do_not_fit_are_listed(fails_with):
    arrays = {"a": np.zeros((2, 3)), "b": np.zeros(4), "c": np.zeros(()), "d": np.zeros(5), "e": np.zeros(1)}
    wanted = {"a": (2, None), "b": (3,), "c": (1, None), "d": (None,), "f": (2,), "g": (1,)}
    with fails_with("b has shape (4,), not (3,)", "c has shape (), not (1, any)", "e is unexpected", "f is missing", "g is missing"):
        check_arrays(arrays, wanted)
    with fails_with("c has shape (), not (1, any); e is unexpected; and 2 more"):
        check_arrays(arrays | {"x": np.zeros(1), "y": np.zeros(1)}, wanted)
    check_arrays({"a": np.zeros((2, 3)), "x": np.zeros(1)}, {"a": (2, 3)}, optional=["x", "y"])
