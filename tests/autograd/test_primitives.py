"""One harness walks the table of primitives: every pullback against central differences, under a random cotangent."""

import numpy as np
import pytest

from mdps_ref.autograd import ops
from mdps_ref.autograd.check import check_pullback
from mdps_ref.autograd.tape import PRIMITIVES, Tensor, pull_back
from mdps_ref.backend import array_module, to_device, to_host

# name: (shapes of the arguments, static arguments), as often as there are cases worth telling apart
CASES = {
    "add": [([(2, 3, 4), (3, 1)], {}), ([(2, 3), (2, 3)], {}), ([(1,), (2, 3)], {})],
    "sub": [([(2, 3, 4), (3, 1)], {}), ([(4,), (2, 4)], {})],
    "mul": [([(2, 3, 4), (4,)], {}), ([(2, 1, 4), (1, 3, 1)], {})],
    "div": [([(2, 3, 4), (4,)], {}), ([(3,), (2, 3)], {})],
    "neg": [([(2, 3)], {})],
    "power": [([(2, 3)], {"exponent": exponent}) for exponent in (3, -0.5, 0)],
    "exp": [([(2, 3)], {})],
    "log": [([(2, 3)], {})],
    "sqrt": [([(2, 3)], {})],
    "sum": [
        ([(2, 3, 4)], {}),
        ([(2, 3, 4)], {"axis": 1}),
        ([(2, 3, 4)], {"axis": (0, 2)}),
        ([(2, 3, 4)], {"axis": -1}),
        ([(2, 3)], {"axis": 0, "keepdims": True}),
    ],
    "mean": [([(2, 3, 4)], {}), ([(2, 3, 4)], {"axis": 1}), ([(2, 3, 4)], {"axis": (0, 2), "keepdims": True})],
    "norm": [([(2, 3, 4)], {}), ([(2, 3, 4)], {"axis": (1, 2)})],
    "matmul": [([(3, 4), (4, 2)], {}), ([(2, 5, 3, 4), (2, 5, 4, 2)], {}), ([(5, 3, 4), (4, 2)], {}), ([(1, 3, 4), (5, 4, 2)], {})],
    "linear": [([(5, 3), (3, 4), (4,)], {}), ([(2, 3, 4, 3), (3, 2), (2,)], {})],
    "reshape": [([(2, 3, 4)], {"shape": (4, 6)})],
    "transpose": [
        ([(2, 3, 4)], {}),
        ([(2, 3, 4)], {"axes": (2, 0, 1)}),
        ([(2, 3, 4, 1)], {"axes": (3, 0, 2, 1)}),
        ([(2, 3, 4)], {"axes": (0, -1, 1)}),
    ],
    "concatenate": [([(2, 3), (2, 4)], {}), ([(2, 3, 1, 4), (2, 3, 1, 2)], {})],
    "getitem": [
        ([(4, 5)], {"index": [0, 0, 2]}),
        ([(4, 5)], {"index": 2}),
        ([(4, 5)], {"index": (slice(1, 3), slice(None, None, 2))}),
        ([(4, 5)], {"index": (..., -1)}),
    ],
    "pad": [([(2, 3)], {"widths": ((1, 2), (0, 1))}), ([(2, 3)], {"widths": ((0, 0), (2, 0))})],
    "sigmoid": [([(2, 3)], {})],
    "silu": [([(2, 3)], {})],
    "softmax": [([(3, 5)], {}), ([(2, 1, 4)], {})],
    "group_norm": [([(2, 3, 2, 6), (6,), (6,)], {"groups": groups}) for groups in (1, 2, 6)] + [([(2, 5, 4), (4,), (4,)], {"groups": 2})],
    "upsample2": [([(2, 3, 2, 2)], {})],
    "mean_pool2": [([(2, 4, 2, 2)], {})],
    "conv2d": [
        ([(2, 5, 4, 3), (3, 3, 3, 2), (2,)], {}),
        ([(1, 3, 4, 3), (1, 1, 3, 5), (5,)], {}),
        ([(1, 1, 2, 1), (5, 5, 1, 2), (2,)], {}),
        ([(2, 5, 4, 3), (3, 3, 3, 2), (2, 1, 1, 2), (2, 5, 4, 2)], {}),
        ([(1, 5, 6, 2), (3, 3, 2, 2), (2,)], {"stride": 2, "pads": (0, 1)}),
        ([(1, 7, 4, 2), (2, 2, 2, 1), (1,)], {"stride": 3, "pads": (0, 0)}),
    ],
    "group_norm_silu": [([(2, 3, 2, 6), (6,), (6,)], {"groups": groups}) for groups in (1, 2, 6)]
    + [([(1, 5, 4), (4,), (4,)], {"groups": 2})],
    "depthwise_conv2d": [([(2, 4, 3, 2), (3, 3, 2), (2,)], {}), ([(1, 5, 6, 2), (3, 3, 2), (2,)], {"stride": 2, "pads": (0, 1)})],
    "self_attention": [([(2, 5, 12)], {"heads": 2}), ([(1, 3, 12)], {"heads": 1})],
}
ROWS = [pytest.param(name, shapes, static, id=f"{name}-{i}") for name, cases in CASES.items() for i, (shapes, static) in enumerate(cases)]


