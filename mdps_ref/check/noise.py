"""Exercises of the forward process and of one step back: E01 to E07."""

from fractions import Fraction

import numpy as np

from mdps_ref.check.exercise import Exercise, agree, normal, without_a_term
from mdps_ref.diffusion import forward, reverse, schedule

LEVELS = [(0.7, 0.9), (0.2, 0.6)]  # alpha_bar of t and of s, for the cases
IMAGES = [normal(2, 3, 3, 2, seed=seed) for seed in range(3)]


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


def regression(f):
    """the posterior mean of a Gaussian world by regression, and it undoes the forward process."""
    mu, v, level, x_t = 0.3, 0.7, 0.4, normal(5)
    away = (x_t - level**0.5 * mu) / (level * v + 1 - level)
    agree(f(x_t, (1 - level) ** 0.5 * away, level), mu + level**0.5 * v * away, "E[x_0 | x_t] of a Gaussian world")
    for level in (0.99, 0.4, 0.05):
        x_0, eps = IMAGES[:2]
        agree(f(level**0.5 * x_0 + (1 - level) ** 0.5 * eps, eps, level), x_0, f"x_0 from its own x_t at alpha_bar = {level}")


def slope_of_log_density(f):
    """the slope of log p(x_t) of a Gaussian world, by central differences."""
    mu, v, level, x, h = 0.3, 0.7, 0.4, normal(5), 1e-5
    mean, variance = level**0.5 * mu, level * v + 1 - level
    slope = ((x - h - mean) ** 2 - (x + h - mean) ** 2) / (4 * h * variance)
    agree(f((1 - level) ** 0.5 / variance * (x - mean), level), slope, "the slope of log p(x_t)", 1e-7)


def product_of_gaussians(f):
    """the product of two Gaussians, q(x_t | x_s) and q(x_s | x_0): precisions add, means are weighted by them."""
    x_0, x_t = normal(4), normal(4, seed=1)
    for to_t, to_s in [(0.99, 0.995), (0.3, 0.31), (0.05, 0.9)]:
        step = to_t / to_s
        of_t, of_0 = step / (1 - step), 1 / (1 - to_s)
        mean, variance = f(x_0, x_t, to_t, to_s)
        agree(variance * (of_t + of_0), 1, "the variance times the sum of both precisions")
        agree(mean, (of_t * x_t / step**0.5 + of_0 * to_s**0.5 * x_0) / (of_t + of_0), "the mean weighted by precisions")


def noise_levels(f):
    """DDPM's posterior, whose variance is c1^2, and the noise level of s: c1^2 + c2^2 = 1 - alpha_bar_s."""
    for to_t, to_s in [(0.99, 0.995), (0.3, 0.31), (0.05, 0.9), (0.999, 1.0)]:
        for eta in (0.0, 0.4, 1.0):
            c1, c2 = f(to_t, to_s, eta)
            agree(c1**2 + c2**2, 1 - to_s, "c1^2 + c2^2")
            agree(c1**2 * (to_t / (1 - to_t / to_s) * (1 - to_s) / to_s + 1), eta**2 * (1 - to_s), "c1^2 by the precisions of E06")


def posterior_at_the_estimate(f):
    """DDPM's posterior at the estimated x_0, and the last step returns the estimate."""
    x_t, eps, z = normal(4), normal(4, seed=1), normal(4, seed=2)
    for to_t, to_s in [(0.3, 0.31), (0.05, 0.9)]:
        x_0, step = (x_t - (1 - to_t) ** 0.5 * eps) / to_t**0.5, to_t / to_s
        variance = 1 / (step / (1 - step) + 1 / (1 - to_s))
        mean = variance * (step**0.5 / (1 - step) * x_t + to_s**0.5 / (1 - to_s) * x_0)
        agree(f(x_t, eps, z, to_t, to_s), mean + variance**0.5 * z, "the step back of DDPM")
    agree(f(x_t, eps, z, 0.99, 1.0), (x_t - 0.01**0.5 * eps) / 0.99**0.5, "the last step, at alpha_bar_s = 1")


def _step(x_t, eps, z, a, b, scale=1.0, no_c1_in_c2=False, swapped=False):
    """A DDIM step with faults."""
    c1 = ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5
    c2 = (1 - b) ** 0.5 if no_c1_in_c2 else (1 - b - c1**2) ** 0.5
    c1, c2 = (c2, c1) if swapped else (c1, c2)
    return scale * (x_t - (1 - a) ** 0.5 * eps) / a**0.5 + c1 * z + c2 * eps


