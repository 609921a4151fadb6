"""E15-E18: the maps, against examples by hand, twins in loops, and invariances."""

import numpy as np
import pytest
from scipy import ndimage

from mdps_ref.check import maps as oracles
from mdps_ref.scoring.difference import (
    TAIL_SHARES,
    absolute_difference,
    anomaly_map,
    cosine_similarity,
    difference_map,
    feature_map,
    fuse,
    pixel_map,
    smooth,
    surprisal,
    tail_of,
)
from mdps_ref.scoring.filters import along_both_axes, bilinear_matrix, gaussian_matrix, mean3_matrix


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


@pytest.mark.equation("E15")
def test_a_two_by_two_pixel_map_by_hand():
    y = np.zeros((1, 2, 2, 3))
    x_0 = y.copy()
    x_0[0, 0, 1] = [0.2, 0, 0]  # 0.1 in [0, 1], 0.1 / 0.229 normalised, a third of that as the mean over channels
    x_0[0, 1, 0] = [-0.2, -0.2, -0.2]
    expected = [[0, 0.1 / 0.229 / 3], [0.1 * (1 / 0.229 + 1 / 0.224 + 1 / 0.225) / 3, 0]]
    np.testing.assert_allclose(pixel_map(x_0, y)[0], expected, rtol=1e-12)


@pytest.mark.equation("E15")
def test_the_pixel_map_is_a_distance():
    a, b, c = uniform(2, 4, 4, 3), uniform(2, 4, 4, 3, seed=1), uniform(2, 4, 4, 3, seed=2)
    np.testing.assert_array_equal(pixel_map(a, a), 0)
    np.testing.assert_allclose(pixel_map(a, b), pixel_map(b, a))
    assert (pixel_map(a, c) <= pixel_map(a, b) + pixel_map(b, c) + 1e-12).all()
    np.testing.assert_allclose(absolute_difference(a, b), np.mean([abs(a - b)[..., k] for k in range(3)], axis=0))


@pytest.mark.equation("E16")
def test_the_feature_map_is_its_twin():
    oracles.feature_map_in_loops(feature_map)


@pytest.mark.equation("E16")
def test_equal_images_have_no_feature_distance_and_a_scaled_feature_is_the_same():
    features = [uniform(1, 4, 4, 5).astype(np.float32)]
    np.testing.assert_array_equal(feature_map(features, features, (8, 8)), 0)
    other = [uniform(1, 4, 4, 5, seed=1)]
    np.testing.assert_allclose(
        feature_map([3 * features[0].astype(float)], other, (8, 8)), feature_map([features[0].astype(float)], other, (8, 8)), rtol=1e-9
    )
    np.testing.assert_array_equal(feature_map([np.zeros((1, 2, 2, 3))], [np.zeros((1, 2, 2, 3))], (4, 4)), 0)


def test_the_cosine_of_known_angles():
    oracles.angles(cosine_similarity)


@pytest.mark.equation("E17")
def test_the_pixel_part_reaches_its_weight_times_the_largest_feature():
    oracles.pixels_reach_their_weight(fuse)
    pixels, features = abs(uniform(2, 4, 4)), abs(uniform(2, 4, 4, seed=1))
    np.testing.assert_allclose(fuse(100 * pixels, features, 3.0), fuse(pixels, features, 3.0), rtol=1e-12)


@pytest.mark.equation("E17")
def test_an_image_is_fused_alone():
    pixels, features = abs(uniform(3, 4, 4)), abs(uniform(3, 4, 4, seed=1))
    np.testing.assert_array_equal(fuse(pixels, features, 7.0)[1:2], fuse(pixels[1:2], features[1:2], 7.0))


@pytest.mark.equation("E18")
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_smoothing_is_a_gaussian_with_a_mirrored_border(sigma):
    maps = uniform(2, 20, 17)
    expected = np.stack([ndimage.gaussian_filter(m, sigma, mode="mirror", truncate=4.0) for m in maps])
    np.testing.assert_allclose(smooth(maps, sigma), expected, atol=1e-12)


@pytest.mark.equation("E18")
def test_smoothing_is_its_twin():
    oracles.smooth_in_loops(smooth)


@pytest.mark.equation("E18")
@pytest.mark.parametrize("size, sigma", [(8, 1.0), (3, 4.0), (1, 2.0), (16, 0.0)])
def test_a_constant_map_stays_and_no_smoothing_is_none(size, sigma):
    np.testing.assert_allclose(smooth(np.full((1, size, size), 0.7), sigma), 0.7, rtol=1e-12)
    if sigma == 0:
        np.testing.assert_array_equal(smooth(uniform(1, size, size), 0.0), uniform(1, size, size))


