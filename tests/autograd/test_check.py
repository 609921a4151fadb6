"""The tester is tested: wrong pullbacks that a cotangent of ones lets through are caught by a random one."""

import numpy as np
import pytest

from mdps_ref.autograd import ops
from mdps_ref.autograd.check import central_differences, check_pullback
from mdps_ref.autograd.conv import conv2d
from mdps_ref.autograd.tape import PRIMITIVES, Tensor, primitive, pull_back, value_of


def normal(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape)


def planted(name, *pullbacks):
    """The primitive `name` with wrong pullbacks; the table keeps the right one."""
    return primitive(*pullbacks)(PRIMITIVES[name].__wrapped__)


def without_variance_term(g, x, scale, groups):
    """The pullback of group_norm as if the deviation were a constant: (h - mean(h)) / deviation."""
    shape = (len(x), -1, groups, x.shape[-1] // groups)
    h, grouped = (g * scale).reshape(shape), x.reshape(shape)
    h = h - h.mean(axis=(1, 3), keepdims=True)
    return (h / np.sqrt(grouped.var(axis=(1, 3), keepdims=True) + 1e-5)).reshape(x.shape)


flip_that_is_not_turned_back = primitive(lambda y, x: lambda g: g)(lambda x: x[::-1])
del PRIMITIVES["<lambda>"]

WRONG = {
    "softmax returns zeros": (planted("softmax", lambda y, x: lambda g: 0 * g), [normal(3, 5)], {}),
    "group_norm returns zeros": (
        planted("group_norm", lambda y, x, a, b, groups: lambda g: 0 * g, None, None),
        [normal(2, 3, 3, 4), np.ones(4), np.zeros(4)],
        {"groups": 2},
    ),
    "group_norm without its variance term": (
        planted("group_norm", lambda y, x, a, b, groups: lambda g: without_variance_term(g, x, a, groups), None, None),
        [normal(2, 3, 3, 4), np.ones(4), np.zeros(4)],
        {"groups": 2},
    ),
    "flip is not turned back": (flip_that_is_not_turned_back, [normal(4, 3)], {}),
    "transpose is not turned back": (
        planted("transpose", lambda y, x, axes: lambda g: g.transpose(axes)),
        [normal(3, 3, 3)],
        {"axes": (1, 2, 0)},
    ),
    "upsampling takes one of the four": (planted("upsample2", lambda y, x: lambda g: 4 * g[:, ::2, ::2]), [normal(1, 2, 2, 1)], {}),
    "convolution without turning the kernel": (
        planted(
            "conv2d",
            lambda y, x, w, b: lambda g: conv2d(g, w.swapaxes(2, 3), 0.0),
            *(None, None, None),
        ),
        [normal(1, 4, 4, 2), normal(3, 3, 2, 2), normal(2)],
        {},
    ),
}


@pytest.mark.parametrize("wrong, args, static", WRONG.values(), ids=WRONG)
def test_a_wrong_pullback_is_caught(wrong, args, static):
    with pytest.raises(AssertionError, match="pullback to argument 0 is off by"):
        check_pullback(lambda x: wrong(x, *args[1:], **static), args[:1])


@pytest.mark.parametrize("name", [name for name in WRONG if not name.startswith("convolution")])
def test_a_cotangent_of_ones_is_blind(name):
    wrong, args, static = WRONG[name]
    x = Tensor(args[0])
    y = wrong(x, *args[1:], **static)
    ones = np.ones(y.shape)
    (pulled,) = pull_back(y, ones, [x])
    np.testing.assert_allclose(pulled, central_differences(lambda *a: wrong(*a, **static), args, 0, ones, 1e-6), atol=1e-7)


def test_the_worst_entry_is_named():
    def spoiled(y, x):
        def pulled(g):
            g = 2 * g
            g[1, 2] += 0.5
            return g

        return pulled

    wrong = primitive(spoiled)(lambda x: 2 * x)
    del PRIMITIVES["<lambda>"]
    with pytest.raises(AssertionError, match=r"argument 0 .* entry \(1, 2\)"):
        check_pullback(wrong, [normal(2, 3)])


def test_a_nan_does_not_pass():
    wrong = primitive(lambda y, x: lambda g: np.nan * g)(lambda x: 2 * x)
    del PRIMITIVES["<lambda>"]
    with pytest.raises(AssertionError):
        check_pullback(wrong, [normal(2)])


def test_float32_is_refused():
    with pytest.raises(TypeError, match="float64"):
        check_pullback(ops.exp, [normal(2).astype(np.float32)])


def test_a_right_convolution_passes():
    assert check_pullback(conv2d, WRONG["convolution without turning the kernel"][1]) < 1e-7


def test_a_function_that_does_not_depend_on_its_arguments_has_slope_zero():
    assert check_pullback(lambda x: normal(3), [normal(2)]) == 0
    with pytest.raises(AssertionError, match="argument 0 is off"):
        check_pullback(lambda x: value_of(x) * 2, [normal(2)])
