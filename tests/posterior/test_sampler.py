"""E13: the chain against the closed form of a Gaussian world, bugs planted in it, and its invariances."""

import numpy as np
import pytest
from gaussian_world import GaussianWorld

from mdps_ref.diffusion import reverse
from mdps_ref.diffusion.schedule import alpha_bar, visited_timesteps
from mdps_ref.posterior import guidance, sampler

SHAPE = (2, 2, 2)
WORLD = GaussianWorld(SHAPE)
Y = np.random.default_rng(5).standard_normal((1, *SHAPE))
MASK = np.array([1.0, 0.0, 0.0, 1.0]).reshape(1, 2, 2, 1)
PRIOR = sampler.prior_denoiser(WORLD.predict_noise)


def zeros():
    return np.zeros_like(Y)


def chain_of(weight, guide=guidance.squared_norm_guide, start=200, stride=40):
    """chain(y, mask, draw) of the Gaussian world, as `posterior_samples` takes it."""

    def chain(y, mask, draw):
        denoise = guide(WORLD.predict_noise, y, weight, mask) if weight else PRIOR
        return sampler.mdps_chain(denoise, y, mask, start, visited_timesteps(start, stride), draw)

    return chain


def mismatch(mask, timesteps, weight, ddim_eta=1.0):
    """The largest error of the library's chain, mean and covariance, against the closed form."""
    denoise = guidance.squared_norm_guide(WORLD.predict_noise, Y, weight) if weight else PRIOR

    def chain(draw):
        return sampler.mdps_chain(denoise, Y, mask, timesteps[0], timesteps, draw, ddim_eta=ddim_eta)

    mean, covariance = WORLD.moments_of(chain, len(timesteps))
    full = np.ones(SHAPE) if mask is None else np.broadcast_to(mask[0], SHAPE)
    exact_mean, exact_covariance = WORLD.chain_moments(Y.ravel(), full.ravel(), timesteps, weight, ddim_eta)
    return max(abs(mean - exact_mean).max(), abs(covariance - exact_covariance).max())


@pytest.mark.equation("E13")
@pytest.mark.parametrize("weight", [0.0, 0.2])
@pytest.mark.parametrize("stride, ddim_eta", [(20, 1.0), (97, 1.0), (97, 0.4), (97, 0.0)])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
def test_mean_and_covariance_are_the_closed_form(mask, stride, ddim_eta, weight):
    assert mismatch(mask, visited_timesteps(300, stride), weight, ddim_eta) < 1e-10


def shifted_level(t):
    return alpha_bar(t + (t >= 0))


def no_jacobian(predict, x, t, y, level, cotangent):
    eps = predict(x, t)
    return eps, cotangent(reverse.tweedie(x, eps, level) - y)


