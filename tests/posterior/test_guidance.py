"""E08-E12: the observation, the posterior score, the misfit's pullback, and the two noises."""

import math

import numpy as np
import pytest
from helpers import normal

from mdps_ref.diffusion.reverse import tweedie
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.nn.unet import UNetConfig, init_unet, unet
from mdps_ref.posterior.guidance import (
    guided_noise,
    misfit_gradient,
    noise_towards,
    norm_guide,
    posterior_score,
    squared_norm_guide,
    twice_residual,
    unit_residual,
)
from mdps_ref.posterior.observation import MaskedObservation

CONFIG = UNetConfig(image_size=4, base_channels=4, multipliers=(1, 2), attention_sizes=(2,), heads=2, groups=2)
WEIGHTS = {
    name: w + 0.3 * np.random.default_rng(i).standard_normal(w.shape)
    for i, (name, w) in enumerate(init_unet(CONFIG, dtype=np.float64).items())
}


def predict(x, t):
    return unet(WEIGHTS, x, t, CONFIG)


@pytest.mark.equation("E08")
def test_an_empty_mask_observes_the_image_and_a_full_one_adds_noise_everywhere():
    x_0, n = normal(2, 3, 3, 2), normal(2, 3, 3, 2, seed=1)
    np.testing.assert_array_equal(MaskedObservation(np.zeros((2, 3, 3, 1)), 0.5).sample(x_0, n), x_0)
    np.testing.assert_allclose(MaskedObservation(np.ones((2, 3, 3, 1)), 0.5).sample(x_0, n), x_0 + 0.5 * n)


@pytest.mark.equation("E08")
def test_its_moments():
    mask = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    y = MaskedObservation(mask, 0.5).sample(np.full((20_000, 1, 2, 1), 0.3), normal(20_000, 1, 2, 1))[:, 0, :, 0]
    np.testing.assert_allclose(y.mean(axis=0), 0.3, atol=5 * 0.5 / 20_000**0.5)
    np.testing.assert_allclose(y.std(axis=0), [0.5, 0.0], atol=0.02)


@pytest.mark.equation("E08")
def test_its_likelihood_is_a_density_and_knows_what_cannot_be():
    observation = MaskedObservation(np.array([1.0, 0.0]).reshape(1, 1, 2, 1), 0.4)
    grid = np.linspace(-6, 6, 4001)
    y = np.stack([grid, np.full_like(grid, 0.2)], axis=1).reshape(-1, 1, 2, 1)
    x_0 = np.tile(np.array([0.1, 0.2]).reshape(1, 1, 2, 1), (len(grid), 1, 1, 1))
    density = np.exp(observation.log_likelihood(y, x_0))
    assert np.trapezoid(density, grid) == pytest.approx(1, rel=1e-10)
    assert observation.log_likelihood(y[:1] + 1e-9, x_0[:1]) == -math.inf


@pytest.mark.equation("E08")
def test_its_score_is_the_slope_of_its_likelihood():
    mask, x_0, y, h = (normal(2, 3, 3, 1) > 0).astype(float), normal(2, 3, 3, 2), normal(2, 3, 3, 2, seed=1), 1e-6
    y = mask * y + (1 - mask) * x_0
    observation = MaskedObservation(mask, 0.7)
    step = mask * normal(2, 3, 3, 2, seed=2)
    slope = (observation.log_likelihood(y, x_0 + h * step) - observation.log_likelihood(y, x_0 - h * step)) / (2 * h)
    np.testing.assert_allclose(slope, (observation.score(y, x_0) * step).sum(axis=(1, 2, 3)), rtol=1e-6)


@pytest.mark.equation("E09")
def test_the_posterior_score_is_that_of_bayes_in_a_gaussian_world():
    """One pixel, x_t ~ N(0, 1) and y = x0_hat(x_t) + sigma n with x0_hat = k x_t: p(x_t | y) is Gaussian in closed form."""
    level, sigma, k, y, x_t = 0.6, 0.5, 1.3, 0.4, normal(7)
    eps = (1 - level) ** 0.5 * x_t  # the score of N(0, 1) is -x_t
    gradient = 2 * k * (k * x_t - y)
    precision = 1 + k**2 / sigma**2
    exact = -precision * (x_t - k * y / sigma**2 / precision)
    np.testing.assert_allclose(posterior_score(eps, gradient, 1 / (2 * sigma**2), level), exact, rtol=1e-12)


