"""Exercises of the masked observation, guidance, the mask and the chain: E08 to E14."""

import itertools
import math

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.check.exercise import Exercise, agree, normal, without_a_term
from mdps_ref.diffusion.reverse import ddim_step
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.posterior import guidance, mask, observation, sampler

IMAGES = [normal(2, 3, 3, 2, seed=seed) for seed in range(3)]
MASK = (normal(2, 3, 3, 1, seed=7) > 0).astype(float)
LEVELS = (0.7, 0.2)
SMALL = [normal(2, 2, 2, 1, seed=seed) for seed in range(2)]
ROOM = {"start": 50, "timesteps": [50, 30, 10, -1]}


class Draws:
    """draw() -> standard normal noise of one shape; a copy begins again where this one is."""

    def __init__(self, shape, seed=0):
        self.shape, self.generator = shape, np.random.default_rng(seed)

    def __call__(self):
        return self.generator.standard_normal(self.shape)


def predict_noise(x_t, t):
    """A noise predictor that mixes the pixels of an image, for arrays and Tensors."""
    mixed = ops.reshape(x_t, shape=(x_t.shape[0], -1)) @ normal(4, 4, seed=3)
    return ops.reshape(ops.silu(mixed), shape=x_t.shape)


def denoise(x_t, t):
    """A denoiser that nothing leads to y."""
    return np.tanh(x_t) + 0.01 * t


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
    mu, v, sigma, level, y, x_t = 0.3, 0.7, 0.4, 0.5, 0.9, normal(1, 2, 2, 1)
    of_x_t = level * v + 1 - level
    eps = (1 - level) ** 0.5 / of_x_t * (x_t - level**0.5 * mu)
    slope, left = level**0.5 * v / of_x_t, (1 - level) * v / of_x_t
    gradient = slope * (mu + slope * (x_t - level**0.5 * mu) - y) / (left + sigma**2)  # of -log p(y | x_t)
    mean_y, v_y = mu + v / (v + sigma**2) * (y - mu), v * sigma**2 / (v + sigma**2)
    exact = -(x_t - level**0.5 * mean_y) / (level * v_y + 1 - level)
    agree(f(eps, gradient, 1.0, level), exact, "the score of p(x_t | y)")
    agree(f(0 * eps, gradient, 0.5, level), -0.5 * gradient, "the part of the likelihood at weight 0.5")


def misfit_differences(f):
    """central differences of the misfit, entry by entry; and eps is what the network predicts."""
    (x, y), t, level = SMALL, np.array([300, 300]), alpha_bar(300)
    estimate = lambda x: (x - (1 - level) ** 0.5 * predict_noise(x, t)) / level**0.5  # noqa: E731
    misfits = {
        guidance.twice_residual: lambda r: (r * r).sum(),
        guidance.unit_residual: lambda r: sum((one * one).sum() ** 0.5 for one in r),
    }
    for cotangent, misfit in misfits.items():
        eps, gradient = f(predict_noise, x, t, y, level, cotangent)
        agree(eps, predict_noise(x, t), "eps")
        slopes = np.zeros(x.shape)
        for entry in np.ndindex(x.shape):
            step = np.zeros(x.shape)
            step[entry] = 1e-5
            slopes[entry] = (misfit(estimate(x + step) - y) - misfit(estimate(x - step) - y)) / 2e-5
        agree(gradient, slopes, "the gradient of the misfit to x_t", 1e-6)


def unit_length(f):
    """what a gradient of the norm has to be: of length 1 for each image, along its residual, and 0 where the residual is 0."""
    residual = IMAGES[0]
    agree((np.asarray(f(residual)) ** 2).sum(axis=(1, 2, 3)), [1, 1], "the squared length for each image")
    for one, found in zip(residual, f(residual), strict=True):
        agree(found, one / math.sqrt(sum(float(value) ** 2 for value in one.ravel())), "the direction of the residual")
    agree(f(np.zeros((1, 2, 2, 1))), np.zeros((1, 2, 2, 1)), "the gradient where y fits exactly")


def twice(f):
    """the slope of the squared norm, by central differences."""
    slope = ((IMAGES[0] + 1e-4) ** 2 - (IMAGES[0] - 1e-4) ** 2) / 2e-4
    agree(f(IMAGES[0]), slope, "the slope of the squared norm", 1e-7)


def same_at_every_size(f):
    """what a weight without units has to do: the ratio of w to the length of standard normal noise is the strength at every size."""
    for shape in [(1, 1, 1), (8, 4, 3), (32, 32, 3)]:
        entries = shape[0] * shape[1] * shape[2]
        agree(f(0.3, shape) ** 2, 0.3**2 * entries, f"the squared weight at size {shape}")