def arguments(name, shapes, dtype=np.float64):
    """Random arguments from the primitive's own domain."""
    rng = np.random.default_rng(len(name))
    low, high = PRIMITIVES[name].domain
    return [rng.uniform(low, high, shape).astype(dtype) for shape in shapes]


def test_every_primitive_has_a_row():
    """A reader's own primitives, such as the README's, stand in PRIMITIVES too."""
    assert {name for name, op in PRIMITIVES.items() if str(op.__module__).startswith("mdps_ref.")} == CASES.keys()


@pytest.mark.parametrize("name, shapes, static", ROWS)
def test_pullback_agrees_with_central_differences(name, shapes, static):
    assert check_pullback(lambda *args: PRIMITIVES[name](*args, **static), arguments(name, shapes)) < 1e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, shapes, static", ROWS)
def test_dtype_and_arguments_are_kept(name, shapes, static, dtype):
    args = arguments(name, shapes, dtype)
    before = [arg.copy() for arg in args]
    tensors = [Tensor(arg) for arg in args]
    y = PRIMITIVES[name](*tensors, **static)
    g = np.ones_like(y.value)
    pulled = pull_back(y, g, tensors)
    assert {y.value.dtype, *(p.dtype for p in pulled)} == {np.dtype(dtype)}
    assert [p.shape for p in pulled] == [arg.shape for arg in args]
    for arg, copy in zip(args, before, strict=True):
        np.testing.assert_array_equal(arg, copy)
    np.testing.assert_array_equal(g, 1)


