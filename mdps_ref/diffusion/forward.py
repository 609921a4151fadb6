"""The forward process, from an image to noise, and the loss that teaches a network to see the noise."""

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.backend import array_module, to_device


def q_sample(x_0, noise, level):
    """x_t drawn from q(x_t | x_0):  sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise.

    Eq: E03 (DDPM, Eq. 4).  Shapes: x_0, noise (N, H, W, C) -> the same.
    level: alpha_bar_t, a Python float, or one an image as made by `level_per_image`.
    """
    return level**0.5 * x_0 + (1 - level) ** 0.5 * noise


def level_per_image(alpha_bar_t, like):
    """One alpha_bar an image, as an array that multiplies images.  Shapes: alpha_bar_t (N), on the host -> (N, 1, 1, 1), as `like`."""
    return to_device(np.asarray(alpha_bar_t, like.dtype), array_module(like)).reshape(-1, 1, 1, 1)


def noise_loss(predict_noise, x_0, t, noise, level):
    """|| noise - eps_theta(x_t, t) ||^2, summed over pixels and channels, mean over the batch.

    Eq: E04 (DDPM, Eq. 14, with the authors' reduction).  predict_noise(x_t, t) -> an array or Tensor like x_t.
    Shapes: x_0, noise (N, H, W, C), t (N), level (N, 1, 1, 1) -> a scalar.
    """
    residual = noise - predict_noise(q_sample(x_0, noise, level), t)
    return ops.sum(residual * residual) / len(x_0)