def shifted_score(f):
    """the noise whose score is the posterior's: its score less that of eps is the likelihood's."""
    eps, gradient = IMAGES[:2]
    for level in (0.7, 0.2):
        change = -(np.asarray(f(eps, gradient, 0.8, level)) - eps) / math.sqrt(1 - level)
        agree(change, -0.8 * gradient, "the change of the score")


def leads_to_y(f):
    """Tweedie's formula, which gives y for it, from any x_t."""
    y, x_t = IMAGES[:2]
    for level in (0.999, 0.4, 0.01):
        agree((x_t - (1 - level) ** 0.5 * np.asarray(f(y, x_t, level))) / level**0.5, y, f"the clean image at alpha_bar_t = {level}")


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


def _without_jacobian(predict, x, t, y, level, cotangent):
    """The cotangent at x0_hat, not pulled back."""
    eps = predict(x, t)
    return eps, cotangent((x - (1 - level) ** 0.5 * eps) / level**0.5 - y)


def _misfit(change):
    """The right pair (eps, gradient), changed."""
    return lambda *arguments: change(arguments, *guidance.misfit_gradient(*arguments))


def _mixed(rule):
    """A denoiser that mixes the two noises by rule(m, eps^m, eps^(1-m))."""
    return lambda f, y, m: lambda x, t: rule(m, f(x, t), (x - alpha_bar(t) ** 0.5 * y) / (1 - alpha_bar(t)) ** 0.5)


