"""E19, E20: one number an image, and the mean and spread of n maps."""

import functools

import numpy as np
import pytest

from mdps_ref.check import maps as oracles
from mdps_ref.scoring.image_score import (
    IMAGE_SCORES,
    maximum,
    mean_and_spread,
    one_percent,
    pooled_mean_and_spread,
    softmax_top_k,
    top_k_mean,
)

MAPS = np.random.default_rng(0).random((3, 8, 8))


@pytest.mark.equation("E19")
def test_scores_by_their_definitions():
    oracles.softmax_in_loops(softmax_top_k)
    oracles.highest_in_loops(top_k_mean)
    oracles.largest_entry(maximum)


@pytest.mark.equation("E19")
def test_softmax_top_k_cannot_see_an_image_that_is_bad_all_over():
    np.testing.assert_allclose(softmax_top_k(MAPS + 1000, 5), softmax_top_k(MAPS, 5), rtol=1e-9)
    assert (top_k_mean(MAPS + 1000, 5) > 1000).all() and (maximum(MAPS + 1000) > 1000).all()


@pytest.mark.equation("E19")
def test_the_limits_of_k():
    np.testing.assert_allclose(softmax_top_k(MAPS, 64), 1)
    np.testing.assert_array_equal(top_k_mean(MAPS, 1), maximum(MAPS))
    np.testing.assert_allclose(top_k_mean(MAPS, 64), MAPS.mean(axis=(1, 2)))
    assert (one_percent(MAPS), one_percent(np.zeros((1, 224, 224)))) == (1, 502)


@pytest.mark.equation("E19")
@pytest.mark.parametrize("score", IMAGE_SCORES.values(), ids=IMAGE_SCORES)
def test_an_image_is_scored_alone_and_where_its_pixels_lie_is_nothing(score):
    together = score(MAPS)
    for i in range(3):
        assert score(MAPS[i : i + 1])[0] == together[i]
    np.testing.assert_allclose(score(MAPS[:, ::-1].swapaxes(1, 2)), together, rtol=1e-12)


@pytest.mark.equation("E20")
def test_mean_and_spread():
    maps = np.random.default_rng(1).random((2, 5, 4, 4))
    oracles.moments(mean_and_spread)
    mean, spread = mean_and_spread(maps)
    doubled_mean, doubled_spread = mean_and_spread(2 * maps + 1)
    np.testing.assert_allclose(doubled_mean, 2 * mean + 1)
    np.testing.assert_allclose(doubled_spread, 2 * spread)
    np.testing.assert_array_equal(mean_and_spread(np.ones((1, 3, 2, 2)))[1], 0)


@pytest.mark.equation("E20")
@pytest.mark.parametrize("sizes", [(5,), (1, 4), (2, 2, 1)], ids=str)
def test_groups_of_samples_together_have_the_mean_and_spread_of_all(sizes):
    maps = np.random.default_rng(1).random((2, 5, 4, 4))
    groups = [(group.shape[1], *mean_and_spread(group)) for group in np.split(maps, np.cumsum(sizes)[:-1], axis=1)]
    count, *found = functools.reduce(pooled_mean_and_spread, groups)
    assert count == 5
    np.testing.assert_allclose(found, mean_and_spread(maps), rtol=1e-12)
