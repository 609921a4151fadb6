"""Winograd's form against direct summation: the same convolution, its rounding bounded, its pullbacks adjoint."""

import numpy as np
import pytest

from mdps_ref.autograd import conv
from mdps_ref.kernels import blocks as blas
from mdps_ref.kernels import winograd
from mdps_ref.autograd.tape import Tensor, pull_back

SHAPES = [(1, 4, 4, 3, 2), (3, 8, 12, 2, 5), (1, 24, 260, 4, 3), (5, 16, 16, 8, 8), (2, 4, 516, 2, 2)]


@pytest.fixture
def always(monkeypatch):
    """Winograd's form for every shape it can take."""
    monkeypatch.setattr(conv, "LARGE", 0)
    monkeypatch.setattr(conv, "LARGE_FOR_KERNEL", 0)


def data(n, h, wide, c_in, c_out, seed=0):
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((n, h, wide, c_in)), rng.standard_normal((n, h, wide, c_out))
    return x.astype(np.float32), (rng.standard_normal((3, 3, c_in, c_out)) / (9 * c_in) ** 0.5).astype(np.float32), g.astype(np.float32)


def direct(x, w):
    """The convolution in float64, which takes the direct path."""
    return conv.convolve(x.astype(float), w.astype(float))


def test_its_matrices_convolve_one_tile_exactly():
    """In float64: A [(G w) * (B x)] is what three taps give on six numbers, for every x and w."""
    a, b, g = winograd._matrices()
    for x in np.eye(6):
        for w in np.eye(3):
            np.testing.assert_allclose(a @ ((g @ w) * (b @ x)), [x[i : i + 3] @ w for i in range(4)], atol=1e-14)


@pytest.fixture(params=[2**13, 60], ids=["one band", "many bands"])
def band(request, monkeypatch):
    """As many tiles in a band as may be, whose output channels are then split, here two by two; or as few."""
    monkeypatch.setattr(winograd, "BAND", request.param)
    monkeypatch.setattr(winograd, "COLUMNS", 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_convolution(shape, always, band):
    x, w, onto = data(*shape)
    b = np.arange(shape[0] * shape[-1], dtype=np.float32).reshape(shape[0], 1, 1, -1)
    np.testing.assert_allclose(conv.conv2d(x, w, b, onto), direct(x, w) + b + onto, atol=1e-5 * b.max())


@pytest.mark.parametrize("c", [32, 64, 256])
def test_its_rounding_is_a_few_millionths_of_the_largest_value(c, always):
    x, w, g = data(1, 32, 32, c, c)
    exact = direct(x, w)
    assert 1e-9 < abs(conv.convolve(x, w) - exact).max() / abs(exact).max() < 4e-6
    exact = conv.kernel_products(x.astype(float), g.astype(float), 3)
    assert 1e-9 < abs(conv.kernel_products(x, g, 3) - exact).max() / abs(exact).max() < 4e-6


def test_float64_and_odd_sizes_take_the_exact_path(always, monkeypatch):
    def refuse(*_):
        raise AssertionError("Winograd's form was taken")

    monkeypatch.setattr(winograd, "convolve", refuse)
    monkeypatch.setattr(winograd, "kernel_pullback", refuse)
    x, w, g = data(1, 8, 8, 2, 2)
    for dtype, part in ((float, ...), (np.float32, np.s_[:, :7]), (np.float32, np.s_[:, :, :6])):
        conv.convolve(x[part].astype(dtype), w.astype(dtype))
        conv.kernel_products(x[part].astype(dtype), g[part].astype(dtype), 3)
    with pytest.raises(AssertionError):
        conv.convolve(x, w)


def test_the_kernels_pullback_is_summed_by_group_or_by_point(always, monkeypatch):
    """The shapes of these tests have both kinds."""
    taken = []

    def recorded(name, f):
        return lambda *args: taken.append(name) or f(*args)

    for name in ("_sums_by_group", "_sums_by_point"):
        monkeypatch.setattr(winograd, name, recorded(name, getattr(winograd, name)))
    for shape in SHAPES:
        x, _, g = data(*shape)
        conv.kernel_products(x, g, 3)
    assert set(taken) == {"_sums_by_group", "_sums_by_point"}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_pullbacks_are_the_direct_ones(shape, always, band):
    x, w, g = data(*shape)
    ours = pull_back(conv.conv2d(*(tensors := [Tensor(x), Tensor(w), Tensor(np.zeros(shape[-1], np.float32))])), g, tensors)
    exact = [Tensor(a.value.astype(float)) for a in tensors]
    theirs = pull_back(conv.conv2d(*exact), g.astype(float), exact)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * abs(b).max())


def test_an_image_does_not_see_its_neighbours(always):
    """But for the rounding: some BLAS sum in another order if there are more rows, as OpenBLAS does with its kernels for Haswell."""
    x, w, _ = data(5, 16, 16, 8, 8)
    alone = conv.convolve(x[3:4], w)
    x[:3], x[4] = np.inf, np.inf
    with np.errstate(invalid="ignore"):
        among_others = conv.convolve(x, w)[3:4]
    np.testing.assert_allclose(among_others, alone, atol=2e-6 * abs(alone).max())


@pytest.mark.parametrize("channels", [(3, 4), (40, 30)], ids=["by group", "by point"])
def test_a_last_band_that_is_shorter_reads_nothing_stale(channels, always, monkeypatch):
    """Fresh memory may hold anything; here it holds infinity, of which a product that meets it warns."""

    def spoilt(shape, dtype, xp=np):
        return np.full(shape, np.inf, dtype)

    x, w, g = data(3, 12, 16, *channels)
    monkeypatch.setattr(winograd, "BAND", 2 * 4 * max(channels))  # two rows of tiles a band: the third of each image is alone in its own
    expected = conv.convolve(x, w), conv.kernel_products(x, g, 3)
    monkeypatch.setattr(winograd, "empty", spoilt)
    monkeypatch.setattr(blas, "empty", spoilt)
    monkeypatch.setattr(winograd, "in_threads", lambda work, parts, _: work(reversed(parts)))  # a thread may begin with the short one
    np.testing.assert_array_equal(conv.convolve(x, w), expected[0])
    np.testing.assert_array_equal(conv.kernel_products(x, g, 3), expected[1])