GUIDED, MISFIT, TOWARDS, COEFFICIENTS = guidance.guided_noise, guidance.misfit_gradient, guidance.noise_towards, reverse.ddim_coefficients
BUGS = {
    "chain's index off by one": (sampler, "alpha_bar", shifted_level),
    "guide's index off by one": (guidance, "alpha_bar", shifted_level),
    "no Jacobian": (guidance, "misfit_gradient", no_jacobian),
    "half the gradient": (guidance, "misfit_gradient", lambda *args: [part / (1 + i) for i, part in enumerate(MISFIT(*args))]),
    "sign of the guidance": (guidance, "guided_noise", lambda eps, gradient, w, level: GUIDED(eps, -gradient, w, level)),
    "no sqrt(1 - alpha_bar)": (guidance, "guided_noise", lambda eps, gradient, w, level: eps + w * gradient),
    "no fresh noise": (reverse, "ddim_coefficients", lambda a, b, eta: (0.0, COEFFICIENTS(a, b)[1])),
    "c2 of the deterministic step": (reverse, "ddim_coefficients", lambda a, b, eta: (COEFFICIENTS(a, b)[0], (1 - b) ** 0.5)),
    "normal pixels not led back": (sampler, "noise_towards", lambda y, x, level: WORLD.predict_noise(x, np.array([100]))),
    "normal pixels led to sqrt(alpha_bar) y": (sampler, "noise_towards", lambda y, x, level: TOWARDS(level**0.5 * y, x, level)),
    "no mask": (sampler, "mdps_denoiser", lambda denoise, y, mask: denoise),
    "start at the wrong level": (sampler, "q_sample", lambda x, noise, level: x + (1 - level) ** 0.5 * noise),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_planted_bug_is_caught(bug, monkeypatch):
    monkeypatch.setattr(*bug)
    assert mismatch(MASK, visited_timesteps(300, 60), 0.2) > 1e-6


@pytest.mark.equation("E12")
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_the_chain_ends_at_y_on_normal_pixels(dtype, tolerance):
    y, mask = Y.astype(dtype), MASK.astype(dtype)
    draw = sampler.noise_source(0, "test", [("a", 0)], y)
    x_0 = sampler.mdps_chain(lambda x, t: np.tanh(x), y, mask, 500, visited_timesteps(500, 50), draw)
    assert x_0.dtype == dtype
    np.testing.assert_allclose((1 - mask) * x_0, (1 - mask) * y, rtol=0, atol=tolerance)
    assert abs(mask * (x_0 - y)).max() > 0.1


@pytest.mark.equation("E13")
@pytest.mark.parametrize("guide", guidance.GUIDES.values(), ids=guidance.GUIDES)
def test_no_mask_is_a_mask_of_ones(guide):
    none, ones = (
        sampler.posterior_samples(chain_of(0.3, guide), Y, mask, ["a"], range(1), 0, "test") for mask in (None, np.ones_like(MASK))
    )
    np.testing.assert_allclose(none, ones, rtol=1e-12)


@pytest.mark.equation("E02", "E13")
def test_the_network_is_called_at_the_timesteps_first_at_the_level_of_the_start():
    calls, steps = [], []

    def denoise(x, t):
        calls.append((t, x.copy()))
        return x

    sampler.mdps_chain(denoise, 0 * Y, None, 50, visited_timesteps(50, 20), lambda: zeros() + 1, after_step=lambda s, x: steps.append(s))
    assert [t for t, _ in calls] == [50, 30, 10] and steps == [30, 10, -1]
    np.testing.assert_allclose(calls[0][1] ** 2, 1 - alpha_bar(50))


def test_a_hook_before_a_step_replaces_what_the_network_sees():
    seen = []
    denoise = lambda x, t: seen.append((t, x)) or x  # noqa: E731
    x_0 = sampler.ddim_chain(Y, [30, 10, -1], denoise, zeros, before_step=lambda x, t: np.full_like(x, t))
    assert [(t, set(x.flat)) for t, x in seen] == [(30, {30.0}), (10, {10.0})]
    np.testing.assert_allclose(x_0, reverse.tweedie(seen[-1][1], seen[-1][1], alpha_bar(10)))


@pytest.mark.equation("E13")
@pytest.mark.parametrize("guide", guidance.GUIDES.values(), ids=guidance.GUIDES)
def test_images_and_samples_are_alone(guide):
    """A batch has the same samples as each image alone, in any order, with or without a mask."""
    rng = np.random.default_rng(1)
    y, masks, names = rng.standard_normal((3, *SHAPE)), (rng.random((3, 2, 2, 1)) > 0.5).astype(float), np.array(["a", "b", "c"])

    def samples(of, mask):
        return sampler.posterior_samples(chain_of(0.4, guide), y[of], mask and masks[of], list(names[of]), range(2), 3, "test")

    for mask in (False, True):
        mask = mask or None
        together = samples([0, 1, 2], mask)
        assert together.shape == (3, 2, *SHAPE)
        np.testing.assert_allclose(samples([2, 0, 1], mask), together[[2, 0, 1]], rtol=1e-6)
        for i in range(3):
            np.testing.assert_allclose(samples([i], mask)[0], together[i], rtol=1e-6)


@pytest.mark.equation("E13")
def test_samples_differ_and_a_number_names_its_sample():
    three, two, last = (
        sampler.posterior_samples(chain_of(0.0), Y, MASK, ["a"], numbers, 3, "test") for numbers in (range(3), range(2), [2])
    )
    np.testing.assert_allclose(three[:, :2], two, rtol=1e-12)
    np.testing.assert_allclose(three[:, 2:], last, rtol=1e-12)
    assert abs(three[0, 0] - three[0, 1]).max() > 0.01


def test_without_guidance_nothing_is_wrapped_and_a_guided_step_is_one_forward_pass():
    calls = []

    def predict(x, t):
        calls.append(type(x))
        return WORLD.predict_noise(x, t)

    for denoise in (sampler.prior_denoiser(predict), guidance.norm_guide(predict, Y, 1.0)):
        sampler.mdps_chain(denoise, Y, MASK, 50, visited_timesteps(50, 20), zeros)
    assert [kind.__name__ for kind in calls] == ["ndarray"] * 3 + ["Tensor"] * 3
