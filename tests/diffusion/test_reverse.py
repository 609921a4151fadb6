"""E05-E07: Tweedie, DDPM's posterior, the DDIM step."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.diffusion.forward import q_sample
from mdps_ref.diffusion.reverse import ddim_coefficients, ddim_step, q_posterior, tweedie
from mdps_ref.diffusion.schedule import STEPS, alpha_bar


@pytest.mark.equation("E05")
@pytest.mark.parametrize("t", [0, 100, 999])
def test_tweedie_undoes_the_forward_process(t):
    x_0, eps = normal(2, 4, 4, 3), normal(2, 4, 4, 3, seed=1)
    np.testing.assert_allclose(tweedie(q_sample(x_0, eps, alpha_bar(t)), eps, alpha_bar(t)), x_0, atol=1e-12 / alpha_bar(t))


@pytest.mark.equation("E05")
def test_tweedie_is_the_posterior_mean_of_a_gaussian_world():
    """x_0 ~ N(mu, v): regression gives E[x_0 | x_t] and E[eps | x_t]; Tweedie of the second is the first."""
    mu, v, level, x_t = 0.3, 0.7, 0.4, normal(5)
    gain = level**0.5 * v / (level * v + 1 - level)
    mean_x0 = mu + gain * (x_t - level**0.5 * mu)
    mean_eps = (1 - level) ** 0.5 / (level * v + 1 - level) * (x_t - level**0.5 * mu)
    np.testing.assert_allclose(tweedie(x_t, mean_eps, level), mean_x0, rtol=1e-12)


@pytest.mark.equation("E06")
@pytest.mark.parametrize("t, s", [(1, 0), (500, 499), (500, 100), (999, 0)])
def test_q_posterior_is_the_product_of_two_gaussians(t, s):
    """q(x_s | x_t, x_0) ~ q(x_t | x_s) q(x_s | x_0): precisions add, means are weighted by them."""
    x_0, x_t, to_t, to_s = normal(4), normal(4, seed=1), alpha_bar(t), alpha_bar(s)
    step = to_t / to_s
    precision_t, precision_0 = step / (1 - step), 1 / (1 - to_s)
    mean, variance = q_posterior(x_0, x_t, to_t, to_s)
    assert 1 / variance == pytest.approx(precision_t + precision_0, rel=1e-9)
    np.testing.assert_allclose(mean, variance * (precision_t * x_t / step**0.5 + precision_0 * to_s**0.5 * x_0), rtol=1e-9)


@pytest.mark.equation("E07")
def test_noise_levels_add_up():
    rng = np.random.default_rng(0)
    for t, s in np.sort(rng.choice(STEPS, (50, 2)), axis=1)[:, ::-1]:
        if t > s:
            c1, c2 = ddim_coefficients(alpha_bar(t), alpha_bar(s))
            assert c1**2 + c2**2 == pytest.approx(1 - alpha_bar(s), rel=1e-12)


@pytest.mark.equation("E07")
@pytest.mark.parametrize("t, s", [(500, 499), (500, 100)])
def test_the_stochastic_step_is_ddpms_posterior_at_tweedies_estimate(t, s):
    x_t, eps, z = normal(4), normal(4, seed=1), normal(4, seed=2)
    mean, variance = q_posterior(tweedie(x_t, eps, alpha_bar(t)), x_t, alpha_bar(t), alpha_bar(s))
    np.testing.assert_allclose(ddim_step(x_t, eps, z, alpha_bar(t), alpha_bar(s)), mean + variance**0.5 * z, rtol=1e-10)


@pytest.mark.equation("E07")
def test_with_eta_0_the_same_noise_is_put_back():
    x_0, eps = normal(4), normal(4, seed=1)
    x_s = ddim_step(q_sample(x_0, eps, alpha_bar(500)), eps, normal(4), alpha_bar(500), alpha_bar(100), ddim_eta=0.0)
    np.testing.assert_allclose(x_s, q_sample(x_0, eps, alpha_bar(100)), rtol=1e-11)


@pytest.mark.equation("E07")
def test_the_last_step_is_tweedie():
    x_t, eps = normal(4), normal(4, seed=1)
    np.testing.assert_array_equal(ddim_step(x_t, eps, normal(4, seed=2), alpha_bar(10), 1.0), tweedie(x_t, eps, alpha_bar(10)))
