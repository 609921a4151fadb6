"""E09, E13: the exact p(x_0 | y) of a Gaussian world, checked by independent means, and how far the MDPS chain is from it."""

import math

import numpy as np
import pytest
from gaussian_world import GaussianWorld

from mdps_ref.diffusion.schedule import visited_timesteps
from mdps_ref.posterior.observation import MaskedObservation
from mdps_ref.posterior.sampler import mdps_chain, prior_denoiser

pytestmark = pytest.mark.equation("E09", "E13")

WORLD = GaussianWorld((2, 2, 2))
MASK = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])  # two of the four pixels, both channels
ONES, SUSPECTED = np.ones(8), MASK == 1


def observed(count, sigma, mask=MASK, world=WORLD, seed=5):
    """Clean images, and y drawn from them by the library's Eq. (7). For sigma inf y says nothing on m = 1, so any noise will do."""
    rng = np.random.default_rng(seed)
    x_0 = rng.multivariate_normal(world.mean, world.covariance, count)
    noise = rng.standard_normal(x_0.shape)
    observation = MaskedObservation(mask.reshape(1, -1, 1, 1), min(sigma, 1.0))
    return x_0, observation.sample(x_0[:, :, None, None], noise[:, :, None, None])[:, :, 0, 0]


def mdps_gap(sigma, weight, stride, mask=MASK, start=999):
    _, y = observed(200, sigma, mask)
    return WORLD.gap(WORLD.chain_moments(y, mask, visited_timesteps(start, stride), weight), y, mask, sigma)


def exact_chain_gap(sigma, stride, noise_map=WORLD.exact_noise_map):
    _, y = observed(200, sigma)
    moments = WORLD.carried(y, visited_timesteps(999, stride), lambda t: noise_map(t, y, MASK, sigma))
    return WORLD.gap(moments, y, MASK, sigma)


# The posterior.


@pytest.mark.parametrize("sigma", [0.1, 1.0, math.inf])
def test_the_posterior_is_that_of_precision_matrices(sigma):
    """On m = 1 precisions add: the prior's block there, which is that of its conditional given m = 0, and 1 / sigma^2."""
    _, y = observed(3, sigma)
    precision = np.linalg.inv(WORLD.covariance)
    uu, uo = precision[np.ix_(SUSPECTED, SUSPECTED)], precision[np.ix_(SUSPECTED, ~SUSPECTED)]
    told = np.eye(4) / sigma**2
    mean, covariance = WORLD.exact_posterior(y, MASK, sigma)
    np.testing.assert_allclose(covariance[np.ix_(SUSPECTED, SUSPECTED)], np.linalg.inv(uu + told), rtol=1e-9)
    natural = WORLD.mean[SUSPECTED] @ uu - (y - WORLD.mean)[:, ~SUSPECTED] @ uo.T + y[:, SUSPECTED] @ told
    np.testing.assert_allclose(mean[:, SUSPECTED], natural @ np.linalg.inv(uu + told), rtol=1e-9)
    np.testing.assert_allclose(mean[:, ~SUSPECTED], y[:, ~SUSPECTED], rtol=1e-12)
    np.testing.assert_allclose(covariance[~SUSPECTED], 0, atol=1e-12)


def test_its_limits():
    _, y = observed(2, 1.0)
    for mask, sigma in [(MASK, 0.0), (MASK, 1e-6), (0 * MASK, 0.5), (0 * MASK, math.inf)]:
        mean, covariance = WORLD.exact_posterior(y, mask, sigma)
        np.testing.assert_allclose(mean, y, atol=1e-9)
        np.testing.assert_allclose(covariance, 0, atol=1e-11)
    for a, b in zip(WORLD.exact_posterior(y, MASK, 1e5), WORLD.exact_posterior(y, MASK, math.inf), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)
    mean, covariance = WORLD.exact_posterior(y, ONES, math.inf)
    np.testing.assert_array_equal(mean, np.stack([WORLD.mean] * 2))
    np.testing.assert_array_equal(covariance, WORLD.covariance)


