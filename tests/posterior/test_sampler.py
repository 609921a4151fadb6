"""E13: the chain against the closed form of a Gaussian world, bugs planted in it, and its invariances."""

import importlib.util
import pathlib

import numpy as np
import pytest

from mdps_ref.diffusion import reverse
from mdps_ref.diffusion.schedule import visited_timesteps
from mdps_ref.posterior import guidance, sampler

spec = importlib.util.spec_from_file_location("gaussian_world", pathlib.Path(__file__).with_name("gaussian_world.py"))
gaussian_world = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gaussian_world)

SHAPE = (2, 2, 2)
WORLD = gaussian_world.GaussianWorld(SHAPE)
Y = np.random.default_rng(5).standard_normal((1, *SHAPE))
MASK = np.array([1.0, 0.0, 0.0, 1.0]).reshape(1, 2, 2, 1)


def mismatch(mask, timesteps, weight):
    """The largest error of the library's chain, mean and covariance, against the closed form."""

    def chain(draw):
        return sampler.posterior_chain(WORLD.predict_noise, Y, mask, timesteps, draw, weight=weight, guidance="squared_norm")

    mean, covariance = WORLD.moments_of(chain, len(timesteps))
    full = np.ones(SHAPE) if mask is None else np.broadcast_to(mask[0], SHAPE)
    exact_mean, exact_covariance = WORLD.chain_moments(Y.ravel(), full.ravel(), timesteps, weight)
    return max(abs(mean - exact_mean).max(), abs(covariance - exact_covariance).max())


@pytest.mark.equation("E13")
@pytest.mark.parametrize("weight", [0.0, 0.2])
@pytest.mark.parametrize("stride", [20, 97])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
def test_mean_and_covariance_are_the_closed_form(mask, stride, weight):
    assert mismatch(mask, visited_timesteps(300, stride), weight) < 1e-10


def planted(monkeypatch, bug):
    """Plant a bug in the sampler."""
    right_level, right_coefficients, right_misfit = sampler.alpha_bar, reverse.ddim_coefficients, sampler.misfit_gradient
    changes = {
        "index off by one": (sampler, "alpha_bar", lambda t: right_level(t + (t >= 0))),
        "no Jacobian": (sampler, "misfit_gradient", lambda f, x, t, y, a, g: (f(x, t), 2 * (reverse.tweedie(x, f(x, t), a) - y))),
        "sign of the guidance": (sampler, "guided_noise", lambda e, g, w, a: guidance.guided_noise(e, -g, w, a)),
        "no sqrt(1 - alpha_bar)": (sampler, "guided_noise", lambda e, g, w, a: e + w * g),
        "half the gradient": (sampler, "misfit_gradient", lambda *args: [part / (1 + i) for i, part in enumerate(right_misfit(*args))]),
        "no fresh noise": (reverse, "ddim_coefficients", lambda a, b, _: (0.0, right_coefficients(a, b)[1])),
        "c2 of the deterministic step": (reverse, "ddim_coefficients", lambda a, b, _: (right_coefficients(a, b)[0], (1 - b) ** 0.5)),
        "normal pixels not led back": (sampler, "noise_towards", lambda y, x, a: WORLD.predict_noise(x, np.array([100]))),
        "normal pixels led to sqrt(alpha_bar) y": (sampler, "noise_towards", lambda y, x, a: guidance.noise_towards(a**0.5 * y, x, a)),
        "start at the wrong level": (sampler, "q_sample", lambda x, z, a: x + (1 - a) ** 0.5 * z),
    }
    monkeypatch.setattr(*changes[bug])


BUGS = [
    "index off by one",
    "no Jacobian",
    "sign of the guidance",
    "no sqrt(1 - alpha_bar)",
    "half the gradient",
    "no fresh noise",
    "c2 of the deterministic step",
    "normal pixels not led back",
    "normal pixels led to sqrt(alpha_bar) y",
    "start at the wrong level",
]


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, monkeypatch):
    planted(monkeypatch, bug)
    assert mismatch(MASK, visited_timesteps(300, 60), 0.2) > 1e-6


