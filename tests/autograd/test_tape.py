"""The graph: reuse, skips, dead branches, depth, repetition, memory."""

import contextlib
import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from mdps_ref.autograd import ops
from mdps_ref.autograd.norm import group_norm, group_norm_silu
from mdps_ref.autograd.tape import Tensor, primitive, pull_back, value_and_gradient
from mdps_ref.kernels import fast
from mdps_ref.nn.unet import UNetConfig, init_unet, unet


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def test_a_tensor_used_twice_gets_both_cotangents():
    x = Tensor(normal(4))
    (g,) = pull_back(x + x * x, np.ones(4), [x])
    np.testing.assert_allclose(g, 1 + 2 * x.value)


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


def test_only_what_is_wrapped_is_written_down():
    x, w = normal(2, 3), Tensor(normal(3, 4))
    y = ops.matmul(x, w)
    assert y.node.parents == [w.node]


def test_arrays_are_let_go_with_the_result():
    """What a pullback names lives as long as the result: exp's own value, here."""
    x = Tensor(np.ones((3, 3)))
    middle = ops.exp(x)
    y, kept = ops.exp(middle), weakref.ref(middle.value)
    del middle
    pull_back(y, np.ones((3, 3)), [x])
    assert kept() is not None
    del y
    gc.collect()
    assert kept() is None


def test_an_array_that_no_pullback_names_is_let_go_at_once():
    x = Tensor(np.ones((3, 3)))
    middle = 2 * x
    y, dropped = 3 * middle, weakref.ref(middle.value)
    del middle
    assert dropped() is None
    assert pull_back(y, np.ones((3, 3)), [x])[0][0, 0] == 6


@pytest.mark.parametrize("last", [False, True])
def test_the_last_pullback_lets_go_of_what_it_has_used(last):
    """exp keeps its result: of the outer one nothing is left once it is pulled back, though the graph is still held."""
    x = Tensor(normal(3))
    outer = ops.exp(ops.exp(x))
    y, kept, slope = ops.sum(outer), weakref.ref(outer.value), outer.value * np.exp(x.value)
    del outer
    np.testing.assert_allclose(pull_back(y, np.ones(()), [x], last=last)[0], slope)
    assert (kept() is None) == last
    if last:
        with pytest.raises(RuntimeError, match="last=True"):
            pull_back(y, np.ones(()), [x])


def arrays_held(blocks):
    """How many arrays of the network's width are alive between the forward pass and the pullback of a guided step."""
    config = UNetConfig(image_size=32, base_channels=16, multipliers=(1,), blocks=blocks, attention_sizes=(), heads=1, groups=2)
    weights, x = init_unet(config), Tensor(np.zeros((1, 32, 32, 3), np.float32))
    tracemalloc.start()
    try:
        y = unet(weights, x, np.array([3]), config)
        return tracemalloc.get_traced_memory()[0] / (32 * 32 * 16 * 4), y
    finally:
        tracemalloc.stop()


@pytest.mark.kernels_as_they_are
def test_a_guided_step_keeps_what_the_normalisations_saw_and_nothing_else():
    """A down block keeps the input of its two normalisations, an up block too, the first beside its skip: five arrays the pair."""
    assert 5 <= (arrays_held(4)[0] - arrays_held(2)[0]) / 2 < 6


def test_value_and_gradient_of_a_dictionary():
    weights = {"a": normal(3), "b": normal(1, 3)}
    value, gradient = value_and_gradient(lambda w: ops.sum(w["a"] * w["a"] * w["b"]), weights)
    assert value == pytest.approx((weights["a"] ** 2 * weights["b"]).sum())
    np.testing.assert_allclose(gradient["a"], 2 * weights["a"] * weights["b"][0])
    np.testing.assert_allclose(gradient["b"], weights["a"][None] ** 2)


@pytest.mark.kernels_as_they_are
@pytest.mark.parametrize("written", ["argument", "constant", "result"])
def test_an_array_written_in_place_before_the_pullback_is_an_error(written):
    """exp reads its result, mul both its arguments; the pullback would use the new values."""
    x, constant = Tensor(normal(3)), normal(3)
    product = x * constant
    y = ops.exp(product)
    {"argument": x.value, "constant": constant, "result": y.value}[written][0] += 1
    with pytest.raises(RuntimeError, match="written"):
        pull_back(y, np.ones(3), [x])


@pytest.mark.parametrize("cotangent", [np.ones(2), np.ones((3, 1)), 1.0])
def test_a_cotangent_of_another_shape_is_an_error(cotangent):
    x = Tensor(normal(3))
    with pytest.raises(ValueError, match="shape"):
        pull_back(2 * x, cotangent, [x])


@pytest.mark.parametrize("loss", [lambda w: w["a"] * 2, lambda w: np.float64(3), lambda w: ops.sum(w["a"]).reshape(1)])
def test_a_loss_that_is_no_scalar_tensor_is_an_error(loss):
    with pytest.raises(ValueError, match="scalar"):
        value_and_gradient(loss, {"a": normal(3)})


def test_a_weight_that_the_loss_does_not_use_has_gradient_zero():
    _, gradient = value_and_gradient(lambda w: ops.sum(w["a"]), {"a": normal(3), "unused": normal(2)})
    np.testing.assert_array_equal(gradient["unused"], np.zeros(2))


@pytest.mark.parametrize("pullbacks", [(), (None, None), (lambda y, a, b: lambda g: g,)])
def test_a_primitive_without_a_pullback_for_each_argument_is_refused(pullbacks):
    with pytest.raises(TypeError, match="one for each argument"):
        primitive(*pullbacks)(lambda a, b: a + b)


@pytest.mark.parametrize("function", [lambda x: np.concatenate([x, x]), lambda x: np.where(True, x, 0), np.asarray, np.transpose])
def test_numpy_makes_no_array_of_tensors(function):
    """It would be an array of objects, and no gradient would pass."""
    with pytest.raises(TypeError, match="primitive"):
        function(Tensor(normal(3)))


@pytest.mark.parametrize("normalise", [group_norm, group_norm_silu])
@pytest.mark.parametrize("context", [contextlib.nullcontext, fast])
def test_groups_that_do_not_divide_the_channels_are_an_error(normalise, context):
    with context(), pytest.raises(ValueError, match="reshape"):
        normalise(normal(1, 4, 4, 6), normal(6), normal(6), groups=4)
