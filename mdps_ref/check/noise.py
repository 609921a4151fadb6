"""Exercises of the schedule, the forward process and the loss: E01 to E04."""

from fractions import Fraction

import numpy as np

from mdps_ref.check.exercise import IMAGES, LEVELS, Exercise, agree, without_a_term
from mdps_ref.diffusion import forward, schedule


def product_of_shares(f):
    """a product of fractions, written out."""
    betas = [Fraction(1, 10), Fraction(1, 7), Fraction(2, 9)]
    exact = [Fraction(9, 10), Fraction(9, 10) * Fraction(6, 7), Fraction(9, 10) * Fraction(6, 7) * Fraction(7, 9)]
    agree(f(np.array(betas, float)), [float(share) for share in exact], "the product of 1 - beta up to each step", 1e-14)


def even_steps(f):
    """the definition of a straight line: both ends, and equal differences."""
    betas = np.asarray(f(1e-4, 0.02, 1000))
    agree(len(betas), 1000, "the number of betas")
    agree(betas[[0, -1]], [1e-4, 0.02], "the first and the last beta", 1e-15)
    agree(np.diff(betas), np.full(999, (0.02 - 1e-4) / 999), "the difference of neighbouring betas", 1e-12)


def clean_at_minus_one(f):
    """the schedule, carried step by step from alpha_bar = 1 at t = -1."""
    level, levels = 1.0, [1.0]
    for t in range(1000):
        level *= 1 - (1e-4 + t * (0.02 - 1e-4) / 999)
        levels.append(level)
    for t in (-1, 0, 17, 999):
        agree(f(t), levels[t + 1], f"alpha_bar at t = {t}", 1e-12)
    agree(f(np.array([[-1, 5], [999, 0]])), [[1, levels[6]], [levels[1000], levels[1]]], "alpha_bar of an array of timesteps", 1e-12)


def downwards_to_clean(f):
    """what a chain needs: it begins at its start, goes down by the stride, and ends with -1 from below one stride."""
    for start, stride in [(50, 20), (999, 1), (0, 20), (200, 200), (19, 20), (40, 20)]:
        visited, t = [], start
        while t >= 0:
            visited.append(t)
            t -= stride
        agree(f(start, stride), [*visited, -1], f"the timesteps from {start} with stride {stride}")


def many_small_steps(f):
    """as many small steps, x <- sqrt(1 - beta) x + sqrt(beta) noise, of which mean and variance are carried along."""
    mean, variance, level = 1.0, 0.0, 1.0
    for t in range(600):
        beta = 1e-4 + t * (0.02 - 1e-4) / 999
        mean, variance, level = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta, level * (1 - beta)
        if t in (0, 17, 599):
            agree(f(1.0, 0.0, level), mean, f"the part of x_0 in x_t at t = {t}", 1e-10)
            agree(f(0.0, 1.0, level), variance**0.5, f"the deviation of the noise in x_t at t = {t}", 1e-10)
    agree(f(*IMAGES[:2], 0.4), f(IMAGES[0], 0.0, 0.4) + f(0.0, IMAGES[1], 0.4), "the sum of both parts")


def loss_of_known_predictors(f):
    """two predictors with a known loss: a perfect one has none, and one that says 0 loses the whole noise."""
    (x_0, noise), level = IMAGES[:2], 0.4
    agree(f(lambda x, t: (x - level**0.5 * x_0) / (1 - level) ** 0.5, x_0, None, noise, level), 0, "the loss of a perfect predictor")
    for images in (1, 2):
        whole = sum(float(value) ** 2 for value in noise[:images].ravel()) / images
        zero = lambda x, t: np.zeros_like(x)  # noqa: E731
        agree(f(zero, x_0[:images], None, noise[:images], level), whole, f"the loss of the predictor 0 on {images} images")
    seen = []
    f(lambda x, t: seen.append((x, t)) or 0 * x, x_0, np.array([5, 6]), noise, level)
    agree(seen[0][0], level**0.5 * x_0 + (1 - level) ** 0.5 * noise, "what the predictor sees")
    agree(seen[0][1], [5, 6], "the timesteps that the predictor is told")


def _losing(reduced):
    """A loss with another reduction of the residual."""
    return lambda predict, x_0, t, noise, level: reduced(noise - predict(level**0.5 * x_0 + (1 - level) ** 0.5 * noise, t))


def _predict(x, t):
    return np.tanh(x) + 0.1