def _coefficients(c1, a, b):
    """c1 and the c2 that belongs to it."""
    return c1, max(0.0, 1 - b - c1**2) ** 0.5


def _clean(x_t, eps, a):
    return (x_t - (1 - a) ** 0.5 * eps) / a**0.5


def _c1(a, b):
    return ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5


def _variance(a, b):
    return (1 - a / b) * (1 - b) / (1 - a)


def _means(x_0, x_t, a, b):
    """The two terms of E06's mean."""
    return b**0.5 * (1 - a / b) / (1 - a) * x_0, (a / b) ** 0.5 * (1 - b) / (1 - a) * x_t


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
            "These are multiples of the stride from 0; the chain begins at its start.": lambda a, k: [*range(a // k * k, -1, -k), -1]
            if a % k
            else [*range(a - k, -1, -k), -1],
        },
    ),
    "E03": Exercise(
        "x_0, noise, alpha_bar_t",
        "x_t",
        forward.q_sample,
        many_small_steps,
        [(*IMAGES[:2], a) for a, _ in LEVELS],
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
            **without_a_term({"sqrt(alpha_bar_t) x_0": lambda x, e, a: a**0.5 * x, "sqrt(1 - alpha_bar_t) noise": lambda x, e, a: (1 - a) ** 0.5 * e}),
        },
    ),
    "E04": Exercise(
        "predict_noise, x_0, t, noise, alpha_bar_t",
        "the loss: the squared error summed over pixels and channels, its mean over the images",
        forward.noise_loss,
        loss_of_known_predictors,
        [(_predict, *(IMAGES[0], np.array([5, 6]), IMAGES[1]), a) for a, _ in LEVELS],
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
    "E05": Exercise(
        "x_t, eps, alpha_bar_t",
        "x0_hat, the clean image which that noise implies",
        reverse.tweedie,
        regression,
        [(*IMAGES[:2], a) for a, _ in LEVELS],
        {
            "Multiply eps by sqrt(1 - alpha_bar_t), not by 1 - alpha_bar_t.": lambda x, e, a: (x - (1 - a) * e) / a**0.5,
            "The division by sqrt(alpha_bar_t) is missing: the image in x_t has faded.": lambda x, e, a: x - (1 - a) ** 0.5 * e,
            "Divide by sqrt(alpha_bar_t), not by alpha_bar_t.": lambda x, e, a: (x - (1 - a) ** 0.5 * e) / a,
            "Divide by sqrt(alpha_bar_t); you multiply by it.": lambda x, e, a: (x - (1 - a) ** 0.5 * e) * a**0.5,
            "Only eps is divided by sqrt(alpha_bar_t): mind the brackets.": lambda x, e, a: x - (1 - a) ** 0.5 * e / a**0.5,
            "The noise has its full length: multiply eps by sqrt(1 - alpha_bar_t).": lambda x, e, a: (x - e) / a**0.5,
            **without_a_term({"x_t / sqrt(alpha_bar_t)": lambda x, e, a: x / a**0.5, "of eps": lambda x, e, a: -(((1 - a) / a) ** 0.5) * e}),
        },
    ),
    "E05 score": Exercise(
        "eps, alpha_bar_t",
        "the score of p(x_t) that the predicted noise implies",
        lambda eps, alpha_bar_t: -eps / (1 - alpha_bar_t) ** 0.5,
        slope_of_log_density,
        [(IMAGES[1], a) for a, _ in LEVELS],
        {
            "The score points against the noise, back to the images: the minus is missing.": lambda e, a: e / (1 - a) ** 0.5,
            "Divide by the deviation of the noise, sqrt(1 - alpha_bar_t).": lambda e, a: -e,
            "Divide by sqrt(1 - alpha_bar_t), not by 1 - alpha_bar_t.": lambda e, a: -e / (1 - a),
            "Divide by sqrt(1 - alpha_bar_t); you multiply by it.": lambda e, a: -e * (1 - a) ** 0.5,
            "Divide by sqrt(1 - alpha_bar_t), not by sqrt(alpha_bar_t).": lambda e, a: -e / a**0.5,
        },
    ),
    "E06": Exercise(
        "x_0, x_t, alpha_bar_t, alpha_bar_s",
        "mean and variance of q(x_s | x_t, x_0)",
        reverse.q_posterior,
        product_of_gaussians,
        [(*IMAGES[:2], a, b) for a, b in LEVELS],
        {
            "In the mean x_0 has the factor sqrt(alpha_bar_s), not sqrt(alpha_bar_t).": lambda x_0, x_t, a, b: (
                _means(x_0, x_t, a, b)[0] * (a / b) ** 0.5 + _means(x_0, x_t, a, b)[1],
                _variance(a, b),
            ),
            "That is the variance of q(x_t | x_s), the step forward; knowing x_0 makes it smaller by "
            "(1 - alpha_bar_s) / (1 - alpha_bar_t).": lambda x_0, x_t, a, b: (sum(_means(x_0, x_t, a, b)), 1 - a / b),
            "That is the standard deviation; the variance is asked for.": lambda x_0, x_t, a, b: (
                sum(_means(x_0, x_t, a, b)),
                _variance(a, b) ** 0.5,
            ),
            "The division by 1 - alpha_bar_t is missing in the mean.": lambda x_0, x_t, a, b: (
                sum(_means(x_0, x_t, a, b)) * (1 - a),
                _variance(a, b),
            ),
            "The weights of x_0 and x_t are swapped.": lambda x_0, x_t, a, b: (sum(_means(x_t, x_0, a, b)), _variance(a, b)),
            "The part of x_t is missing in the mean.": lambda x_0, x_t, a, b: (_means(x_0, x_t, a, b)[0], _variance(a, b)),
            "The part of x_0 is missing in the mean.": lambda x_0, x_t, a, b: (_means(x_0, x_t, a, b)[1], _variance(a, b)),
            "Mean and variance are swapped.": lambda x_0, x_t, a, b: (_variance(a, b), sum(_means(x_0, x_t, a, b))),
            "The variance is missing: return mean and variance.": lambda x_0, x_t, a, b: sum(_means(x_0, x_t, a, b)),
        },
    ),
    "E07": Exercise(
        "x_t, eps, z, alpha_bar_t, alpha_bar_s",
        "x_s, one DDIM step with eta = 1",
        reverse.ddim_step,
        posterior_at_the_estimate,
        [(*IMAGES, a, b) for a, b in LEVELS],
        {
            "c2 leaves no room for the fresh noise: it is sqrt(1 - alpha_bar_s - c1^2).": lambda x, e, z, a, b: _step(
                x, e, z, a, b, b**0.5, no_c1_in_c2=True
            ),
            "c1 and c2 are swapped: c1 belongs to the fresh noise z.": lambda x, e, z, a, b: _step(x, e, z, a, b, b**0.5, swapped=True),
            "x0_hat has to be noised to the level of s: its factor sqrt(alpha_bar_s) is missing.": _step,
            "The factor of x0_hat is sqrt(alpha_bar_s), not alpha_bar_s.": lambda x, e, z, a, b: _step(x, e, z, a, b, b),
            "The factor of x0_hat is that of s, sqrt(alpha_bar_s), not that of t.": lambda x, e, z, a, b: _step(x, e, z, a, b, a**0.5),
            "That is the step of eta = 0, without fresh noise.": lambda x, e, z, a, b: b**0.5 * _clean(x, e, a) + (1 - b) ** 0.5 * e,
            **without_a_term(
                {
                    "sqrt(alpha_bar_s) x0_hat": lambda x, e, z, a, b: b**0.5 * _clean(x, e, a),
                    "c1 z": lambda x, e, z, a, b: _c1(a, b) * z,
                    "c2 eps": lambda x, e, z, a, b: (1 - b - _c1(a, b) ** 2) ** 0.5 * e,
                }
            ),
        },
    ),
    "E07 coefficients": Exercise(
        "alpha_bar_t, alpha_bar_s, ddim_eta",
        "c1 of the fresh noise and c2 of eps",
        reverse.ddim_coefficients,
        noise_levels,
        [(a, b, eta) for (a, b), eta in zip(LEVELS, (1.0, 0.5), strict=True)],
        {
            "c2 leaves no room for the fresh noise: it is sqrt(1 - alpha_bar_s - c1^2).": lambda a, b, eta: (eta * _c1(a, b), (1 - b) ** 0.5),
            "In c1 the first factor is 1 - alpha_bar_t / alpha_bar_s.": lambda a, b, eta: _coefficients(eta * (1 - b) ** 0.5, a, b),
            "eta is missing in c1.": lambda a, b, eta: _coefficients(_c1(a, b), a, b),
            "That is c1^2; the square root is missing.": lambda a, b, eta: _coefficients(eta * _c1(a, b) ** 2, a, b),
            "c1 and c2 are swapped.": lambda a, b, eta: _coefficients(eta * _c1(a, b), a, b)[::-1],
            "Those are the squares: c1 and c2 are deviations.": lambda a, b, eta: (
                (eta * _c1(a, b)) ** 2,
                1 - b - (eta * _c1(a, b)) ** 2,
            ),
        },
    ),
}