@pytest.mark.parametrize("sigma", [0.3, 1.0, math.inf])
def test_its_ninety_percent_intervals_hold_the_clean_image_ninety_times_in_a_hundred(sigma):
    x_0, y = observed(20_000, sigma)
    mean, covariance = WORLD.exact_posterior(y, MASK, sigma)
    z = (x_0 - mean)[:, SUSPECTED] / np.sqrt(np.diag(covariance)[SUSPECTED])
    np.testing.assert_allclose((abs(z) < 1.6448536).mean(axis=0), 0.9, atol=0.009)  # four deviations of 20,000 draws


# The measure of the gap.


def test_the_posterior_has_no_gap_to_itself():
    _, y = observed(50, 0.5)
    gap = WORLD.gap(WORLD.exact_posterior(y, MASK, 0.5), y, MASK, 0.5)
    np.testing.assert_allclose([gap.bias, gap.variance_ratio, gap.caught, gap.covers], [0, 1, 0.9, 0.9], atol=1e-12)
    assert gap.error_of_mean(4) == pytest.approx(0.5)


def test_the_gap_is_what_samples_show():
    _, y = observed(1, 1.0)
    moments, exact = WORLD.chain_moments(y, MASK, visited_timesteps(400, 50), 2.0), WORLD.exact_posterior(y, MASK, 1.0)
    gap = WORLD.gap(moments, y, MASK, 1.0)
    rng = np.random.default_rng(1)
    ours, theirs = (rng.multivariate_normal(m[0], c, 200_000, method="eigh")[:, SUSPECTED] for m, c in (moments, exact))

    def share(of, intervals_of):
        low, high = np.quantile(intervals_of, [0.05, 0.95], axis=0)
        return ((of > low) & (of < high)).mean()

    assert share(ours, theirs) == pytest.approx(gap.caught, abs=0.005)
    assert share(theirs, ours) == pytest.approx(gap.covers, abs=0.005)
    assert ours.var(axis=0).mean() / theirs.var(axis=0).mean() == pytest.approx(gap.variance_ratio, rel=0.02)
    assert ((ours.std(axis=0) / theirs.std(axis=0)) ** 2).mean() == pytest.approx(gap.own_spread, rel=0.02)
    means = ours.reshape(-1, 8, 4).mean(axis=1)
    error = np.sqrt((((means - exact[0][0, SUSPECTED]) / theirs.std(axis=0)) ** 2).mean())
    assert error == pytest.approx(gap.error_of_mean(8), rel=0.02)


# Chains.


@pytest.mark.parametrize("sigma", [0.3, 1.0, math.inf])
def test_with_the_noise_that_knows_y_the_gap_goes_to_zero_with_the_stride(sigma):
    """The mean is right at every stride; DDIM's variance leaves out Cov[x_0 | x_t], and less of it the shorter the step."""
    gaps = [exact_chain_gap(sigma, stride) for stride in (100, 20, 5, 1)]
    assert max(gap.bias for gap in gaps) < 0.001
    missing = [1 - gap.variance_ratio for gap in gaps]
    assert missing == sorted(missing, reverse=True) and 0 < missing[-1] < 0.03 and missing[0] > 0.4
    assert [gaps[-1].caught, gaps[-1].covers] == pytest.approx([0.9, 0.9], abs=0.006)


def test_the_librarys_chain_with_that_noise_is_the_one_measured():
    y, timesteps = observed(1, 0.5)[1], visited_timesteps(999, 200)

    def predict_noise(x_t, t):
        matrix, offset = WORLD.exact_noise_map(int(t[0]), y, MASK, 0.5)
        return (x_t.reshape(-1, 8) @ matrix.T + offset).reshape(x_t.shape)

    shaped = y.reshape(1, 2, 2, 2)
    denoise = prior_denoiser(predict_noise)
    mean, covariance = WORLD.moments_of(lambda draw: mdps_chain(denoise, shaped, None, 999, timesteps, draw), len(timesteps))
    by_hand = WORLD.carried(y, timesteps, lambda t: WORLD.exact_noise_map(t, y, MASK, 0.5))
    np.testing.assert_allclose(mean, by_hand[0][0], atol=1e-9)
    np.testing.assert_allclose(covariance, by_hand[1], atol=1e-9)