def test_the_matrices():
    np.testing.assert_allclose(gaussian_matrix(9, 1.5).sum(axis=1), 1)
    np.testing.assert_allclose(bilinear_matrix(3, 5) @ [0, 1, 2], [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(mean3_matrix(3) @ [3, 6, 9], [3, 6, 5])
    np.testing.assert_allclose(bilinear_matrix(1, 4), 1)


def test_a_matrix_along_each_axis():
    x, rows, columns = uniform(2, 3, 4, 5), uniform(6, 3), uniform(7, 4)
    np.testing.assert_allclose(along_both_axes(x, rows, columns), np.einsum("rh,nhwc,kw->nrkc", rows, x, columns), atol=1e-12)


@pytest.mark.equation("E17", "E18")
def test_the_anomaly_map_of_equal_images_is_zero_and_shows_where_they_differ():
    y = uniform(1, 16, 16, 3).astype(np.float32)
    features = lambda images: [images[:, ::2, ::2]]  # noqa: E731
    np.testing.assert_array_equal(difference_map(y, y, features, pixel_weight=7.0, sigma=1.0), 0)
    x_0 = y.copy()
    x_0[0, 4:6, 10:12] *= -1
    peak = np.unravel_index(difference_map(x_0, y, features, pixel_weight=7.0, sigma=1.0)[0].argmax(), (16, 16))
    assert 3 <= peak[0] <= 6 and 9 <= peak[1] <= 12


def test_the_surprisal_of_an_exponential_distribution_is_a_straight_line():
    """Where P(X > x) = exp(-x / scale), minus its logarithm is x / scale, between the quantiles and beyond them."""
    scale, count = 0.3, 10**6
    values = -scale * np.log((np.arange(count) + 0.5) / count)
    x = np.linspace(0, 5, 501)
    np.testing.assert_allclose(surprisal(x, tail_of(values)), x / scale, rtol=2e-3)


def test_the_surprisal_is_minus_the_logarithm_of_the_share_of_good_pixels_above():
    values = abs(uniform(20000, seed=3)) ** 3
    tail = tail_of(values)
    above = [(values > quantile).mean() for quantile in tail[:-1]]
    np.testing.assert_allclose(above, TAIL_SHARES, atol=1e-4)
    np.testing.assert_allclose(surprisal(tail[:-1], tail), -np.log(TAIL_SHARES))
    assert tail[-1] == pytest.approx(values[values > tail[-2]].mean() - tail[-2])


def test_surprisal_rises_from_0_and_has_no_unit():
    values, x = abs(uniform(500)), np.linspace(0, 3, 1000)
    at = surprisal(x, tail_of(values))
    assert at[0] == 0 and (np.diff(at) > 0).all()
    np.testing.assert_allclose(surprisal(7 * x, tail_of(7 * values)), at)


@pytest.mark.parametrize("values", [np.zeros(9), np.ones(9), np.r_[np.zeros(999), 1], [0.2]], ids=["zeros", "ones", "one", "single"])
def test_a_tail_of_few_different_values_ascends_and_gives_finite_surprisals(values):
    tail = tail_of(values)
    assert (np.diff([0, *tail[:-1]]) > 0).all() and tail[-1] > 0
    assert np.isfinite(surprisal(np.linspace(0, 2, 50), tail)).all() and surprisal(np.zeros(1), tail) == 0


def test_the_tail_of_few_values_is_that_of_their_distribution():
    """With one value beyond the last quantile the mean excess is luck: here that value is 0.001 or 100 beyond."""
    values = -np.log((np.arange(500) + 0.5) / 500)
    for largest in (0.001, 100):
        tail = tail_of(np.append(np.sort(values)[:-1], np.sort(values)[-2] + largest))
        assert tail[-1] == pytest.approx((tail[-2] - tail[5]) / np.log(10))


def test_one_hot_pixel_moves_no_quantile():
    values = -np.log((np.arange(20_000) + 0.5) / 20_000)
    np.testing.assert_allclose(tail_of(np.append(values, 1e6))[:-1], tail_of(values)[:-1], rtol=0.01)


def test_with_tails_layers_and_pixels_count_alike_whatever_their_units():
    pixels, *layers = (abs(uniform(3, 9, 7, seed=seed)) for seed in range(3))
    settings = {"pixel_weight": 0.5, "sigma": 1.0}
    tails = [tail_of(smooth(part, 1.0)) for part in (*layers, pixels)]
    *of_layers, of_pixels = (surprisal(smooth(part, 1.0), tail) for part, tail in zip((*layers, pixels), tails, strict=True))
    maps = anomaly_map(pixels, layers, **settings, tails=tails)
    np.testing.assert_allclose(maps, (of_layers[0] + of_layers[1] + of_pixels) / 2)
    tails = [10 * tails[0], tails[1], 0.1 * tails[2]]
    np.testing.assert_allclose(anomaly_map(0.1 * pixels, [10 * layers[0], layers[1]], **settings, tails=tails), maps)
    assert (anomaly_map(0 * pixels, [0 * layer for layer in layers], **settings, tails=tails) == 0).all()


ALONE = {
    "absolute_difference": absolute_difference,
    "pixel_map": pixel_map,
    "feature_map": lambda x, y: feature_map([x[:, ::2, ::2], x], [y[:, ::2, ::2], y], y.shape[1:3]),
    "smooth": lambda x, y: smooth(x[..., 0], 1.3),
    "difference_map": lambda x, y: difference_map(x, y, lambda images: [images[:, ::2, ::2]], pixel_weight=0.5, sigma=1.0),
}


@pytest.mark.equation("E15", "E16", "E17", "E18")
@pytest.mark.parametrize("f", ALONE.values(), ids=ALONE)
def test_a_map_knows_nothing_of_the_other_images(f):
    x, y = uniform(3, 8, 8, 3), uniform(3, 8, 8, 3, seed=1)
    together, order = f(x, y), [2, 0, 1]
    np.testing.assert_allclose(f(x[order], y[order]), together[order], rtol=1e-12, atol=1e-14)
    for i in range(3):
        np.testing.assert_allclose(f(x[i : i + 1], y[i : i + 1])[0], together[i], rtol=1e-12, atol=1e-14)
