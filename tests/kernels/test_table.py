"""One walk over the table: every twin against its plain primitive, forward and every pullback."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mdps_ref.autograd import ops
from mdps_ref.autograd.attention import self_attention
from mdps_ref.autograd.conv import conv2d, depthwise_conv2d
from mdps_ref.autograd.norm import group_norm, group_norm_silu
from mdps_ref.autograd.tape import REPLACEMENTS, Tensor, primitive, pull_back
from mdps_ref.backend import to_device, to_host
from mdps_ref.kernels import attention, blocks, buffers, convolution, depthwise, fast, normalisation, threads, winograd
from mdps_ref.kernels.buffers import POOL
from mdps_ref.kernels.processes import FORKS
from mdps_ref.kernels.table import TABLE

pytestmark = pytest.mark.kernels_as_they_are

# primitive: (shapes of the arguments, settings); odd sizes among them, and for each twin at least one case that suits it
CASES = {
    ops.add: [([(3, 5, 40), (3, 5, 40)], {}), ([(2, 300), (2, 300)], {})],
    ops.sum: [([(3, 5, 7, 6)], {"axis": (0, 1, 2)}), ([(3, 5, 7, 6)], {"axis": (1, 2), "keepdims": True}), ([(300, 7)], {"axis": (0,)})],
    ops.matmul: [([(70, 40), (40, 9)], {}), ([(5, 1, 33, 4), (2, 4, 31)], {}), ([(2, 3), (3, 1)], {})],
    ops.linear: [([(2, 30, 40, 5), (5, 7), (7,)], {}), ([(3, 1), (1, 2), (2,)], {})],
    ops.concatenate: [([(3, 5, 4, 6), (3, 5, 4, 3)], {}), ([(2, 7, 1), (2, 7, 9)], {})],
    ops.upsample2: [([(3, 5, 7, 6)], {})],
    ops.mean_pool2: [([(3, 4, 6, 5)], {})],
    group_norm: [([(3, 5, 7, 6), (6,), (6,)], {"groups": 2}), ([(1, 64, 4), (4,), (4,)], {"groups": 4})],
    group_norm_silu: [([(3, 5, 8, 6), (6,), (6,)], {"groups": 3}), ([(2, 16, 16, 4), (4,), (4,)], {"groups": 1})],
    self_attention: [([(2, 9, 36)], {"heads": 3}), ([(1, 24, 24)], {"heads": 1})],
    depthwise_conv2d: [
        ([(2, 7, 5, 6), (3, 3, 6), (6,)], {}),
        ([(2, 8, 7, 3), (3, 3, 3), (3,)], {"stride": 2, "pads": (0, 1)}),
        ([(3, 4, 12, 5), (5, 5, 5), (5,)], {}),
        ([(2, 9, 8, 5), (5, 5, 5), (5,)], {"stride": 2, "pads": (1, 2)}),
    ],
    conv2d: [
        ([(3, 8, 12, 2), (3, 3, 2, 5), (5,)], {}),
        ([(1, 16, 16, 8), (3, 3, 8, 8), (1, 1, 1, 8), (1, 16, 16, 8)], {}),
        ([(2, 8, 8, 3), (3, 3, 3, 4), (2, 1, 1, 4), (2, 8, 8, 4)], {}),
        ([(2, 5, 7, 3), (3, 3, 3, 260), (260,)], {}),
        ([(1, 1, 2, 1), (5, 5, 1, 2), (2,)], {}),
        ([(2, 6, 5, 3), (1, 1, 3, 4), (4,)], {}),
        ([(2, 7, 6, 3), (3, 3, 3, 4), (4,)], {"stride": 2, "pads": (0, 1)}),
        ([(1, 9, 8, 3), (7, 7, 3, 4), (4,)], {"stride": 2}),
        ([(2, 6, 6, 3), (1, 1, 3, 4), (4,)], {"stride": 2}),
    ],
}
TWINS = [pytest.param(op, i, id=f"{op.__name__}-{i}") for op, twins in TABLE.items() for i in range(len(twins))]
LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "turned": np.asfortranarray,
}


@pytest.fixture
def many_blocks(monkeypatch):
    """Blocks so small that each case has several, all shared by two threads; Winograd's form for whatever can take it."""
    for module, name, size in [
        *((module, "BLOCK", 256) for module in (blocks, normalisation, attention)),
        (convolution, "BLOCK", 64),
        (convolution, "FEW_PIXELS", 8),
        (depthwise, "ENTRIES", 64),
        (depthwise, "LOOP", 12),
        (convolution, "LARGE", 0),
        (convolution, "FEW_CHANNELS", 0),
        (winograd, "BAND", 64),
        (blocks, "SMALL_PRODUCT", 0),
        (buffers, "SMALL_BYTES", 0),
        (blocks, "ROWS", 100),
        (threads, "WORTH_SHARING", 0.0),
        (threads, "CORES", 2),
        (threads, "_HELPERS", threads._Helpers(1)),
    ]:
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr("mdps_ref.kernels.table.CORES", 2)


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def run(rule, args, static, xp, count):
    """The result of a rule, and what a random cotangent is pulled back to, on `count` threads."""
    with fast(count):
        y, pullback = rule([to_device(arg, xp) for arg in args], static, range(len(args)))
        g = to_device(normal(y.shape, 9).astype(args[0].dtype), xp)
        return [to_host(array) for array in (y, *pullback(g))]