def _length(r, axis=(1, 2, 3)):
    return np.sqrt((r * r).sum(axis=axis, keepdims=True))


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
                (-0.5 * m * ((y - x) / s) ** 2).sum(axis=(1, 2, 3))
            ),
            "The 1/2 in the exponent is missing.": lambda y, x, m, s: (
                (m * (-(((y - x) / s) ** 2) - math.log(s * math.sqrt(2 * math.pi)))).sum(axis=(1, 2, 3))
            ),
            "Divide the residual by sigma before squaring: the variance is sigma^2.": lambda y, x, m, s: (
                (m * (-0.5 * (y - x) ** 2 / s - math.log(s * math.sqrt(2 * math.pi)))).sum(axis=(1, 2, 3))
            ),
            "You forgot the mask: only suspected entries have a density.": lambda y, x, m, s: (
                (-0.5 * ((y - x) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi))).sum(axis=(1, 2, 3))
            ),
            "That is the mean over the entries; log densities of independent entries add.": lambda y, x, m, s: (
                (m * (-0.5 * ((y - x) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi)))).mean(axis=(1, 2, 3))
            ),
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
            "The weight is missing.": lambda e, g, w, a: -e / (1 - a) ** 0.5 - g,
            "Divide by sqrt(1 - alpha_bar_t); you multiply by it.": lambda e, g, w, a: -e * (1 - a) ** 0.5 - w * g,
            "Only eps is divided by sqrt(1 - alpha_bar_t); the gradient is a score already.": lambda e, g, w, a: -(e + w * g) / (1 - a) ** 0.5,
            **without_a_term({"-eps / sqrt(1 - alpha_bar_t)": lambda e, g, w, a: -e / (1 - a) ** 0.5, "-weight gradient": lambda e, g, w, a: -w * g}),
        },
    ),
    "E10": Exercise(
        "predict_noise, x_t, t, y, alpha_bar_t, cotangent",
        "eps, and the gradient to x_t of the misfit between x0_hat(x_t) and y",
        guidance.misfit_gradient,
        misfit_differences,
        [(predict_noise, SMALL[0], np.array([300, 300]), SMALL[1], a, guidance.twice_residual) for a in LEVELS],
        {
            "The gradient is that to x0_hat; pull it back to x_t.": _without_jacobian,
            "The gradient has the wrong sign: the residual is x0_hat - y.": _misfit(lambda _, eps, g: (eps, -g)),
            "The factor 2 of the square is missing: use the cotangent that was given.": _misfit(lambda _, eps, g: (eps, g / 2)),
            "The gradient alone is not enough: return eps and the gradient.": _misfit(lambda _, eps, g: g),
            "Gradient and eps are swapped.": _misfit(lambda _, eps, g: (g, eps)),
            "The network was forgotten: x_t also acts on x0_hat through eps.": lambda f, x, t, y, a, c: (
                f(x, t),
                c((x - (1 - a) ** 0.5 * f(x, t)) / a**0.5 - y) / a**0.5,
            ),
        },
    ),
    "E10 norm": Exercise(
        "residual",
        "the gradient of the norm of each image's residual",
        guidance.unit_residual,
        unit_length,
        [(IMAGES[0],)],
        {
            "The norm runs over the whole batch; each image has its own.": lambda r: r / np.sqrt((r * r).sum()),
            "That is the gradient of the squared norm.": lambda r: 2 * r,
            "That is the residual; divide it by its norm.": lambda r: r,
            "Divide by the norm; you divide by its square.": lambda r: r / _length(r) ** 2,
            "The norm runs over the channels of each pixel; it should run over the whole image.": lambda r: r / _length(r, axis=-1),
            "That is the norm itself; its gradient is asked for.": lambda r: _length(r),
        },
    ),
    "E10 squared norm": Exercise(
        "residual",
        "the gradient of the squared norm of each image's residual",
        guidance.twice_residual,
        twice,
        [(IMAGES[0],)],
        {
            "The 2 is missing: the slope of r^2 is 2 r.": lambda r: r,
            "That is the gradient of the norm, not of its square.": guidance.unit_residual,
            "That is the squared residual; its gradient is asked for.": lambda r: r * r,
        },
    ),
    "E10 weight": Exercise(
        "strength, shape",
        "the weight w of a strength without units, for an image of this shape",
        guidance.guidance_weight,
        same_at_every_size,
        [(0.3, (8, 4, 3)), (0.1, (16, 16, 3))],
        {
            "The length of noise grows with the root of the number of entries; the root is missing.": lambda s, shape: s * math.prod(shape),
            "Multiply by the root; you divide by it.": lambda s, shape: s / math.prod(shape) ** 0.5,
            "The channels are entries, too.": lambda s, shape: s * (shape[0] * shape[1]) ** 0.5,
            "The weight has to grow with the image: the factor sqrt(H W C) is missing.": lambda s, shape: s,
        },
    ),
    "E11": Exercise(
        "eps, gradient, weight, alpha_bar_t",
        "eps^m, the noise of suspected pixels",
        guidance.guided_noise,
        shifted_score,
        [(*IMAGES[:2], 0.8, a) for a in LEVELS],
        {
            "The factor sqrt(1 - alpha_bar_t) of the gradient is missing: it turns a score into a noise.": lambda e, g, w, a: e + w * g,
            "Multiply the gradient by sqrt(1 - alpha_bar_t), not by 1 - alpha_bar_t.": lambda e, g, w, a: e + w * (1 - a) * g,
            "The weight is missing.": lambda e, g, w, a: e + (1 - a) ** 0.5 * g,
            "Multiply the gradient by sqrt(1 - alpha_bar_t); you divide by it.": lambda e, g, w, a: e + w * g / (1 - a) ** 0.5,
            "That is the posterior's score; a noise is -sqrt(1 - alpha_bar_t) times a score.": guidance.posterior_score,
            "The factor of the gradient is sqrt(1 - alpha_bar_t), not sqrt(alpha_bar_t).": lambda e, g, w, a: e + w * a**0.5 * g,
            **without_a_term({"eps": lambda e, g, w, a: e, "of the gradient": lambda e, g, w, a: w * (1 - a) ** 0.5 * g}),
        },
    ),
    "E12": Exercise(
        "y, x_t, alpha_bar_t",
        "eps^(1-m), the noise that leads normal pixels to y",
        guidance.noise_towards,
        leads_to_y,
        [(*IMAGES[:2], a) for a in LEVELS],
        {
            "Multiply y by sqrt(alpha_bar_t), not by alpha_bar_t.": lambda y, x, a: (x - a * y) / (1 - a) ** 0.5,
            "y has to fade as in x_t: its factor sqrt(alpha_bar_t) is missing.": lambda y, x, a: (x - y) / (1 - a) ** 0.5,
            "The division by sqrt(1 - alpha_bar_t) is missing.": lambda y, x, a: x - a**0.5 * y,
            "Divide by sqrt(1 - alpha_bar_t), not by 1 - alpha_bar_t.": lambda y, x, a: (x - a**0.5 * y) / (1 - a),
            "The difference is the wrong way round: it is x_t - sqrt(alpha_bar_t) y.": lambda y, x, a: (a**0.5 * y - x) / (1 - a) ** 0.5,
            "y and x_t are swapped: the arguments are (y, x_t, alpha_bar_t).": lambda y, x, a: (y - a**0.5 * x) / (1 - a) ** 0.5,
        },
    ),
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
        apply=lambda f, d, y, m, x_t, t: f(d, y, m)(x_t, t),
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
            "The threshold is a value of the map, not a share of its largest value.": lambda maps, h: (
                (maps > h * maps.max()).astype(float)[..., None]
            ),
            "Those are the values above the threshold; the mask is 1 there.": lambda maps, h: np.where(maps > h, maps, 0)[..., None],
        },
    ),
}
