"""E10: moment-matched guidance against E[eps | x_t, y] of a Gaussian world, which the default guide only approximates."""

import numpy as np
import pytest
from gaussian_world import GaussianWorld

from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.posterior import guidance
from mdps_ref.posterior.guidance import conjugate_gradients, guided_noise, moment_matched_gradient, noise_towards
from mdps_ref.posterior.sampler import mdps_denoiser

SHAPE = (2, 2, 2)
WORLD = GaussianWorld(SHAPE)
Y, X_T = np.random.default_rng(5).standard_normal((2, 1, *SHAPE))
MASK = np.array([1.0, 0.0, 0.0, 1.0]).reshape(1, 2, 2, 1)
SIGMA = 0.6


def moment_matched(t, mask, iterations):
    """The denoiser with that many steps of conjugate gradients."""
    level = alpha_bar(t)
    eps, gradient = moment_matched_gradient(WORLD.predict_noise, X_T, np.array([t]), Y, mask, SIGMA**2, level, iterations)
    return mask * guided_noise(eps, gradient, 1.0, level) + (1 - mask) * noise_towards(Y, X_T, level)


def distance(eps, t, mask):
    """The largest error against the exact E[eps | x_t, y]."""
    full = np.broadcast_to(mask[0], SHAPE).ravel()
    noise, offset = WORLD.exact_noise_map(t, Y.ravel(), full, SIGMA)
    return abs(eps.ravel() - (noise @ X_T.ravel() + offset)).max()


@pytest.mark.equation("E09", "E10", "E13")
@pytest.mark.parametrize("t", [20, 300, 999])
@pytest.mark.parametrize("mask", [MASK, np.ones_like(MASK)], ids=["mask", "all suspected"])
def test_with_enough_steps_it_is_the_exact_conditional_noise(t, mask):
    assert distance(moment_matched(t, mask, 20), t, mask) < 1e-6


@pytest.mark.equation("E10", "E13")
@pytest.mark.parametrize("t", [300, 999])
def test_three_steps_are_nearer_than_the_squared_norm(t):
    def eps_phi(guide):
        return mdps_denoiser(guide(WORLD.predict_noise, Y, 1 / (2 * SIGMA**2), MASK), Y, MASK)(X_T, t)

    three, squared = eps_phi(guidance.moment_matched_guide), eps_phi(guidance.squared_norm_guide)
    np.testing.assert_allclose(three, moment_matched(t, MASK, 3), rtol=1e-12)
    assert 1e-3 < distance(three, t, MASK) < distance(squared, t, MASK)


def test_conjugate_gradients_solve_one_system_an_image():
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((3, 4, 4))
    matrices = roots @ roots.swapaxes(1, 2) + 0.5 * np.eye(4)
    b = rng.standard_normal((3, 2, 2, 1))
    u = conjugate_gradients(lambda g: np.einsum("nij,nj->ni", matrices, g.reshape(3, 4)).reshape(b.shape), b, 8)
    np.testing.assert_allclose(u.reshape(3, 4), np.linalg.solve(matrices, b.reshape(3, 4, 1))[..., 0], rtol=1e-8)
    np.testing.assert_array_equal(conjugate_gradients(lambda g: g, 0 * b, 3), 0)