@pytest.mark.equation("E12")
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_the_chain_ends_at_y_on_normal_pixels(dtype, tolerance):
    y, mask = Y.astype(dtype), MASK.astype(dtype)
    draw = sampler.noise_source(0, "test", [("a", 0)], y)
    x_0 = sampler.posterior_chain(lambda x, t: np.tanh(x), y, mask, visited_timesteps(500, 50), draw)
    assert x_0.dtype == dtype
    np.testing.assert_allclose((1 - mask) * x_0, (1 - mask) * y, rtol=0, atol=tolerance)
    assert abs(mask * (x_0 - y)).max() > 0.1


@pytest.mark.equation("E13")
def test_no_mask_is_a_mask_of_ones():
    def run(mask):
        draw = sampler.noise_source(0, "test", [("a", 0)], Y)
        return sampler.posterior_chain(WORLD.predict_noise, Y, mask, visited_timesteps(200, 40), draw, weight=0.3)

    np.testing.assert_allclose(run(None), run(np.ones_like(MASK)), rtol=1e-12)


@pytest.mark.equation("E02", "E13")
def test_the_first_call_is_at_the_level_the_start_is_noised_to():
    calls = []

    def predict(x, t):
        calls.append((int(t[0]), x.copy()))
        return x

    ones = np.ones_like(Y)
    sampler.posterior_chain(predict, 0 * Y, None, visited_timesteps(50, 20), lambda: ones)
    assert [t for t, _ in calls] == [50, 30, 10]
    np.testing.assert_allclose(calls[0][1] ** 2, 1 - sampler.alpha_bar(50))


@pytest.mark.equation("E13")
@pytest.mark.parametrize("kind", guidance.GUIDANCES)
def test_images_and_samples_are_alone(kind):
    """n samples of a batch are the samples of each image alone, whatever stands beside it, in any order."""
    y = np.random.default_rng(1).standard_normal((3, *SHAPE))
    names = ["a", "b", "c"]
    arguments = {"seed": 3, "purpose": "test", "weight": 0.4, "guidance": kind}
    timesteps = visited_timesteps(200, 40)
    together = sampler.posterior_samples(WORLD.predict_noise, y, names, None, timesteps, 2, **arguments)
    assert together.shape == (3, 2, *SHAPE)
    turned = sampler.posterior_samples(WORLD.predict_noise, y[::-1], names[::-1], None, timesteps, 2, **arguments)
    np.testing.assert_allclose(turned[::-1], together, rtol=1e-12)
    for i, name in enumerate(names):
        alone = sampler.posterior_samples(WORLD.predict_noise, y[i : i + 1], [name], None, timesteps, 2, **arguments)
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-12)


@pytest.mark.equation("E13")
def test_samples_differ_and_fewer_are_the_first_of_more():
    arguments = {"seed": 3, "purpose": "test"}
    three = sampler.posterior_samples(WORLD.predict_noise, Y, ["a"], MASK, visited_timesteps(200, 40), 3, **arguments)
    two = sampler.posterior_samples(WORLD.predict_noise, Y, ["a"], MASK, visited_timesteps(200, 40), 2, **arguments)
    np.testing.assert_allclose(three[:, :2], two, rtol=1e-12)
    assert abs(three[0, 0] - three[0, 1]).max() > 0.01


def test_without_guidance_nothing_is_wrapped():
    def predict(x, t):
        assert isinstance(x, np.ndarray)
        return x

    sampler.posterior_chain(predict, Y, MASK, visited_timesteps(50, 20), lambda: np.zeros_like(Y))


def test_one_forward_pass_a_guided_step():
    calls = []

    def predict(x, t):
        calls.append(t)
        return WORLD.predict_noise(x, t)

    sampler.posterior_chain(predict, Y, MASK, visited_timesteps(50, 20), lambda: np.zeros_like(Y), weight=1.0)
    assert len(calls) == 3
