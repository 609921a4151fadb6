"""Closed-form guidance: the noise is nudged towards the test image without a gradient through the network."""

import numpy as np

from mdps_ref.diffusion.forward import q_sample
from mdps_ref.diffusion.schedule import alpha_bar


def closed_form_guide(predict_noise, y, weight):
    """Guide by the difference between x_t and the test image noised by the same noise.

    Parameters
    ----------
    predict_noise : callable
    y : array, (N, H, W, C)
        The test images.
    weight : float, 0 or more
        0 gives the prior's denoiser. Up to 1 the estimate of the clean image stays between x0_hat and y at every timestep.

    Returns
    -------
    callable
        A denoiser.

    References
    ----------
    DDAD: A. Mousakhan, T. Brox, J. Tayyub, "Anomaly detection with conditioned denoising diffusion models", 2023, section 4.1.

    Notes
    -----
    The rule is eps' = eps - w sqrt(1 - alpha_bar_t) (y_t - x_t), where y_t = sqrt(alpha_bar_t) y + sqrt(1 - alpha_bar_t) eps. In terms
    of the clean image it is x0_hat' = x0_hat + w (1 - alpha_bar_t) (y - x0_hat). So w = 1 / (1 - alpha_bar_t) leads to y at once, as
    Eq. (10) does. The rule is guidance by the squared norm with weight w / 2 if the slope of x0_hat at x_t is sqrt(alpha_bar_t) times
    the identity. That is so for images of white noise with variance 1, and for no photographs.
    """

    def denoise(x_t, t):
        level = alpha_bar(t)
        eps = predict_noise(x_t, np.full(len(x_t), t))
        return eps - weight * (1 - level) ** 0.5 * (q_sample(y, eps, level) - x_t)

    return denoise
