"""E03, E04: the forward process and the noise loss."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.diffusion.forward import level_per_image, noise_loss, q_sample
from mdps_ref.diffusion.schedule import alpha_bar, linear_betas


@pytest.mark.equation("E03")
def test_one_leap_is_as_many_small_steps():
    """Mean and variance of x_t from x_0, carried step by step: x <- sqrt(1 - beta) x + sqrt(beta) noise."""
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(linear_betas()):
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
        if t in (0, 17, 999):
            assert q_sample(1.0, 0.0, alpha_bar(t)) == pytest.approx(mean, rel=1e-12)
            assert q_sample(0.0, 1.0, alpha_bar(t)) ** 2 == pytest.approx(variance, rel=1e-12)


@pytest.mark.equation("E03")
def test_each_image_has_its_own_level():
    x_0, noise, t = normal(3, 2, 2, 1), normal(3, 2, 2, 1, seed=1), np.array([0, 500, 999])
    together = q_sample(x_0, noise, level_per_image(alpha_bar(t), x_0))
    for i in range(3):
        np.testing.assert_allclose(together[i], q_sample(x_0[i], noise[i], alpha_bar(t[i])), rtol=1e-14)


def test_float32_stays_float32():
    x = normal(2, 2, 2, 1).astype(np.float32)
    assert q_sample(x, x, alpha_bar(3)).dtype == np.float32
    assert q_sample(x, x, level_per_image(alpha_bar(np.array([3, 4])), x)).dtype == np.float32


@pytest.mark.equation("E04")
def test_a_perfect_predictor_has_no_loss():
    x_0, noise, level = normal(2, 3, 3, 2), normal(2, 3, 3, 2, seed=1), 0.4

    def knows(x_t, t):
        return (x_t - level**0.5 * x_0) / (1 - level) ** 0.5

    assert noise_loss(knows, x_0, None, noise, level) == pytest.approx(0, abs=1e-20)


@pytest.mark.equation("E04")
def test_a_zero_predictor_loses_the_whole_noise():
    """Its loss is |noise|^2 summed over pixels: on average their number, with a variance of twice that."""
    x_0, noise = normal(500, 4, 4, 3), normal(500, 4, 4, 3, seed=1)
    loss = noise_loss(lambda x_t, t: np.zeros_like(x_t), x_0, None, noise, 0.4)
    assert loss == pytest.approx((noise**2).sum() / 500, rel=1e-12)
    assert abs(loss - 48) < 5 * (2 * 48 / 500) ** 0.5
