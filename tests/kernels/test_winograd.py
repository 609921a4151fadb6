"""Winograd's form against direct summation: the same convolution, its rounding bounded, its pullbacks adjoint."""

import numpy as np
import pytest

from mdps_ref.autograd.conv import conv2d
from mdps_ref.autograd.tape import Tensor, pull_back
from mdps_ref.kernels import blocks, winograd
from mdps_ref.kernels.convolution import suits_winograd

SHAPES = [(1, 4, 4, 3, 2), (3, 8, 12, 2, 5), (1, 24, 260, 4, 3), (5, 16, 16, 8, 8), (2, 4, 516, 2, 2)]


def data(n, h, wide, c_in, c_out, seed=0):
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((n, h, wide, c_in)), rng.standard_normal((n, h, wide, c_out))
    return x.astype(np.float32), (rng.standard_normal((3, 3, c_in, c_out)) / (9 * c_in) ** 0.5).astype(np.float32), g.astype(np.float32)


def exact(x, w, g):
    """The convolution and its pullback to the kernel, plain, in float64."""
    tensor = Tensor(w.astype(float))
    y = conv2d(x.astype(float), tensor, 0.0)
    return y.value, pull_back(y, g.astype(float), [tensor])[0]


def by_winograd(x, w, g):
    """The same by Winograd's form."""
    return winograd.conv2d(x, w, np.zeros((1, 1, 1, w.shape[3]), np.float32)), winograd.to_kernel(x, g)


def test_its_matrices_convolve_one_tile_exactly():
    """In float64: A [(G w) * (B x)] is what three taps give on six numbers, for every x and w."""
    a, b, g = winograd._matrices()
    for x in np.eye(6):
        for w in np.eye(3):
            np.testing.assert_allclose(a @ ((g @ w) * (b @ x)), [x[i : i + 3] @ w for i in range(4)], atol=1e-14)


@pytest.mark.parametrize("band", [2**13, 60], ids=["one band", "many bands"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_convolution_in_any_bands(shape, band, monkeypatch):
    """In one band the output channels are split, here two by two."""
    monkeypatch.setattr(winograd, "BAND", band)
    monkeypatch.setattr(winograd, "COLUMNS", 2)
    arrays = data(*shape)
    for ours, plain in zip(by_winograd(*arrays), exact(*arrays), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5 * abs(plain).max())


@pytest.mark.parametrize("c", [32, 64, 256])
def test_its_rounding_is_a_few_millionths_of_the_largest_value(c):
    arrays = data(1, 32, 32, c, c)
    for ours, plain in zip(by_winograd(*arrays), exact(*arrays), strict=True):
        assert 1e-9 < abs(ours - plain).max() / abs(plain).max() < 4e-6


def test_the_kernels_pullback_is_summed_by_group_or_by_point(monkeypatch):
    """The shapes of these tests have both kinds."""
    taken = []

    def recorded(name, f):
        return lambda *args: taken.append(name) or f(*args)

    for name in ("_sums_by_group", "_sums_by_point"):
        monkeypatch.setattr(winograd, name, recorded(name, getattr(winograd, name)))
    for shape in SHAPES:
        by_winograd(*data(*shape))
    assert set(taken) == {"_sums_by_group", "_sums_by_point"}


def test_an_image_does_not_see_its_neighbours():
    """But for the rounding: some BLAS sum in another order if there are more rows, as OpenBLAS does with its kernels for Haswell."""
    x, w, g = data(5, 16, 16, 8, 8)
    alone = by_winograd(x[3:4], w, g[3:4])[0]
    x[:3], x[4] = np.inf, np.inf
    with np.errstate(invalid="ignore"):
        among_others = by_winograd(x, w, g)[0][3:4]
    np.testing.assert_allclose(among_others, alone, atol=2e-6 * abs(alone).max())


@pytest.mark.parametrize("channels", [(3, 4), (40, 30)], ids=["by group", "by point"])
def test_a_last_band_that_is_shorter_reads_nothing_stale(channels, monkeypatch):
    """Fresh memory may hold anything; here it holds infinity, of which a product that meets it warns."""
    arrays = data(3, 12, 16, *channels)
    monkeypatch.setattr(winograd, "BAND", 2 * 4 * max(channels))  # two rows of tiles a band: the third of each image is alone in its own
    expected = by_winograd(*arrays)
    for module in (winograd, blocks):
        monkeypatch.setattr(module, "empty", lambda shape, dtype: np.full(shape, np.inf, dtype))
    monkeypatch.setattr(winograd, "in_threads", lambda work, parts, _: work(reversed(parts)))  # a thread may begin with the short one
    for ours, first in zip(by_winograd(*arrays), expected, strict=True):
        np.testing.assert_array_equal(ours, first)


@pytest.mark.parametrize(
    "shape, c_out, suits",
    [
        ((1, 16, 16, 128), 128, True),
        ((4, 8, 8, 64), 64, True),
        ((1, 32, 32, 256), 256, True),
        ((1, 16, 16, 256), 256, False),
        ((1, 8, 8, 64), 64, False),
        ((1, 18, 16, 8), 8, False),
    ],
    ids=["enough pixels", "in a batch", "of many channels, too", "too many channels", "too few pixels", "no whole tiles"],
)
def test_it_is_chosen_by_shape_and_dtype(shape, c_out, suits):
    x, w = np.zeros(shape, np.float32), np.zeros((3, 3, shape[3], c_out), np.float32)
    assert suits_winograd(x, w, 0.0) == suits
    assert not suits_winograd(x, np.zeros((5, 5, shape[3], c_out), np.float32), 0.0)
    assert not suits_winograd(x.astype(float), w.astype(float), 0.0) and not suits_winograd(x, w, 0.0, stride=2)