def plain(op, args, static):
    """The same by the plain primitive, in float64."""
    tensors = [Tensor(arg.astype(float)) for arg in args]
    y = op(*tensors, **static)
    return [y.value, *pull_back(y, normal(y.shape, 9).astype(args[0].dtype).astype(float), tensors)]


def test_every_primitive_in_the_table_has_cases():
    assert TABLE.keys() == CASES.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op, at", TWINS)
def test_a_twin_is_its_plain_primitive(op, at, layout, many_blocks, strict_device):
    twin, tried = TABLE[op][at], 0
    for shapes, static in CASES[op]:
        for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 1e-5)):
            args = [LAYOUTS[layout](normal(shape, i).astype(dtype)) for i, shape in enumerate(shapes)]
            for xp in (np, strict_device):
                if twin.suits(*(to_device(arg, xp) for arg in args), **static):
                    tried += 1
                    one, two = (run(twin.rule, args, static, xp, count) for count in (1, 2))
                    for ours, theirs, exact in zip(one, two, plain(op, args, static), strict=True):
                        np.testing.assert_array_equal(ours, theirs)  # a second thread changes no bit
                        assert ours.dtype == dtype
                        np.testing.assert_allclose(ours, exact, rtol=0, atol=tolerance * max(1, abs(exact).max()))
    assert tried, "no case suits this twin"


def test_numpys_buffer_is_small_inside_fast_and_as_before_outside():
    before = np.getbufsize()
    with fast():
        inside = np.getbufsize()
        with fast():
            assert np.getbufsize() == inside < before
        assert np.getbufsize() == inside
    assert np.getbufsize() == before


def test_fast_uses_a_twin_inside_the_block_and_nothing_outside(monkeypatch):
    x, calls = normal((2, 3, 4), 0), []
    twin = TABLE[ops.concatenate][0]
    recorded = twin._replace(rule=lambda *args: calls.append(args) or twin.rule(*args))
    monkeypatch.setitem(TABLE, ops.concatenate, (recorded,))
    ops.concatenate(x, x)
    assert not calls and REPLACEMENTS.get() is None
    with fast():
        with fast(1):
            ops.concatenate(x, x)
        ops.concatenate(x, x)
    assert len(calls) == 2 and REPLACEMENTS.get() is None


def test_a_block_inside_another_keeps_its_threads_and_may_ask_for_others(monkeypatch):
    """Detection enters fast() itself: a caller's fast(1) must hold there too."""
    monkeypatch.setattr("mdps_ref.kernels.table.CORES", 8)
    seen = []
    with fast(3):
        for threads_asked in (None, 1, 99):
            with fast(threads_asked):
                seen.append(threads.LIMIT.get())
        seen.append(threads.LIMIT.get())
    assert seen == [3, 1, 8, 3]


def test_two_threads_do_not_leave_each_others_blocks(monkeypatch):
    """One enters first and leaves first. The other's block keeps its threads, twins, memory, NumPy's buffer, and BLAS on one thread."""
    monkeypatch.setattr("mdps_ref.kernels.table.CORES", 8)
    turn = threading.Barrier(2, timeout=30)

    def state():
        blas = [library["num_threads"] for library in threads.single_threaded_blas.libraries()]
        return threads.LIMIT.get(), FORKS.get(), REPLACEMENTS.get(), POOL.get(), np.getbufsize(), blas

    def first():
        before = state()
        with fast(3):
            turn.wait()
            turn.wait()
        after = state()
        turn.wait()
        return before[:-1], after[:-1]

    def second():
        turn.wait()
        with fast(5, forks=False):
            both = state()
            turn.wait()
            turn.wait()
            return both, state()

    before = state()
    with ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(work) for work in (first, second)]
        (outside, left), (both, alone) = (task.result() for task in ended)
    assert left == outside and alone == both and state() == before
    assert both[:2] == (5, False) and set(both[-1]) <= {1}


