"""Guidance: how a noise predictor is bent towards the test image, and the noise that leads back to it.

A noise predictor is a function `predict_noise(x_t, t) -> eps`: the network, with an int t for each image. A denoiser is a function
`denoise(x_t, t) -> eps`, with one int t for all images. A guide makes a denoiser: `guide(predict_noise, y, weight, mask=None) -> denoise`.

A gradient needs two calls to the array library. `Tensor(x_t)` makes the network write down what it does with x_t. Then
`pull_back(x0_hat, g, [x])` gives J^T g, where J is the slope of x0_hat at x_t. Every image is guided by itself, so its result
never depends on its neighbours. As in the paper, m = 1 on suspected pixels and m = 0 on normal ones.
"""

import math

import numpy as np

from mdps_ref.autograd.tape import Tensor, pull_back, value_of
from mdps_ref.backend import array_module
from mdps_ref.diffusion.reverse import tweedie
from mdps_ref.diffusion.schedule import alpha_bar


def posterior_score(eps, gradient, weight, alpha_bar_t):
    """Score of the posterior p(x_t | y).

    Parameters
    ----------
    eps : array, (N, H, W, C)
        The noise predicted from x_t.
    gradient : array, (N, H, W, C)
        The gradient of the misfit to x_t.
    weight : float
        If the misfit is the squared norm, w = 1 / (2 sigma^2) is right for an observation of deviation sigma. If it is the norm, a
        weight w acts as if the observation had the variance norm / w.
    alpha_bar_t : float

    Returns
    -------
    array, (N, H, W, C)

    Equation
    --------
    E09 : grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t) = -eps / sqrt(1 - alpha_bar_t) - weight gradient

    References
    ----------
    Bayes' rule; DPS (Chung et al. 2023), Eq. 6.
    """
    return -eps / (1 - alpha_bar_t) ** 0.5 - weight * gradient


def guided_noise(eps, gradient, weight, alpha_bar_t):
    """Noise of suspected pixels: its score is the posterior's.

    Parameters
    ----------
    eps, gradient, weight, alpha_bar_t
        As in `posterior_score`.

    Returns
    -------
    array, (N, H, W, C)

    Equation
    --------
    E11 : eps^m = eps + weight sqrt(1 - alpha_bar_t) gradient

    References
    ----------
    MDPS, Fig. 1; Dhariwal & Nichol 2021, Eq. 14.
    """
    return -((1 - alpha_bar_t) ** 0.5) * posterior_score(eps, gradient, weight, alpha_bar_t)


def noise_towards(y, x_t, alpha_bar_t):
    """Noise of normal pixels: its Tweedie estimate is y.

    Parameters
    ----------
    y, x_t : array, (N, H, W, C)
    alpha_bar_t : float

    Returns
    -------
    array, (N, H, W, C)

    Equation
    --------
    E12 : eps^(1-m) = (x_t - sqrt(alpha_bar_t) y) / sqrt(1 - alpha_bar_t)

    References
    ----------
    MDPS, Eq. (10).
    """
    return (x_t - alpha_bar_t**0.5 * y) / (1 - alpha_bar_t) ** 0.5


def misfit_gradient(predict_noise, x_t, t, y, alpha_bar_t, cotangent):
    """Predicted noise, and the gradient of the misfit between x0_hat(x_t) and y, from one forward pass.

    x_t alone is wrapped, so the gradient to the network's weights is not computed. The misfit runs over all pixels, as in MDPS's Fig. 1.

    Parameters
    ----------
    predict_noise : callable
    x_t, y : array, (N, H, W, C)
    t : array of ints, (N,), on the host
    alpha_bar_t : float
    cotangent : callable
        The gradient of the misfit to x0_hat, as a function of the residual x0_hat - y: `unit_residual` or `twice_residual`.

    Returns
    -------
    eps, gradient : array, (N, H, W, C)

    Equation
    --------
    E10 : the gradient to x_t of || x0_hat(x_t) - y ||, or of its square, is the cotangent r / || r || or 2 r, r = x0_hat - y,
        pulled back through x0_hat(x_t)

    References
    ----------
    DPS, Eq. 16. There the squared norm is weighted by rho_t. The norm with weight w is the same as rho_t = w / (2 norm), as in DPS's code.
    """
    wrapped = Tensor(x_t)
    eps = predict_noise(wrapped, t)
    x0_hat = tweedie(wrapped, eps, alpha_bar_t)
    (gradient,) = pull_back(x0_hat, cotangent(x0_hat.value - y), [wrapped], last=True)
    return value_of(eps), gradient


def unit_residual(residual):
    """Gradient of the norm of each image's residual, (N, H, W, C): the residual over its norm; 0 for an image that fits exactly."""
    length = array_module(residual).sqrt((residual * residual).sum(axis=(1, 2, 3), keepdims=True))
    return residual / (length + (length == 0))


def twice_residual(residual):
    """Gradient of the squared norm of each image's residual, (N, H, W, C)."""
    return 2 * residual