@pytest.mark.parametrize("sigma", [0.3, 1.0, math.inf])
@pytest.mark.parametrize("mask", [MASK, ONES], ids=["mask", "no mask"])
def test_a_likelihood_that_keeps_the_variance_of_the_estimate_gives_that_noise(mask, sigma):
    """grad log N(y; x0_hat, Cov[x_0 | x_t] + R), R = sigma^2 on m = 1 and 0 on m = 0, holds Eq. (10) and what m = 0 says about m = 1."""
    _, y = observed(3, sigma, mask)
    for t in (0, 20, 300, 999):
        expected = WORLD.exact_noise_map(t, y, mask, sigma)
        for ours, exact in zip(WORLD.moment_matched_noise_map(t, y, mask, sigma), expected, strict=True):
            np.testing.assert_allclose(ours, exact, atol=1e-7)
    assert exact_chain_gap(sigma, 20, WORLD.moment_matched_noise_map).bias < 0.001


def test_where_y_says_nothing_mdps_is_exact():
    """All suspected, sigma infinite, weight 0: a chain of the prior, and the prior is the posterior."""
    gap = mdps_gap(math.inf, 0.0, 1, mask=ONES)
    assert gap.bias < 0.01 and gap.variance_ratio == pytest.approx(1, abs=0.02) and gap.covers == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize("sigma", [0.3, 1.0, math.inf])
def test_mdps_keeps_its_gap_however_short_the_steps(sigma):
    """At weight 1 / (2 sigma^2), Bayes' own, the gap is that of the approximation and not of the steps: stride 5 and 1 agree."""
    fine, finest = (mdps_gap(sigma, 1 / (2 * sigma**2), stride) for stride in (5, 1))
    assert finest.bias > 0.3
    assert finest.bias == pytest.approx(fine.bias, rel=0.02)
    assert abs(finest.caught - 0.9) > 0.03


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_no_weight_closes_the_gap(sigma):
    """Some weight has a variance ratio of 1; it is another than the one of least bias, and that bias is not small."""
    weights = np.array([0, 0.1, 0.3, 1, 2, 3, 5, 10, 20]) / (10 * sigma**2)
    gaps = [mdps_gap(sigma, weight, 5) for weight in weights]
    ratios = [gap.variance_ratio for gap in gaps]
    assert ratios == sorted(ratios, reverse=True) and ratios[0] > 1.5 and ratios[-1] < 0.7
    assert min(gap.bias for gap in gaps) > 0.2


def test_without_a_mask_bayes_own_weight_is_too_narrow():
    """m = 1 everywhere: what is left of the gap is what DPS drops, Cov[x_0 | x_t], so y is trusted too much."""
    gap = mdps_gap(0.3, 1 / (2 * 0.3**2), 1, mask=ONES)
    assert gap.variance_ratio < 0.8 and gap.covers < 0.85


def test_without_guidance_suspected_pixels_know_normal_ones_too_little():
    """Weight 0, sigma infinite: they see the normal pixels through x_t alone, so they are too wide, and drawn to the prior's mean."""
    _, y = observed(200, math.inf)
    ours, covariance = WORLD.chain_moments(y, MASK, visited_timesteps(999, 5), 0.0)
    exact, exact_covariance = WORLD.exact_posterior(y, MASK, math.inf)
    assert np.trace(covariance) > 1.2 * np.trace(exact_covariance)
    centred = [(mean - WORLD.mean)[:, SUSPECTED].ravel() for mean in (ours, exact)]
    assert 0.3 < centred[0] @ centred[1] / (centred[1] @ centred[1]) < 0.9


def test_more_samples_do_not_average_the_bias_away():
    gap = mdps_gap(math.inf, 0.0, 5)
    errors = [gap.error_of_mean(n) for n in (1, 4, 16, 10**6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1.2 and errors[2] < 1.2 * gap.bias and errors[3] == pytest.approx(gap.bias, rel=1e-4)
