"""E03, E04: the forward process and the noise loss."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.check import noise as oracles
from mdps_ref.diffusion.forward import level_per_image, noise_loss, q_sample
from mdps_ref.diffusion.schedule import alpha_bar


@pytest.mark.equation("E03")
def test_one_leap_is_as_many_small_steps():
    oracles.many_small_steps(q_sample)


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
def test_a_perfect_predictor_has_no_loss_and_a_zero_predictor_loses_the_whole_noise():
    oracles.loss_of_known_predictors(noise_loss)
