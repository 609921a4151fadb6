"""How a noise predictor is bent towards the test image: the likelihood's gradient, and the noise that leads back to y.

The letters of the paper: m = 1 means suspected. One norm an image, so an image's result never depends on its neighbours, unless the
authors' norm over the batch is asked for.
"""

import math

from mdps_ref.autograd.tape import Tensor, pull_back, value_of
from mdps_ref.backend import array_module
from mdps_ref.diffusion.reverse import tweedie

GUIDANCES = ("norm", "squared_norm", "moment_matched")


def guidance_weight(strength, shape):
    """The weight w on the gradient of the norm for a dimensionless strength:  w = strength sqrt(H W C).

    That gradient has a length of about 1 whatever the image's size, the noise it is added to one of about sqrt(H W C); so one
    strength means the same at every size.  Shapes: shape is that of one image, (H, W, C).
    """
    return strength * math.sqrt(math.prod(shape))


def misfit_gradient(predict_noise, x_t, t, y, alpha_bar_t, guidance="norm", norm_over="image"):
    """eps_theta(x_t, t) and the gradient to x_t of the misfit || y - x0_hat(x_t) ||, or of its square, from one forward pass.

    Eq: E10 (DPS, Eq. 16, with the norm as in its code: rho_t = w / (2 norm)).  x_t alone is wrapped, so no weight gradient is paid for.
    The misfit runs over all pixels, as in MDPS's Fig. 1; on normal ones, whose noise leads to y anyway, it is small.
    norm_over: "image", or "batch" for the norm of all images as one, as in the authors' code: for N alike it is sqrt(N) larger.
    Shapes: x_t, y (N, H, W, C), t (N) -> two arrays like x_t.  An image that fits exactly gets gradient 0.
    """
    wrapped = Tensor(x_t)
    eps = predict_noise(wrapped, t)
    x0_hat = tweedie(wrapped, eps, alpha_bar_t)
    residual = x0_hat.value - y
    if guidance == "norm":
        axes = (1, 2, 3) if norm_over == "image" else (0, 1, 2, 3)
        length = array_module(residual).sqrt((residual * residual).sum(axis=axes, keepdims=True))
        cotangent = residual / (length + (length == 0))
    else:
        cotangent = 2 * residual
    (gradient,) = pull_back(x0_hat, cotangent, [wrapped], last=True)
    return value_of(eps), gradient


def moment_matched_gradient(predict_noise, x_t, t, y, mask, variance, alpha_bar_t, iterations=3):
    """eps_theta(x_t, t) and the gradient to x_t of -log N(y; x0_hat(x_t), V_t + R): what DPS drops, V_t = Cov[x_0 | x_t], put back.

    R is `variance` on suspected pixels and 0 on normal ones. V_t g = (1 - alpha_bar_t) / sqrt(alpha_bar_t) J_t^T g, J_t the slope of
    x0_hat, so each step of conjugate gradients costs one pullback. Where images are Gaussian, enough of them guide to
    E[eps | x_t, y] exactly, Eq. (10) included (tests/posterior). A trained network's J_t is only nearly symmetric, so stop early.
    Eq: E10 (Rozet et al. 2024).  Shapes: x_t, y (N, H, W, C), mask (N, H, W, 1), t (N) -> two arrays like x_t.
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
    """u with apply(u) = b, one system an image, for a symmetric positive map (Hestenes & Stiefel 1952).  Shapes: b (N, H, W, C) -> as b."""

    def dot(p, q):
        return (p * q).sum(axis=(1, 2, 3), keepdims=True)

    def share(p, q):
        return p / (q + (q == 0))

    u, residual, direction = 0 * b, b, b
    for _ in range(iterations):
        applied = apply(direction)
        length = dot(residual, residual)
        step = share(length, dot(direction, applied))
        u, residual = u + step * direction, residual - step * applied
        direction = residual + share(dot(residual, residual), length) * direction
    return u


def posterior_score(eps, gradient, weight, alpha_bar_t):
    """grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t)  =  -eps / sqrt(1 - alpha_bar_t) - weight gradient.

    Eq: E09 (Bayes; DPS, Eq. 6).  With the squared norm, weight is 1 / (2 sigma^2) of the observation; with the norm,
    a weight of w stands for a variance of norm / w.  Shapes: (N, H, W, C) -> the same.
    """
    return -eps / (1 - alpha_bar_t) ** 0.5 - weight * gradient


def guided_noise(eps, gradient, weight, alpha_bar_t):
    """eps^m, the noise whose score is the posterior's:  eps + weight sqrt(1 - alpha_bar_t) gradient.

    Eq: E11 (MDPS, Fig. 1; Dhariwal & Nichol 2021, Eq. 14).  Shapes: (N, H, W, C) -> the same.
    """
    return -((1 - alpha_bar_t) ** 0.5) * posterior_score(eps, gradient, weight, alpha_bar_t)


def noise_towards(y, x_t, alpha_bar_t):
    """eps^(1-m), the noise that takes x_t to y:  (x_t - sqrt(alpha_bar_t) y) / sqrt(1 - alpha_bar_t).

    Eq: E12 (MDPS, Eq. 10).  Its Tweedie estimate is y.  Shapes: y, x_t (N, H, W, C) -> the same.
    """
    return (x_t - alpha_bar_t**0.5 * y) / (1 - alpha_bar_t) ** 0.5