BIASES = {"a number": (), "channels": (8,), "channels of each image": (2, 1, 1, 8), "a map": (2, None, None, 8)}


@pytest.mark.parametrize("size", [4, 32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", BIASES.values(), ids=BIASES)
def test_a_convolution_adds_whatever_it_is_given_as_the_plain_one_does(shape, dtype, size):
    x, w = (normal(shape, 0).astype(np.float32) for shape in ((2, size, size, 8), (3, 3, 8, 8)))
    b = np.asarray(normal([size if n is None else n for n in shape], 1), dtype)
    plain = conv2d(x, w, b)
    with fast(1):
        quick = conv2d(x, w, b)
    assert quick.dtype == plain.dtype
    np.testing.assert_allclose(quick, plain, rtol=1e-4, atol=1e-4)


ODD = {
    "a number is added": (ops.linear, [np.ones((5, 3)), np.ones((3, 2)), 1.0], {}),
    "a double 0 is added": (ops.linear, [np.ones((5, 3), np.float32), np.ones((3, 2), np.float32), np.float64(0)], {}),
    "doubles are added": (ops.linear, [np.ones((5, 3), np.float32), np.ones((3, 2), np.float32), np.ones(2)], {}),
    "a row is added": (ops.linear, [np.ones((5, 3)), np.ones((3, 2)), np.ones((1, 2))], {}),
    "a sum of bools": (ops.sum, [np.ones((4, 4, 3), bool)], {"axis": (0, 1)}),
    "a sum of bytes": (ops.sum, [np.full((20, 20, 3), 200, np.uint8)], {"axis": (0, 1)}),
    "a mean of integers": (ops.mean_pool2, [np.arange(16).reshape(1, 4, 4, 1)], {}),
    "a residual of doubles": (conv2d, [*(np.ones(s, np.float32) for s in ((1, 8, 8, 3), (3, 3, 3, 4), (4,))), np.ones((1, 8, 8, 4))], {}),
    "no images": (conv2d, [np.ones(s) for s in ((0, 8, 8, 3), (3, 3, 3, 4), (4,))], {}),
    "no images to add up": (ops.sum, [np.ones((0, 5, 4))], {"axis": (1,)}),
    "no images to normalise": (group_norm, [np.ones(s) for s in ((0, 4, 4, 8), (8,), (8,))], {"groups": 4}),
}


@pytest.mark.parametrize("op, args, static", ODD.values(), ids=ODD)
def test_fast_gives_the_plain_result_for_odd_arguments(op, args, static):
    plain = op(*args, **static)
    with fast(1):
        quick = op(*args, **static)
    assert quick.dtype == plain.dtype and quick.shape == plain.shape
    np.testing.assert_allclose(quick, plain, rtol=1e-6)


def test_a_readers_primitive_of_a_known_name_keeps_its_own_meaning():
    @primitive(lambda y, x, axis: lambda g: 3 * g)
    def sum(x, *, axis):
        return 3 * x

    x = normal((4, 5), 0)
    with fast():
        np.testing.assert_array_equal(sum(x, axis=(0,)), 3 * x)
        np.testing.assert_allclose(ops.sum(x, axis=(0,)), x.sum(axis=0))


@pytest.mark.parametrize("channels", [5, 261, 520])
def test_the_pullback_to_one_small_image_is_that_of_the_plain_form_however_its_channels_are_shared(channels):
    """From 129 channels on they are shared, and 261 not evenly."""
    rng = np.random.default_rng(channels)
    x, w, g = (rng.standard_normal(shape) for shape in ((1, 4, 5, channels), (3, 3, channels, 2), (1, 4, 5, 2)))
    expected = next(iter(conv2d(Tensor(x), w, np.zeros(2)).node.pullback(g)))
    np.testing.assert_allclose(convolution.direct_to_image(g, w), expected, atol=1e-12)


def test_a_masked_array_keeps_its_mask():
    x = np.ma.masked_array(np.ones((2, 4, 4, 3)), mask=False)
    x[..., 1] = np.ma.masked
    with fast():
        summed = ops.sum(x, axis=(0, 1, 2))
    np.testing.assert_array_equal(summed.mask, [False, True, False])