def moment_matched_gradient(predict_noise, x_t, t, y, mask, variance, alpha_bar_t, iterations=3):
    """Predicted noise, and the gradient of a likelihood that knows how uncertain x0_hat is. DPS neglects that variance.

    V_t g = (1 - alpha_bar_t) / sqrt(alpha_bar_t) J_t^T g, where J_t is the slope of x0_hat. So each step of conjugate gradients costs one
    pullback. If images are Gaussian, enough steps guide to E[eps | x_t, y] exactly, Eq. (10) included. A trained network's J_t is
    only nearly symmetric, so stop early.

    Parameters
    ----------
    predict_noise : callable
    x_t, y : array, (N, H, W, C)
    t : array of ints, (N,), on the host
    mask : array, (N, H, W, 1)
    variance : float
        Of the observation on suspected pixels.
    alpha_bar_t : float
    iterations : int

    Returns
    -------
    eps, gradient : array, (N, H, W, C)

    Equation
    --------
    E10 : the gradient to x_t of -log N(y; x0_hat(x_t), V_t + R), where V_t = Cov[x_0 | x_t], and R is the variance of y on suspected
        pixels and 0 on normal pixels

    References
    ----------
    Rozet et al. 2024.
    """
    wrapped = Tensor(x_t)
    eps = predict_noise(wrapped, t)
    x0_hat = tweedie(wrapped, eps, alpha_bar_t)

    def to_x_t(g):
        return pull_back(x0_hat, g, [wrapped])[0]

    def covariance(g):
        return (1 - alpha_bar_t) / alpha_bar_t**0.5 * to_x_t(g) + variance * mask * g

    return value_of(eps), to_x_t(conjugate_gradients(covariance, x0_hat.value - y, iterations))


def conjugate_gradients(apply, b, iterations):
    """Solve apply(u) = b for every image by itself; `apply` is a symmetric positive map.

    Parameters
    ----------
    apply : callable
    b : array, (N, H, W, C)
    iterations : int

    Returns
    -------
    array, (N, H, W, C)

    References
    ----------
    Hestenes & Stiefel 1952.
    """

    def dot(p, q):
        return (p * q).sum(axis=(1, 2, 3), keepdims=True)

    def ratio(p, q):
        return p / (q + (q == 0))

    u, residual, direction = 0 * b, b, b
    for _ in range(iterations):
        applied = apply(direction)
        length = dot(residual, residual)
        step = ratio(length, dot(direction, applied))
        u, residual = u + step * direction, residual - step * applied
        direction = residual + ratio(dot(residual, residual), length) * direction
    return u


def misfit_guide(predict_noise, y, weight, cotangent):
    """Make the denoiser that is guided by the gradient of a misfit.

    Parameters
    ----------
    predict_noise : callable
    y : array, (N, H, W, C)
        The test images.
    weight : float
    cotangent : callable
        Which misfit: its gradient to x0_hat, as in `misfit_gradient`.

    Returns
    -------
    callable
        A denoiser.
    """

    def denoise(x_t, t):
        level = alpha_bar(t)
        eps, gradient = misfit_gradient(predict_noise, x_t, np.full(len(x_t), t), y, level, cotangent)
        return guided_noise(eps, gradient, weight, level)

    return denoise


def norm_guide(predict_noise, y, weight, mask=None):
    """Guide by the norm of y - x0_hat. Parameters and return value as in `misfit_guide`; the mask plays no part."""
    return misfit_guide(predict_noise, y, weight, unit_residual)


def squared_norm_guide(predict_noise, y, weight, mask=None):
    """Guide by the squared norm of y - x0_hat. Parameters and return value as in `misfit_guide`; the mask plays no part."""
    return misfit_guide(predict_noise, y, weight, twice_residual)


def moment_matched_guide(predict_noise, y, weight, mask=None):
    """Guide by the likelihood that keeps the variance of x0_hat, see `moment_matched_gradient`; each step costs four pullbacks.

    Parameters
    ----------
    predict_noise : callable
    y : array, (N, H, W, C)
    weight : float, above 0
        w stands for a variance of 1 / (2 w) of y on suspected pixels, as with the squared norm.
    mask : array, (N, H, W, 1), or None
        1 on suspected pixels; None if all are suspected.

    Returns
    -------
    callable
        A denoiser.
    """
    mask = array_module(y).ones_like(y[..., :1]) if mask is None else mask

    def denoise(x_t, t):
        level = alpha_bar(t)
        eps, gradient = moment_matched_gradient(predict_noise, x_t, np.full(len(x_t), t), y, mask, 1 / (2 * weight), level)
        return guided_noise(eps, gradient, 1.0, level)

    return denoise


GUIDES = {"norm": norm_guide, "squared_norm": squared_norm_guide, "moment_matched": moment_matched_guide}


def guidance_weight(strength, shape):
    """Weight w of a guide for a strength without units. Every guide gets the same w, though the scale suits the norm's gradient alone.

    The noise has a length of about sqrt(H W C); the gradient of the norm (Euclidean, as always here) has the length 1 at x0_hat, but
    not at x_t, where it was 0.42 to 0.49 through a trained UNet at t = 200. One strength means the same at two sizes only where the
    larger images are the smaller ones enlarged, with exactly the same statistics.

    Parameters
    ----------
    strength : float
    shape : (int, int, int)
        (H, W, C) of one image.

    Returns
    -------
    float
        w = strength sqrt(H W C).
    """
    return strength * math.sqrt(math.prod(shape))
