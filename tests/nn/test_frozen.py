"""The layers of frozen networks against their definitions; and which arrays do not fit a network."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.autograd.conv import conv2d
from mdps_ref.backend import to_device, to_host
from mdps_ref.errors import check_arrays
from mdps_ref.nn.frozen import fold, max_pool, relu, relu6


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (8, 3), (1, 4), (1, 1), (2, 2), (9, 9)])
def test_the_maximum_is_of_the_pixels_inside_the_image(size, xp):
    x = normal(2, *size, 3) - 10  # all negative: a padding with zeros would win
    there = to_device(x.copy(), xp)
    y = to_host(max_pool(there))
    np.testing.assert_array_equal(to_host(there), x)
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


def test_a_relu_in_place_does_not_reach_the_input_of_the_layer_before_it():
    x = normal(1, 5, 5, 3)
    before = x.copy()
    for y in (conv2d(x, normal(1, 1, 3, 3), normal(3)), conv2d(x, normal(3, 3, 3, 3), normal(3), stride=2), max_pool(x)):
        relu(y)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_folding_is_the_convolution_and_then_the_norm(dtype):
    kernel = normal(4, 3, 3, 3).astype(dtype).transpose(2, 3, 1, 0)
    gamma, beta, mean, root = (normal(4, seed=i).astype(dtype) for i in range(4))
    variance = root * root
    x = normal(2, 5, 6, 3)
    apart = conv2d(x, kernel.astype(float), np.zeros(4))
    apart = (apart - mean.astype(float)) / np.sqrt(variance.astype(float) + 1e-3) * gamma.astype(float) + beta.astype(float)
    folded, bias = fold(kernel, gamma, beta, mean, variance, 1e-3)
    assert folded.dtype == bias.dtype == np.float32 and folded.flags.c_contiguous
    np.testing.assert_allclose(conv2d(x.astype(np.float32), folded, bias), apart, rtol=0, atol=1e-6 * abs(apart).max())


def test_the_first_five_arrays_that_do_not_fit_are_listed(fails_with):
    arrays = {"a": np.zeros((2, 3)), "b": np.zeros(4), "c": np.zeros(()), "d": np.zeros(5), "e": np.zeros(1)}
    wanted = {"a": (2, None), "b": (3,), "c": (1, None), "d": (None,), "f": (2,), "g": (1,)}
    with fails_with("b has shape (4,), not (3,)", "c has shape (), not (1, any)", "e is unexpected", "f is missing", "g is missing"):
        check_arrays(arrays, wanted)
    with fails_with("c has shape (), not (1, any); e is unexpected; and 2 more"):
        check_arrays(arrays | {"x": np.zeros(1), "y": np.zeros(1)}, wanted)
    check_arrays({"a": np.zeros((2, 3)), "x": np.zeros(1)}, {"a": (2, 3)}, optional=["x", "y"])