def slope(misfit, x, t, y, step, h=1e-6):
    """How fast misfit(x0_hat - y), a number an image, grows along `step`, by central differences."""
    ends = [misfit(tweedie(x + s * h * step, predict(x + s * h * step, t), alpha_bar(t[0])) - y).sum() for s in (1, -1)]
    return (ends[0] - ends[1]) / (2 * h)


@pytest.mark.equation("E10")
@pytest.mark.parametrize(
    "cotangent, misfit",
    [
        (unit_residual, lambda r: np.sqrt((r * r).sum(axis=(1, 2, 3)))),
        (twice_residual, lambda r: (r * r).sum(axis=(1, 2, 3))),
    ],
)
def test_the_misfits_gradient_by_central_differences(cotangent, misfit):
    """Of the sum over three images, so that a norm over the batch is caught."""
    x, y, t = normal(3, 4, 4, 3), normal(3, 4, 4, 3, seed=1), np.array([300] * 3)
    _, gradient = misfit_gradient(predict, x, t, y, alpha_bar(300), cotangent)
    for seed in range(4):
        step = normal(*x.shape, seed=10 + seed)
        assert (gradient * step).sum() == pytest.approx(slope(misfit, x, t, y, step), rel=1e-6)


@pytest.mark.equation("E10")
def test_the_norms_gradient_is_the_squared_norms_over_twice_the_norm():
    x, y, t = normal(3, 4, 4, 3), normal(3, 4, 4, 3, seed=1), np.array([300, 300, 300])
    eps, of_norm = misfit_gradient(predict, x, t, y, alpha_bar(300), unit_residual)
    same_eps, of_square = misfit_gradient(predict, x, t, y, alpha_bar(300), twice_residual)
    length = np.sqrt(((tweedie(x, eps, alpha_bar(300)) - y) ** 2).sum(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(of_norm, of_square / (2 * length), rtol=1e-10)
    np.testing.assert_array_equal(eps, same_eps)
    np.testing.assert_allclose(eps, predict(x, t), rtol=1e-12)


@pytest.mark.equation("E10")
def test_an_image_that_fits_is_not_guided():
    x, level = normal(1, 4, 4, 3), alpha_bar(300)
    y = tweedie(x, predict(x, np.array([300])), level)
    _, gradient = misfit_gradient(predict, x, np.array([300]), y, level, unit_residual)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.equation("E10", "E11")
@pytest.mark.parametrize("guide, cotangent", [(norm_guide, unit_residual), (squared_norm_guide, twice_residual)])
def test_a_guide_adds_its_gradient_to_the_predicted_noise(guide, cotangent):
    x, y, level = normal(2, 4, 4, 3), normal(2, 4, 4, 3, seed=1), alpha_bar(300)
    eps, gradient = misfit_gradient(predict, x, np.array([300, 300]), y, level, cotangent)
    np.testing.assert_allclose(guide(predict, y, 0.8)(x, 300), eps + 0.8 * (1 - level) ** 0.5 * gradient, rtol=1e-12)


@pytest.mark.equation("E11")
def test_guided_noise_is_the_noise_whose_score_is_the_posteriors():
    eps, gradient, level = normal(2, 3, 3, 2), normal(2, 3, 3, 2, seed=1), 0.3
    shifted = guided_noise(eps, gradient, 0.8, level)
    np.testing.assert_allclose(shifted, eps + 0.8 * (1 - level) ** 0.5 * gradient, rtol=1e-12)
    np.testing.assert_allclose(-shifted / (1 - level) ** 0.5, posterior_score(eps, gradient, 0.8, level), rtol=1e-12)


@pytest.mark.equation("E12")
@pytest.mark.parametrize("t", [0, 300, 999])
def test_the_noise_towards_y_has_y_as_its_tweedie_estimate(t):
    y, x_t = normal(2, 3, 3, 2), normal(2, 3, 3, 2, seed=1)
    np.testing.assert_allclose(tweedie(x_t, noise_towards(y, x_t, alpha_bar(t)), alpha_bar(t)), y, atol=1e-11)
