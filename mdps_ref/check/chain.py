"""Exercises of the chain and of the mask: E13 and E14."""

import itertools
import math

import numpy as np

from mdps_ref.check.exercise import IMAGES, MASK, Exercise, agree, normal
from mdps_ref.diffusion.reverse import ddim_step
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.posterior import guidance, mask, sampler


class Draws:
    """draw() -> standard normal noise of one shape; a copy begins again where this one is."""

    def __init__(self, shape, seed=0):
        self.shape, self.generator = shape, np.random.default_rng(seed)

    def __call__(self):
        return self.generator.standard_normal(self.shape)


def denoise(x_t, t):
    """A denoiser that nothing leads to y."""
    return np.tanh(x_t) + 0.01 * t


def two_noises(f):
    """a choice pixel by pixel: the denoiser on suspected pixels, the noise that leads to y on normal ones."""
    y, x_t = IMAGES[:2]
    for t in (10, 300):
        found, level, suspected = np.asarray(f(denoise, y, MASK)(x_t, t)), alpha_bar(t), denoise(x_t, t)
        for i, r, c, k in np.ndindex(x_t.shape):
            p = (i, r, c, k)
            right = suspected[p] if MASK[i, r, c, 0] else (x_t[p] - level**0.5 * y[p]) / (1 - level) ** 0.5
            agree(found[p], right, f"the noise of {'a suspected' if MASK[i, r, c, 0] else 'a normal'} pixel")


def chain_pixel_by_pixel(f):
    """a chain of a single pixel in plain numbers, and the images come back exactly where the mask is 0."""
    for m in (0.0, 1.0):
        one = np.full((1, 1, 1, 1), 0.4)
        found = f(denoise, one, np.full((1, 1, 1, 1), m), 50, [50, 30, 10, -1], Draws(one.shape, 5))
        draw = Draws((), 5)
        x = alpha_bar(50) ** 0.5 * 0.4 + (1 - alpha_bar(50)) ** 0.5 * float(draw())
        for t, s in itertools.pairwise([50, 30, 10, -1]):
            a, b = alpha_bar(t), alpha_bar(s)
            eps = math.tanh(x) + 0.01 * t if m else (x - a**0.5 * 0.4) / (1 - a) ** 0.5
            c1 = ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5
            x = b**0.5 * (x - (1 - a) ** 0.5 * eps) / a**0.5 + c1 * float(draw()) + max(0.0, 1 - b - c1**2) ** 0.5 * eps
        agree(found, np.full((1, 1, 1, 1), x), f"x_0 of {'a suspected' if m else 'a normal'} pixel")


def ranks(f):
    """a count of good pixels: at most the share exceeds the threshold, and the next lower value is exceeded by more."""
    maps = abs(normal(3, 5, 5))
    for share in (0.0, 0.1, 0.3):
        threshold = float(f(maps, share))
        agree(min(abs(maps.ravel() - threshold)), 0, "the distance of the threshold from a value of the maps")
        if (maps > threshold).mean() > share:
            raise AssertionError(f"more than the share {share} of the good pixels exceeds the threshold")
        lower = maps[maps < threshold]
        if lower.size and (maps > lower.max()).mean() <= share - 1 / maps.size:
            raise AssertionError(f"a lower threshold would also keep to the share {share}")


def pixels_above(f):
    """a question to every pixel: is it above the threshold?"""
    maps = abs(normal(2, 3, 4))
    threshold = float(maps[0, 1, 2])  # this pixel is not above it
    found = np.asarray(f(maps, threshold))
    for i, r, c in np.ndindex(maps.shape):
        agree(found[i, r, c], [1.0 if maps[i, r, c] > threshold else 0.0], f"the mask where the map is {maps[i, r, c]:.3f}")


def _chain(led=True, start=0, level=lambda t: t, eta=1.0, masked=True):
    """A chain with faults: normal pixels not led, another start, another level, less noise."""

    def chain(denoise, y, m, begin, timesteps, draw):
        first = alpha_bar(timesteps[start])
        x = first**0.5 * y + (1 - first) ** 0.5 * draw()
        for t, s in itertools.pairwise(timesteps):
            noise = m * denoise(x, t) + (1 - m) * (guidance.noise_towards(y, x, alpha_bar(t)) if led else denoise(x, t))
            x = ddim_step(x, noise if masked else denoise(x, t), draw(), alpha_bar(level(t)), alpha_bar(s), eta)
        return x

    return chain


