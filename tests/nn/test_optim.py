"""Adam against a scalar twin in loops and the closed form of its first step; clipping and the moving average by their properties."""

import math

import numpy as np
import pytest

from mdps_ref.nn import optim

SHAPES = {"kernel": (3, 2), "bias": (4,), "scale": ()}
RATE = 0.01


def some(seed):
    """A dictionary of random arrays, float64."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}


def take_steps(weights, gradients, **settings):
    """Adam from fresh moments over a list of gradients; returns the changed weights."""
    weights = {name: w.copy() for name, w in weights.items()}
    first_moment, second_moment = optim.zeros_like(weights), optim.zeros_like(weights)
    for step, g in enumerate(gradients, 1):
        optim.adam_step(weights, g, first_moment, second_moment, step, **settings)
    return weights


def adam_by_loops(w, gradients, rate, l2=0.0, decay=0.0, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Algorithm 1 of Kingma & Ba and Algorithm 2 of Loshchilov & Hutter, letter for letter, for one number: the specification."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        g = g + l2 * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        w = w - (rate * m_hat / (math.sqrt(v_hat) + epsilon) + rate * decay * w)
    return w


SETTINGS = [{}, {"l2": 0.3}, {"decay": 0.3}, {"l2": 0.1, "decay": 0.2, "beta1": 0.5, "beta2": 0.9, "epsilon": 0.1}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_adam_is_its_algorithm(settings):
    weights, gradients = some(0), [some(k) for k in range(1, 8)]
    after = take_steps(weights, gradients, rate=RATE, **settings)
    for name, w in weights.items():
        for at in np.ndindex(w.shape):
            expected = adam_by_loops(w[at], [g[name][at] for g in gradients], RATE, **settings)
            assert after[name][at] == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_the_first_step_is_the_rate_whatever_the_gradients_size(size):
    """Without epsilon the first step is rate * sign(g): both moments are their corrections times g and g squared."""
    weights, g = some(0), {name: size * a for name, a in some(1).items()}
    after = take_steps(weights, [g], rate=RATE, epsilon=0.0)
    for name in SHAPES:
        np.testing.assert_allclose(weights[name] - after[name], RATE * np.sign(g[name]), rtol=1e-9)


def test_adam_works_in_place_and_keeps_the_type():
    weights = {name: w.astype(np.float32) for name, w in some(0).items() if w.ndim}
    first_moment, second_moment = optim.zeros_like(weights), optim.zeros_like(weights)
    held = [(group[name], name) for group in (weights, first_moment, second_moment) for name in group]
    before = {name: w.copy() for name, w in weights.items()}
    gradients = {name: np.ones_like(w) for name, w in weights.items()}
    optim.adam_step(weights, gradients, first_moment, second_moment, 1, rate=RATE, decay=0.1)
    assert all(array.dtype == np.float32 for array, _ in held)
    assert [any(array is group[name] for group in (weights, first_moment, second_moment)) for array, name in held] == [True] * len(held)
    assert all((weights[name] != before[name]).all() for name in weights)
    assert all((g == 1).all() for g in gradients.values())


# Clipping


def as_one(gradients):
    return np.concatenate([np.ravel(g) for g in gradients.values()])


@pytest.mark.parametrize("limit", [1e-3, 1.0, 2.0, 100.0])
def test_clipping_keeps_the_direction_and_never_lengthens(limit):
    for seed in range(20):
        gradients = {name: g * 10.0 ** (seed - 10) for name, g in some(seed).items()}
        clipped, length = optim.clip_by_global_norm(gradients, limit)
        before, after = as_one(gradients), as_one(clipped)
        assert length == pytest.approx(np.linalg.norm(before), rel=1e-12)
        assert np.linalg.norm(after) == pytest.approx(min(limit, length), rel=1e-12)
        assert before @ after == pytest.approx(np.linalg.norm(before) * np.linalg.norm(after), rel=1e-12)


def test_what_is_short_enough_passes_to_the_bit():
    gradients = some(0)
    clipped, length = optim.clip_by_global_norm(gradients, optim.global_norm(gradients))
    assert all((clipped[name] == g).all() for name, g in gradients.items())
    assert length == optim.global_norm(gradients)


def test_zero_gradients_are_not_divided_by():
    clipped, length = optim.clip_by_global_norm(optim.zeros_like(some(0)), 0.0)
    assert length == 0 and not as_one(clipped).any()


# The exponential moving average


def test_the_average_of_constant_weights_is_constant():
    weights = some(0)
    ema = {name: w.copy() for name, w in weights.items()}
    for step in range(1, 30):
        optim.ema_step(ema, weights, step)
    assert all((ema[name] == w).all() for name, w in weights.items())


def test_the_average_is_a_weighted_mean_of_all_weights_so_far():
    """Unrolled: the weights of step k have the share (1 - f_k) times every later f; the start has the product of all f."""
    decay, steps = 0.9, 120
    seen = [some(step) for step in range(steps + 1)]
    ema = {name: w.copy() for name, w in seen[0].items()}
    for step in range(1, steps + 1):
        optim.ema_step(ema, seen[step], step, decay)
    factors = [min(decay, (1 + step) / (10 + step)) for step in range(1, steps + 1)]
    shares = [math.prod(factors)] + [(1 - f) * math.prod(factors[k + 1 :]) for k, f in enumerate(factors)]
    assert sum(shares) == pytest.approx(1)
    assert factors[0] < decay == factors[-1]
    for name in SHAPES:
        expected = sum(share * w[name] for share, w in zip(shares, seen, strict=True))
        np.testing.assert_allclose(ema[name], expected, rtol=1e-10)


def test_the_average_is_updated_in_place_and_the_weights_left_alone():
    weights, ema = some(1), some(2)
    held = dict(ema)
    before = {name: w.copy() for name, w in weights.items()}
    optim.ema_step(ema, weights, 1)
    assert all(ema[name] is held[name] for name in ("kernel", "bias"))
    assert all((weights[name] == before[name]).all() for name in weights)


def test_the_rate_rises_in_a_line_stays_and_falls_to_almost_nothing():
    rates = [optim.rate_factor(step, 100, warm_up=10, decay=20) for step in range(1, 101)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert set(rates[10:80]) == {1.0} and (np.diff(rates[80:]) < 0).all()
    np.testing.assert_allclose(np.add(rates[80:], rates[:79:-1]), 1)  # a half cosine is its own mirror image
    assert 0 < rates[-1] < 0.01


def test_without_rise_and_fall_every_step_takes_the_whole_rate():
    assert {optim.rate_factor(step, 7) for step in range(1, 8)} == {1.0}
