"""The forward process, from an image to noise, and the loss that teaches a network to predict the noise."""

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.backend import array_module, to_device


def q_sample(x_0, noise, level):
    """Noise an image: draw x_t from q(x_t | x_0).

    Parameters
    ----------
    x_0, noise : array, (N, H, W, C)
        `noise` is standard normal.
    level : float, or array, (N, 1, 1, 1)
        alpha_bar_t; an array, as `level_per_image` makes it, gives each image a timestep of its own.

    Returns
    -------
    array, (N, H, W, C)

    Equation
    --------
    E03 : x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise

    References
    ----------
    DDPM, Eq. 4.
    """
    return level**0.5 * x_0 + (1 - level) ** 0.5 * noise


def level_per_image(alpha_bar_t, like):
    """Shape one alpha_bar an image so that it multiplies images.

    Parameters
    ----------
    alpha_bar_t : array, (N,), on the host
    like : array
        Gives the dtype and the device.

    Returns
    -------
    array, (N, 1, 1, 1)
    """
    return to_device(np.asarray(alpha_bar_t, like.dtype), array_module(like)).reshape(-1, 1, 1, 1)


def noise_loss(predict_noise, x_0, t, noise, level):
    """Training loss of a noise predictor.

    Parameters
    ----------
    predict_noise : callable
        predict_noise(x_t, t) -> array or Tensor like x_t.
    x_0, noise : array, (N, H, W, C)
    t : array of ints, (N,)
    level : array, (N, 1, 1, 1)
        alpha_bar at each t.

    Returns
    -------
    scalar, or Tensor of a scalar

    Equation
    --------
    E04 : loss = || noise - eps_theta(x_t, t) ||^2, summed over pixels and channels, mean over the batch

    References
    ----------
    DDPM, Eq. 14; the reduction is that of the MDPS authors' code.
    """
    residual = noise - predict_noise(q_sample(x_0, noise, level), t)
    return ops.sum(residual * residual) / len(x_0)
