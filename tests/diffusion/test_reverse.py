"""E05-E07: Tweedie, DDPM's posterior, the DDIM step."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.check import reverse as oracles
from mdps_ref.diffusion.forward import q_sample
from mdps_ref.diffusion.reverse import ddim_coefficients, ddim_step, q_posterior, tweedie
from mdps_ref.diffusion.schedule import alpha_bar


@pytest.mark.equation("E05")
@pytest.mark.parametrize("t", [0, 100, 999])
def test_tweedie_undoes_the_forward_process(t):
    x_0, eps = normal(2, 4, 4, 3), normal(2, 4, 4, 3, seed=1)
    np.testing.assert_allclose(tweedie(q_sample(x_0, eps, alpha_bar(t)), eps, alpha_bar(t)), x_0, atol=1e-12 / alpha_bar(t))


@pytest.mark.equation("E05")
def test_tweedie_is_the_posterior_mean_of_a_gaussian_world():
    oracles.regression(tweedie)


@pytest.mark.equation("E06")
def test_q_posterior_is_the_product_of_two_gaussians():
    oracles.product_of_gaussians(q_posterior)


@pytest.mark.equation("E07")
def test_noise_levels_add_up():
    oracles.noise_levels(ddim_coefficients)


@pytest.mark.equation("E07")
def test_the_stochastic_step_is_ddpms_posterior_at_tweedies_estimate():
    oracles.posterior_at_the_estimate(ddim_step)


@pytest.mark.equation("E07")
def test_with_eta_0_the_same_noise_is_put_back():
    x_0, eps = normal(4), normal(4, seed=1)
    x_s = ddim_step(q_sample(x_0, eps, alpha_bar(500)), eps, normal(4), alpha_bar(500), alpha_bar(100), ddim_eta=0.0)
    np.testing.assert_allclose(x_s, q_sample(x_0, eps, alpha_bar(100)), rtol=1e-11)


@pytest.mark.equation("E07")
def test_the_last_step_is_tweedie():
    x_t, eps = normal(4), normal(4, seed=1)
    np.testing.assert_array_equal(ddim_step(x_t, eps, normal(4, seed=2), alpha_bar(10), 1.0), tweedie(x_t, eps, alpha_bar(10)))


@pytest.mark.parametrize("ddim_eta", [7, 1.001, -0.1, float("nan")])
def test_an_eta_out_of_its_range_is_refused(ddim_eta):
    with pytest.raises(ValueError, match="ddim_eta"):
        ddim_coefficients(alpha_bar(500), alpha_bar(100), ddim_eta)
    with pytest.raises(ValueError, match="ddim_eta"):
        ddim_step(normal(4), normal(4), normal(4), alpha_bar(500), alpha_bar(100), ddim_eta)
