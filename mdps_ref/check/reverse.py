"""Exercises of one step back: E05 to E07."""

from mdps_ref.check.exercise import IMAGES, LEVELS, STEPS, Exercise, agree, normal, without_a_term
from mdps_ref.diffusion import reverse


def regression(f):
    """the mean of a Gaussian world in closed form; it also undoes the forward process."""
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


EXERCISES = {
    "E05": Exercise(
        "x_t, eps, alpha_bar_t",
        "x0_hat, the clean image which that noise implies",
        reverse.tweedie,
        regression,
        [(*IMAGES[:2], a) for a in LEVELS],
        {
            "Multiply eps by sqrt(1 - alpha_bar_t), not by 1 - alpha_bar_t.": lambda x, e, a: (x - (1 - a) * e) / a**0.5,
            "The division by sqrt(alpha_bar_t) is missing: the image in x_t has faded.": lambda x, e, a: x - (1 - a) ** 0.5 * e,
            "Divide by sqrt(alpha_bar_t), not by alpha_bar_t.": lambda x, e, a: (x - (1 - a) ** 0.5 * e) / a,
            "Both factors need a square root.": lambda x, e, a: (x - (1 - a) * e) / a,
            "The two factors are swapped.": lambda x, e, a: (x - a**0.5 * e) / (1 - a) ** 0.5,
            "Divide by sqrt(alpha_bar_t); you multiply by it.": lambda x, e, a: (x - (1 - a) ** 0.5 * e) * a**0.5,
            "Only eps is divided by sqrt(alpha_bar_t): mind the brackets.": lambda x, e, a: x - (1 - a) ** 0.5 * e / a**0.5,
            "The noise has its full length: multiply eps by sqrt(1 - alpha_bar_t).": lambda x, e, a: (x - e) / a**0.5,
            **without_a_term(
                {"x_t / sqrt(alpha_bar_t)": lambda x, e, a: x / a**0.5, "of eps": lambda x, e, a: -(((1 - a) / a) ** 0.5) * e}
            ),
        },
    ),
    "E05 score": Exercise(
        "eps, alpha_bar_t",
        "the score of p(x_t) that the predicted noise implies",
        lambda eps, alpha_bar_t: -eps / (1 - alpha_bar_t) ** 0.5,
        slope_of_log_density,
        [(IMAGES[1], a) for a in LEVELS],
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
        [(*IMAGES[:2], a, b) for a, b in STEPS],
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
        [(*IMAGES, a, b) for a, b in STEPS],
        {
            "c2 leaves no room for the fresh noise: it is sqrt(1 - alpha_bar_s - c1^2).": lambda x, e, z, a, b: _step(
                x, e, z, a, b, b**0.5, no_c1_in_c2=True
            ),
            "c1 and c2 are swapped: c1 belongs to the fresh noise z.": lambda x, e, z, a, b: _step(x, e, z, a, b, b**0.5, swapped=True),
            "x0_hat has to be noised to the level of s: its factor sqrt(alpha_bar_s) is missing.": _step,
            "The factor of x0_hat is sqrt(alpha_bar_s), not alpha_bar_s.": lambda x, e, z, a, b: _step(x, e, z, a, b, b),
            "The step goes on from the estimate x0_hat, not from x_t.": lambda x, e, z, a, b: _step(x, e, z, a, b, 0.0) + b**0.5 * x,
            "c1 is a root; that is c1^2.": lambda x, e, z, a, b: (
                b**0.5 * _clean(x, e, a) + _c1(a, b) ** 2 * z + (1 - b - _c1(a, b) ** 4) ** 0.5 * e
            ),
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
        [(a, b, eta) for (a, b), eta in zip(STEPS, (1.0, 0.5), strict=True)],
        {
            "c2 leaves no room for the fresh noise: it is sqrt(1 - alpha_bar_s - c1^2).": lambda a, b, eta: (
                eta * _c1(a, b),
                (1 - b) ** 0.5,
            ),
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
