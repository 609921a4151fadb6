"""The graph: reuse, skips, dead branches, depth, repetition, memory."""

import gc
import weakref

import numpy as np
import pytest

from mdps_ref.autograd import ops
from mdps_ref.autograd.check import check_pullback
from mdps_ref.autograd.tape import Tensor, pull_back, value_and_gradient


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def test_a_tensor_used_twice_gets_both_cotangents():
    x = Tensor(normal(4))
    (g,) = pull_back(x + x * x, np.ones(4), [x])
    np.testing.assert_allclose(g, 1 + 2 * x.value)


def test_a_skip_connection_adds_up():
    check_pullback(lambda x, w: ops.concatenate(ops.silu(ops.matmul(x, w)), x) * 3 + 1, [normal(2, 3), normal(3, 3)])


def test_a_dead_branch_gets_nothing():
    x, unused = Tensor(normal(3)), Tensor(normal(3))
    ops.exp(unused)
    g, nothing = pull_back(2 * x, np.ones(3), [x, unused])
    np.testing.assert_array_equal(g, 2)
    assert nothing is None


def test_an_output_that_is_no_tensor_depends_on_nothing():
    assert pull_back(normal(3), np.ones(3), [Tensor(normal(3))]) == [None]


def test_an_input_may_be_the_output_or_lie_on_the_way():
    x = Tensor(normal(3))
    middle = 2 * x
    y = 3 * middle
    g_x, g_middle, g_y = pull_back(y, np.ones(3), [x, middle, y])
    assert (g_x[0], g_middle[0], g_y[0]) == (6, 3, 1)


def test_depth_is_no_limit():
    x = y = Tensor(np.ones(1))
    for _ in range(5000):
        y = y + 0.0
    assert pull_back(y, np.ones(1), [x]) == [1.0]


def test_pulling_back_twice_gives_the_same():
    x = Tensor(normal(3, 4))
    y = ops.softmax(ops.exp(x))
    u = normal(3, 4)
    np.testing.assert_array_equal(pull_back(y, u, [x])[0], pull_back(y, u, [x])[0])


def test_broadcasting_is_undone():
    row, column = Tensor(normal(1, 4)), Tensor(normal(3, 1))
    u = normal(3, 4)
    g_row, g_column = pull_back(row * column, u, [row, column])
    np.testing.assert_allclose(g_row, (u * column.value).sum(axis=0, keepdims=True))
    np.testing.assert_allclose(g_column, (u * row.value).sum(axis=1, keepdims=True))


def test_only_what_is_wrapped_is_written_down():
    x, w = normal(2, 3), Tensor(normal(3, 4))
    y = ops.matmul(x, w)
    assert [parent for parent, _ in y.parents] == [w]


def test_arrays_are_let_go_with_the_result():
    x = Tensor(np.ones((3, 3)))
    y = ops.exp(ops.exp(x))
    middle = weakref.ref(y.parents[0][0].value)
    pull_back(y, np.ones((3, 3)), [x])
    del y
    gc.collect()
    assert middle() is None


def test_value_and_gradient_of_a_dictionary():
    weights = {"a": normal(3), "b": normal(1, 3)}
    value, gradient = value_and_gradient(lambda w: ops.sum(w["a"] * w["a"] * w["b"]), weights)
    assert value == pytest.approx((weights["a"] ** 2 * weights["b"]).sum())
    np.testing.assert_allclose(gradient["a"], 2 * weights["a"] * weights["b"][0])
    np.testing.assert_allclose(gradient["b"], weights["a"][None] ** 2)
