"""DDAD's rule: against its terms one by one, and where it meets Eq. (10), the prior's chain and guidance by the squared norm."""

import numpy as np
import pytest
from gaussian_world import GaussianWorld
from helpers import normal

from mdps_ref.diffusion.reverse import tweedie
from mdps_ref.diffusion.schedule import alpha_bar, visited_timesteps
from mdps_ref.posterior.closed_form import closed_form_guide
from mdps_ref.posterior.guidance import noise_towards, squared_norm_guide
from mdps_ref.posterior.sampler import mdps_chain, noise_source, prior_denoiser

WORLD = GaussianWorld((3, 3, 2))
Y, X_T = normal(4, 3, 3, 2), normal(4, 3, 3, 2, seed=1)


def chain(denoise, y, start=500, stride=100):
    draw = noise_source(0, "chain", [(str(i), 0) for i in range(len(y))], y)
    return mdps_chain(denoise, y, None, start, visited_timesteps(start, stride), draw)


@pytest.mark.parametrize("t", [0, 300, 999])
@pytest.mark.parametrize("weight", [0.0, 0.7, 5.0])
def test_the_rule_number_by_number(weight, t):
    level, eps = alpha_bar(t), WORLD.predict_noise(X_T, [t])
    guided = closed_form_guide(WORLD.predict_noise, Y, weight)(X_T, t)
    for at in np.ndindex(X_T.shape):
        y_t = level**0.5 * Y[at] + (1 - level) ** 0.5 * eps[at]
        assert guided[at] == pytest.approx(eps[at] - weight * (1 - level) ** 0.5 * (y_t - X_T[at]), rel=1e-12)


def test_without_weight_it_is_the_plain_chain():
    plain = chain(prior_denoiser(WORLD.predict_noise), Y)
    np.testing.assert_array_equal(chain(closed_form_guide(WORLD.predict_noise, Y, 0.0), Y), plain)
    assert abs(chain(closed_form_guide(WORLD.predict_noise, Y, 0.5), Y) - plain).max() > 0.01


@pytest.mark.parametrize("t", [0, 300, 999])
def test_the_estimate_goes_a_share_of_the_way_to_y(t):
    level = alpha_bar(t)
    x0_hat = tweedie(X_T, WORLD.predict_noise(X_T, [t]), level)
    guided = tweedie(X_T, closed_form_guide(WORLD.predict_noise, Y, 0.6)(X_T, t), level)
    np.testing.assert_allclose(guided, x0_hat + 0.6 * (1 - level) * (Y - x0_hat), atol=1e-11)
    whole_way = closed_form_guide(WORLD.predict_noise, Y, 1 / (1 - level))(X_T, t)
    np.testing.assert_allclose(whole_way, noise_towards(Y, X_T, level), atol=1e-9)


def test_for_images_of_white_noise_it_is_guidance_by_the_squared_norm():
    def of_white_noise(x_t, t):
        return (1 - alpha_bar(int(t[0]))) ** 0.5 * x_t

    squared = chain(squared_norm_guide(of_white_noise, Y, 0.4), Y)
    np.testing.assert_allclose(chain(closed_form_guide(of_white_noise, Y, 0.8), Y), squared, rtol=1e-10)


def test_a_guided_chain_comes_closer_to_the_test_image():
    far = [np.mean(abs(chain(closed_form_guide(WORLD.predict_noise, Y, weight), Y) - Y)) for weight in (0.0, 0.3, 1.0)]
    assert far[0] > far[1] > far[2]


def test_images_do_not_change_each_other():
    guided = closed_form_guide(WORLD.predict_noise, Y, 0.7)(X_T, 300)
    for i in range(len(Y)):
        alone = closed_form_guide(WORLD.predict_noise, Y[i : i + 1], 0.7)(X_T[i : i + 1], 300)
        np.testing.assert_allclose(alone[0], guided[i], rtol=1e-12)
