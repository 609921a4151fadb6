"""Exercises of guidance, and of the noise that leads back: E10 to E12."""

import math

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.check.exercise import IMAGES, LEVELS, Exercise, agree, normal, without_a_term
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.posterior import guidance

SMALL = [normal(2, 2, 2, 1, seed=seed) for seed in range(2)]


def predict_noise(x_t, t):
    """A noise predictor that mixes the pixels of an image, for arrays and Tensors."""
    mixed = ops.reshape(x_t, shape=(x_t.shape[0], -1)) @ normal(4, 4, seed=3)
    return ops.reshape(ops.silu(mixed), shape=x_t.shape)


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
    """Tweedie's formula (E05): with your noise it gives y, from any x_t."""
    y, x_t = IMAGES[:2]
    for level in (0.999, 0.4, 0.01):
        agree((x_t - (1 - level) ** 0.5 * np.asarray(f(y, x_t, level))) / level**0.5, y, f"the clean image at alpha_bar_t = {level}")


def _without_jacobian(predict, x, t, y, level, cotangent):
    """The cotangent at x0_hat, not pulled back."""
    eps = predict(x, t)
    return eps, cotangent((x - (1 - level) ** 0.5 * eps) / level**0.5 - y)


def _misfit(change):
    """The right pair (eps, gradient), changed."""
    return lambda *arguments: change(arguments, *guidance.misfit_gradient(*arguments))


def _length(r, axis=(1, 2, 3)):
    return np.sqrt((r * r).sum(axis=axis, keepdims=True))


EXERCISES = {
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
            "The two factors are swapped.": lambda y, x, a: (x - (1 - a) ** 0.5 * y) / a**0.5,
            "The difference is the wrong way round: it is x_t - sqrt(alpha_bar_t) y.": lambda y, x, a: (a**0.5 * y - x) / (1 - a) ** 0.5,
            "y and x_t are swapped: the arguments are (y, x_t, alpha_bar_t).": lambda y, x, a: (y - a**0.5 * x) / (1 - a) ** 0.5,
        },
    ),
}