def _mixed(rule):
    """A denoiser that mixes the two noises by rule(m, eps^m, eps^(1-m))."""
    return lambda f, y, m: lambda x, t: rule(m, f(x, t), (x - alpha_bar(t) ** 0.5 * y) / (1 - alpha_bar(t)) ** 0.5)


def _applied(f, denoise, y, mask, x_t, t):
    """The noise by the denoiser that f makes; None if it makes none."""
    made = f(denoise, y, mask)
    if made is not None and not callable(made):
        raise TypeError(f"it returned {type(made).__name__}; return a function of x_t and t")
    return None if made is None else made(x_t, t)


EXERCISES = {
    "E13": Exercise(
        "denoise, y, mask",
        "a function of x_t and t: the noise of suspected pixels by denoise, that of normal pixels by E12",
        sampler.mdps_denoiser,
        two_noises,
        [(denoise, *IMAGES[:1], MASK, IMAGES[1], 300)],
        {
            "The mask is the wrong way round: m = 1 takes the denoiser.": _mixed(lambda m, inside, outside: (1 - m) * inside + m * outside),
            "You forgot the mask: everything is led to y.": _mixed(lambda m, inside, outside: outside),
            "You forgot the mask: nothing is led to y.": _mixed(lambda m, inside, outside: inside),
            "Both noises are added everywhere; multiply them by m and by 1 - m.": _mixed(lambda m, inside, outside: inside + outside),
            "Normal pixels have no noise of their own: add (1 - m) times that of E12.": _mixed(lambda m, inside, outside: m * inside),
            "The noise of normal pixels lacks its factor 1 - m.": _mixed(lambda m, inside, outside: m * inside + outside),
        },
        apply=_applied,
    ),
    "E13 chain": Exercise(
        "denoise, y, mask, start, timesteps, draw",
        "x_0: y is noised to the start, then one DDIM step from each timestep to the next",
        sampler.mdps_chain,
        chain_pixel_by_pixel,
        [(denoise, IMAGES[0], MASK, 50, [50, 30, 10, -1], Draws(IMAGES[0].shape))],
        {
            "Normal pixels are not led to y: use E13's denoiser.": _chain(led=False),
            "The chain starts at the level of its second timestep; noise y to that of the start.": _chain(start=1),
            "The step uses alpha_bar one timestep too early: take it at t.": _chain(level=lambda t: t - 1),
            "No fresh noise comes in: the step has eta = 1.": _chain(eta=0.0),
        },
    ),
    "E14": Exercise(
        "good_maps, share",
        "the threshold that at most this share of the good pixels exceeds",
        mask.mask_threshold,
        ranks,
        [(abs(normal(3, 5, 5)), 0.1), (abs(normal(2, 4, 4)), 0.3)],
        {
            "That is the quantile of the share; the quantile of 1 - share is asked for.": lambda maps, share: np.quantile(
                maps, share, method="higher"
            ),
            "A threshold is asked for, not the number of pixels.": lambda maps, share: share * maps.size,
            "That is a share of the largest value; a share of the pixels is asked for.": lambda maps, share: (1 - share) * maps.max(),
            "Your quantile is rounded down, so more than the share exceeds it.": lambda maps, share: np.quantile(
                maps, 1 - share, method="lower"
            ),
            "That is a share of the range, which a single outlier moves.": lambda maps, share: (
                maps.min() + (1 - share) * (maps.max() - maps.min())
            ),
            "Your quantile lies between two values; take the higher one.": lambda maps, share: np.quantile(maps, 1 - share),
        },
    ),
    "E14 mask": Exercise(
        "maps, threshold",
        "the mask (N, H, W, 1): 1 where the map exceeds the threshold, 0 elsewhere",
        mask.suspected,
        pixels_above,
        [(abs(normal(2, 3, 4)), float(abs(normal(2, 3, 4))[0, 1, 2]))],
        {
            "The last axis is missing: a mask has to multiply images, (N, H, W, 1).": lambda maps, h: (maps > h).astype(float),
            "A pixel at the threshold is normal: use >, not >=.": lambda maps, h: (maps >= h).astype(float)[..., None],
            "The mask is the wrong way round: 1 is suspected.": lambda maps, h: (maps <= h).astype(float)[..., None],
            "The threshold is a value of the map, not a share of its largest value.": lambda maps, h: (maps > h * maps.max()).astype(float)[
                ..., None
            ],
            "Those are the values above the threshold; the mask is 1 there.": lambda maps, h: np.where(maps > h, maps, 0)[..., None],
        },
    ),
}
