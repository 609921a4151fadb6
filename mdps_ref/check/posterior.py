"""Exercises of the masked observation and of Bayes' rule: E08 and E09."""

import math

import numpy as np

from mdps_ref.check.exercise import IMAGES, LEVELS, MASK, Exercise, agree, normal, without_a_term
from mdps_ref.posterior import guidance, observation


def observed_pixel_by_pixel(f):
    """Eq. (7) of the paper, entry by entry."""
    x_0, n = IMAGES[:2]
    y = np.asarray(f(x_0, n, MASK, 0.3))
    for i, r, c, k in np.ndindex(x_0.shape):
        added = 0.3 * n[i, r, c, k] if MASK[i, r, c, 0] else 0.0
        agree(y[i, r, c, k], x_0[i, r, c, k] + added, f"{'a suspected' if MASK[i, r, c, 0] else 'a normal'} pixel of y")


def density_by_factors(f):
    """a product of normal densities, a factor for each suspected entry, and minus infinity where a normal pixel differs."""
    x_0, n = IMAGES[:2]
    y = x_0 + MASK * 0.3 * n
    inside = np.broadcast_to(MASK, y.shape) == 1
    density = np.exp(-((y - x_0) ** 2) / (2 * 0.3**2)) / math.sqrt(2 * math.pi * 0.3**2)
    agree(f(y, x_0, MASK, 0.3), np.log(np.where(inside, density, 1.0)).sum(axis=(1, 2, 3)), "the log likelihood")
    agree(f(y + (1 - MASK), x_0, MASK, 0.3), [-math.inf] * 2, "the log likelihood where normal pixels differ")


def slope_of_likelihood(f):
    """the slope of the log density, by central differences at suspected pixels, and 0 at normal ones."""
    y, x_0 = IMAGES[:2]
    rise = lambda h: -((y - x_0 - h) ** 2) / (2 * 0.3**2)  # noqa: E731
    agree(f(y, x_0, MASK, 0.3), MASK * (rise(1e-4) - rise(-1e-4)) / 2e-4, "the slope of log p(y | x_0)", 1e-6)


def conditioned_first(f):
    """the exact posterior of a Gaussian world, where y is conditioned on first and noised after."""
    mu, v, sigma, level, y, x_t = 0.3, 0.7, 0.4, 0.3, 0.9, normal(1, 2, 2, 1)
    of_x_t = level * v + 1 - level
    eps = (1 - level) ** 0.5 / of_x_t * (x_t - level**0.5 * mu)
    slope, left = level**0.5 * v / of_x_t, (1 - level) * v / of_x_t
    gradient = slope * (mu + slope * (x_t - level**0.5 * mu) - y) / (left + sigma**2)  # of -log p(y | x_t)
    mean_y, v_y = mu + v / (v + sigma**2) * (y - mu), v * sigma**2 / (v + sigma**2)
    exact = -(x_t - level**0.5 * mean_y) / (level * v_y + 1 - level)
    agree(f(eps, gradient, 1.0, level), exact, "the score of p(x_t | y)")
    agree(f(0 * eps, gradient, 0.5, level), -0.5 * gradient, "the part of the likelihood at weight 0.5")