@pytest.mark.parametrize("name, shapes, static", ROWS)
def test_memory_layout_changes_nothing(name, shapes, static):
    args = arguments(name, shapes)
    strided = [np.repeat(arg, 2, axis=-1)[..., ::2] for arg in args]
    turned = [np.asfortranarray(arg) for arg in args]
    expected = with_pullbacks(name, args, static)
    for variant in (strided, turned):
        for ours, theirs in zip(with_pullbacks(name, variant, static), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name, shapes, static", ROWS)
def test_the_device_changes_nothing(name, shapes, static, xp):
    args = arguments(name, shapes)
    expected = with_pullbacks(name, args, static)
    cotangent = to_device(np.random.default_rng(7).standard_normal(expected[0].shape), xp)
    tensors = [Tensor(to_device(arg, xp)) for arg in args]
    y = PRIMITIVES[name](*tensors, **static)
    for ours, theirs in zip([y.value, *pull_back(y, cotangent, tensors)], expected, strict=True):
        assert array_module(ours) is xp
        np.testing.assert_allclose(to_host(ours), theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name, shapes, static", ROWS)
def test_what_comes_back_is_the_callers_own(name, shapes, static):
    """Writing into a cotangent that was pulled back changes neither the one given, nor the arguments, nor the others."""
    args = arguments(name, shapes)
    tensors = [Tensor(arg) for arg in args]
    y = PRIMITIVES[name](*tensors, **static)
    g = np.ones_like(y.value)
    pulled = pull_back(y, g, tensors)
    for k, mine in enumerate(pulled):
        assert not any(np.shares_memory(mine, other) for other in (g, y.value, *args, *pulled[:k]))


LINEAR = ("neg", "sum", "mean", "reshape", "transpose", "getitem", "pad", "upsample2", "mean_pool2")


@pytest.mark.parametrize("name, shapes, static", [row for row in ROWS if row.values[0] in LINEAR])
def test_the_pullback_of_a_linear_map_is_its_adjoint(name, shapes, static):
    """<A x, z> = <x, A' z>, for x and z that have nothing to do with each other."""
    (x,) = (np.random.default_rng(1).standard_normal(shape) for shape in shapes)
    tensor = Tensor(x)
    y = PRIMITIVES[name](tensor, **static)
    z = np.random.default_rng(2).standard_normal(y.shape)
    (pulled,) = pull_back(y, z, [tensor])
    np.testing.assert_allclose((y.value * z).sum(), (x * pulled).sum(), rtol=1e-12)


def with_pullbacks(name, args, static):
    """The result, and what a random cotangent is pulled back to."""
    tensors = [Tensor(arg) for arg in args]
    y = PRIMITIVES[name](*tensors, **static)
    return [y.value, *pull_back(y, np.random.default_rng(7).standard_normal(y.shape), tensors)]


@pytest.mark.parametrize("name, shapes, static", ROWS)
def test_plain_arrays_leave_no_trace(name, shapes, static):
    args = arguments(name, shapes)
    assert not isinstance(PRIMITIVES[name](*args, **static), Tensor)


def test_operators_and_methods_are_the_primitives():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 2, (2, 3, 3))
    for f in (
        lambda a, b: (a + b) * 2 - a / b,
        lambda a, b: -(1 - a) / (3 + b) ** 2,
        lambda a, b: 2 / a[1] * b[0] - 1,
        lambda a, b: (a @ b.T).sum(axis=0) + (a.mean(axis=1, keepdims=True) * b).reshape(9)[:3] + b.reshape((9,))[3:6],
    ):
        np.testing.assert_allclose(f(Tensor(a), Tensor(b)).value, f(a, b), rtol=1e-14)
        check_pullback(f, [a, b])


@pytest.mark.parametrize(
    "wrong, says",
    [
        (lambda x: x.exp, "exp"),
        (lambda x: x.argmax(), "x.value.argmax"),
        (lambda x: x > 0, "x.value"),
        (lambda x: bool(x), "x.value"),
        (lambda x: x == x, "x.value"),
        (lambda x: x**x, "exp"),
        (lambda x: x.__setitem__(0, 1.0), "new one"),
        (lambda x: np.exp(x), "Tensor"),
        (lambda x: ops.matmul(x[0], x), "reshape"),
        (lambda x: Tensor(np.arange(3)), "float"),
        (lambda x: Tensor([1.0]), "float"),
        (lambda x: ops.linear(x.value, x.value, b=x), "position"),
        (lambda x: ops.exp(x, x), "positional"),
    ],
)
def test_what_a_tensor_does_not_do_is_an_error_with_a_remedy(wrong, says):
    with pytest.raises((TypeError, AttributeError, ValueError), match=says):
        wrong(Tensor(np.ones((2, 2))))


def test_a_tensor_shows_its_value_and_what_made_it():
    assert "1.5" in repr(Tensor(np.array([1.5]))) and "mul" in repr(3 * Tensor(np.array([1.5])))


def test_an_exponent_may_be_numpys_own_number():
    x = Tensor(np.array([2.0, 3.0]))
    np.testing.assert_array_equal((x ** np.int64(2)).value, [4, 9])


def test_a_zeroth_power_at_zero_has_slope_zero():
    x = Tensor(np.zeros(2))
    np.testing.assert_array_equal(pull_back(x**0, np.ones(2), [x])[0], 0)


def test_an_array_beside_a_tensor_leaves_the_work_to_it():
    x = np.arange(3.0)
    assert isinstance(x * Tensor(x), Tensor) and isinstance(x - Tensor(x), Tensor)


def test_silu_does_not_overflow():
    x = np.array([-1e4, -100.0, 100.0, 1e4], np.float32)
    np.testing.assert_allclose(ops.silu(x), [0, 0, 100, 1e4], atol=1e-6)


def test_norm_of_zero_pulls_back_zero():
    x = Tensor(np.zeros((2, 3)))
    (g,) = pull_back(ops.norm(x), np.array(1.0), [x])
    np.testing.assert_array_equal(g, 0)