EXERCISES = {
    "E01": Exercise(
        "betas",
        "alpha_bar at each timestep: the share of the image's variance that is left",
        schedule.cumulative_alphas,
        product_of_shares,
        [(np.array([0.1, 0.2, 0.4]),)],
        {
            "A step keeps the share 1 - beta, not 1 + beta.": lambda betas: np.cumprod(1 + betas),
            "That is the product of the betas; a step keeps 1 - beta.": lambda betas: np.cumprod(betas),
            "Shares multiply. You subtract the sum of the betas from 1.": lambda betas: 1 - np.cumsum(betas),
            "That is alpha_t of each step alone; alpha_bar_t is the product of all of them up to t.": lambda betas: 1 - betas,
            "Yours is one step late: alpha_bar_t includes step t itself.": lambda betas: np.cumprod(np.append(1, 1 - betas))[:-1],
            "That is sqrt(alpha_bar_t), which multiplies x_0; alpha_bar_t itself is asked for.": lambda betas: np.cumprod(1 - betas) ** 0.5,
            "That is 1 - alpha_bar_t, the variance of the noise.": lambda betas: 1 - np.cumprod(1 - betas),
            "That is only the last of them; use a running product, np.cumprod.": lambda betas: np.prod(1 - betas),
        },
    ),
    "E01 betas": Exercise(
        "first, last, steps",
        "the variances that the steps add, on a straight line from first to last",
        schedule.linear_betas,
        even_steps,
        [(1e-4, 0.02, 10), (0.1, 0.5, 5)],
        {
            "That is a geometric sequence; the betas lie on a straight line.": np.geomspace,
            "The last beta is missing: both ends belong to the line.": lambda a, b, n: np.linspace(a, b, n, endpoint=False),
            "The line is straight in sqrt(beta); it should be straight in beta.": lambda a, b, n: np.linspace(a**0.5, b**0.5, n) ** 2,
            "The betas rise with t; yours fall.": lambda a, b, n: np.linspace(b, a, n),
            "There is one beta too many.": lambda a, b, n: np.linspace(a, b, n + 1),
        },
    ),
    "E01 level": Exercise(
        "t",
        "alpha_bar at t, which is 1 at t = -1",
        schedule.alpha_bar,
        clean_at_minus_one,
        [(-1,), (0,), (np.array([500, 999]),)],
        {
            "At t = -1 Python took the table's last entry; the clean image has alpha_bar = 1.": lambda t: schedule._TABLE[t],
            "The table is one step late: alpha_bar(0) is 1 - beta_0.": lambda t: np.append(1, schedule._TABLE)[np.maximum(t, 0)],
            "At t = -1 nothing is noise yet: alpha_bar is 1 there, not 0.": lambda t: np.where(np.asarray(t) < 0, 0, schedule._TABLE[t]),
        },
    ),
    "E02": Exercise(
        "start, stride",
        "the list of timesteps that a chain visits, from its start down, with -1 at its end",
        schedule.visited_timesteps,
        downwards_to_clean,
        [(50, 20), (40, 20)],
        {
            "The start is missing: the network is called at the start first.": lambda a, k: [*range(a - k, -1, -k), -1],
            "The -1 at the end is missing, so the chain would not reach the clean image.": lambda a, k: [*range(a, -1, -k)],
            "Timestep 0 is missing where the stride meets it: a range stops before its end.": lambda a, k: [*range(a, 0, -k), -1],
            "The timesteps go up; the way back goes down.": lambda a, k: [-1, *range(a, -1, -k)[::-1]],
            "These are multiples of the stride from 0; the chain begins at its start.": lambda a, k: (
                [*range(a // k * k, -1, -k), -1] if a % k else [*range(a - k, -1, -k), -1]
            ),
        },
    ),
    "E03": Exercise(
        "x_0, noise, alpha_bar_t",
        "x_t",
        forward.q_sample,
        many_small_steps,
        [(*IMAGES[:2], a) for a in LEVELS],
        {
            "Multiply x_0 by sqrt(alpha_bar_t), not by alpha_bar_t.": lambda x, e, a: a * x + (1 - a) ** 0.5 * e,
            "Multiply the noise by sqrt(1 - alpha_bar_t), not by 1 - alpha_bar_t: variances add, deviations do not.": lambda x, e, a: (
                a**0.5 * x + (1 - a) * e
            ),
            "Both factors need a square root.": lambda x, e, a: a * x + (1 - a) * e,
            "The two factors are swapped.": lambda x, e, a: (1 - a) ** 0.5 * x + a**0.5 * e,
            "The image has to fade, too: its factor sqrt(alpha_bar_t) is missing.": lambda x, e, a: x + (1 - a) ** 0.5 * e,
            "The noise has deviation sqrt(1 - alpha_bar_t) in x_t; its factor is missing.": lambda x, e, a: a**0.5 * x + e,
            "The factor of the noise is sqrt(1 - alpha_bar_t), not 1 - sqrt(alpha_bar_t).": lambda x, e, a: a**0.5 * x + (1 - a**0.5) * e,
            **without_a_term(
                {"sqrt(alpha_bar_t) x_0": lambda x, e, a: a**0.5 * x, "sqrt(1 - alpha_bar_t) noise": lambda x, e, a: (1 - a) ** 0.5 * e}
            ),
        },
    ),
    "E04": Exercise(
        "predict_noise, x_0, t, noise, alpha_bar_t",
        "the loss: the squared error summed over pixels and channels, its mean over the images",
        forward.noise_loss,
        loss_of_known_predictors,
        [(_predict, *(IMAGES[0], np.array([5, 6]), IMAGES[1]), a) for a in LEVELS],
        {
            "Sum over pixels and channels; the mean is over the images alone.": _losing(lambda r: (r * r).mean()),
            "The mean over the images is missing: divide by their number.": _losing(lambda r: (r * r).sum()),
            "The errors are not squared.": _losing(lambda r: abs(r).sum() / len(r)),
            "That is the norm; the loss is its square.": _losing(lambda r: ((r * r).sum() / len(r)) ** 0.5),
            "The errors are summed without their squares, so they cancel.": _losing(lambda r: r.sum() / len(r)),
            "The predictor sees the clean image; give it x_t.": lambda f, x_0, t, noise, a: ((noise - f(x_0, t)) ** 2).sum() / len(x_0),
            "The prediction is compared with x_0; it should be compared with the noise.": lambda f, x_0, t, noise, a: (
                ((x_0 - f(a**0.5 * x_0 + (1 - a) ** 0.5 * noise, t)) ** 2).sum() / len(x_0)
            ),
        },
    ),
}