EXERCISES = {
    "E08": Exercise(
        "x_0, noise, mask, sigma",
        "y by Eq. (7)",
        lambda x_0, noise, mask, sigma: observation.MaskedObservation(mask, sigma).sample(x_0, noise),
        observed_pixel_by_pixel,
        [(*IMAGES[:2], MASK, 0.3), (*IMAGES[:2], MASK, 2.0)],
        {
            "You forgot the mask: normal pixels are observed without noise.": lambda x, n, m, s: x + s * n,
            "The noise has deviation sigma; its factor is missing.": lambda x, n, m, s: x + m * n,
            "sigma is a deviation, not a variance: do not take its root.": lambda x, n, m, s: x + m * s**0.5 * n,
            "sigma is a deviation: do not square it.": lambda x, n, m, s: x + m * s**2 * n,
            "The mask is the wrong way round: m = 1 is suspected.": lambda x, n, m, s: x + (1 - m) * s * n,
            "On suspected pixels x_0 is counted twice: its first factor is 1 - m.": lambda x, n, m, s: x + m * (x + s * n),
            "On suspected pixels x_0 is still there, below the noise.": lambda x, n, m, s: (1 - m) * x + m * s * n,
            "Normal pixels are lost: they are x_0.": lambda x, n, m, s: m * (x + s * n),
        },
    ),
    "E08 likelihood": Exercise(
        "y, x_0, mask, sigma",
        "log p(y | x_0) of each image",
        lambda y, x_0, mask, sigma: observation.MaskedObservation(mask, sigma).log_likelihood(y, x_0),
        density_by_factors,
        [(IMAGES[0] + MASK * s * IMAGES[1], IMAGES[0], MASK, s) for s in (0.3, 2.0)],
        {
            "The normalisation log(sigma sqrt(2 pi)) is missing, one for each suspected entry.": lambda y, x, m, s: (
                -0.5 * m * ((y - x) / s) ** 2
            ).sum(axis=(1, 2, 3)),
            "The 1/2 in the exponent is missing.": lambda y, x, m, s: (
                m * (-(((y - x) / s) ** 2) - math.log(s * math.sqrt(2 * math.pi)))
            ).sum(axis=(1, 2, 3)),
            "Divide the residual by sigma before squaring: the variance is sigma^2.": lambda y, x, m, s: (
                m * (-0.5 * (y - x) ** 2 / s - math.log(s * math.sqrt(2 * math.pi)))
            ).sum(axis=(1, 2, 3)),
            "You forgot the mask: only suspected entries have a density.": lambda y, x, m, s: (
                -0.5 * ((y - x) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi))
            ).sum(axis=(1, 2, 3)),
            "That is the mean over the entries; log densities of independent entries add.": lambda y, x, m, s: (
                m * (-0.5 * ((y - x) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi)))
            ).mean(axis=(1, 2, 3)),
        },
    ),
    "E08 score": Exercise(
        "y, x_0, mask, sigma",
        "the gradient of log p(y | x_0) to x_0 on suspected pixels, 0 on normal ones",
        lambda y, x_0, mask, sigma: observation.MaskedObservation(mask, sigma).score(y, x_0),
        slope_of_likelihood,
        [(*IMAGES[:2], MASK, 0.3), (*IMAGES[:2], MASK, 2.0)],
        {
            "Divide by sigma^2, not by sigma.": lambda y, x, m, s: m * (y - x) / s,
            "The gradient points from x_0 to y; yours points away.": lambda y, x, m, s: m * (x - y) / s**2,
            "You forgot the mask: there is no gradient on normal pixels.": lambda y, x, m, s: (y - x) / s**2,
            "The 2 of the square cancels the 1/2 of the exponent.": lambda y, x, m, s: 2 * m * (y - x) / s**2,
            "The mask is the wrong way round: m = 1 is suspected.": lambda y, x, m, s: (1 - m) * (y - x) / s**2,
            "The division by sigma^2 is missing.": lambda y, x, m, s: m * (y - x),
            "That is the log likelihood of each entry; its slope is asked for.": lambda y, x, m, s: -m * (y - x) ** 2 / (2 * s**2),
        },
    ),
    "E09": Exercise(
        "eps, gradient, weight, alpha_bar_t",
        "the score of the posterior: of the prior by eps, and of the likelihood by -weight gradient",
        guidance.posterior_score,
        conditioned_first,
        [(*IMAGES[:2], 0.8, a) for a in LEVELS],
        {
            "eps is a noise; its score is -eps / sqrt(1 - alpha_bar_t).": lambda e, g, w, a: -e - w * g,
            "Divide eps by sqrt(1 - alpha_bar_t), not by 1 - alpha_bar_t.": lambda e, g, w, a: -e / (1 - a) - w * g,
            "Divide eps by sqrt(1 - alpha_bar_t), not by sqrt(alpha_bar_t).": lambda e, g, w, a: -e / a**0.5 - w * g,
            "The weight is missing.": lambda e, g, w, a: -e / (1 - a) ** 0.5 - g,
            "Divide by sqrt(1 - alpha_bar_t); you multiply by it.": lambda e, g, w, a: -e * (1 - a) ** 0.5 - w * g,
            "Only eps is divided by sqrt(1 - alpha_bar_t); the gradient is a score already.": lambda e, g, w, a: (
                -(e + w * g) / (1 - a) ** 0.5
            ),
            **without_a_term(
                {"-eps / sqrt(1 - alpha_bar_t)": lambda e, g, w, a: -e / (1 - a) ** 0.5, "-weight gradient": lambda e, g, w, a: -w * g}
            ),
        },
    ),
}
