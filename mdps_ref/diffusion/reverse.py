"""Going back: from x_t and the noise in it to a cleaner x_s, s < t.

Levels are alpha_bar as Python floats, so that float32 images stay float32; formulas hold for arrays and for Tensors.
"""


def tweedie(x_t, eps, alpha_bar_t):
    """x0_hat, the clean image that x_t and its noise eps imply:  (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t).

    Eq: E05 (Efron 2011; DDPM, Eq. 15).  Shapes: x_t, eps (N, H, W, C) -> the same.  Range: not clipped.
    With eps = E[eps | x_t] this is E[x_0 | x_t]; it undoes `q_sample` exactly.
    """
    return (x_t - (1 - alpha_bar_t) ** 0.5 * eps) / alpha_bar_t**0.5


def q_posterior(x_0, x_t, alpha_bar_t, alpha_bar_s):
    """Mean and variance of q(x_s | x_t, x_0), s < t: where x_t came from, if it started at x_0.

    Eq: E06 (DDPM, Eq. 6, 7, for any s < t).  Shapes: x_0, x_t (N, H, W, C) -> the same; the variance is a number.
    """
    alpha = alpha_bar_t / alpha_bar_s
    mean = (alpha_bar_s**0.5 * (1 - alpha) * x_0 + alpha**0.5 * (1 - alpha_bar_s) * x_t) / (1 - alpha_bar_t)
    return mean, (1 - alpha) * (1 - alpha_bar_s) / (1 - alpha_bar_t)


def ddim_coefficients(alpha_bar_t, alpha_bar_s, stochasticity=1.0):
    """c1 on fresh noise and c2 on eps for the step t -> s.

    Eq: E07 (DDIM, Eq. 12, 16).  stochasticity: DDIM's eta; 1 draws as DDPM does, 0 draws nothing.
    c1^2 + c2^2 = 1 - alpha_bar_s, whatever t is, so x_s has the noise its level asks for.
    """
    c1 = stochasticity * ((1 - alpha_bar_t / alpha_bar_s) * (1 - alpha_bar_s) / (1 - alpha_bar_t)) ** 0.5
    return c1, (1 - alpha_bar_s - c1**2) ** 0.5


def ddim_step(x_t, eps, z, alpha_bar_t, alpha_bar_s, stochasticity=1.0):
    """x_s = sqrt(alpha_bar_s) x0_hat + c1 z + c2 eps.  At alpha_bar_s = 1 it is x0_hat, and z plays no part.

    Eq: E07 (DDIM, Eq. 12).  Shapes: x_t, eps, z (N, H, W, C), z standard normal -> the same.
    """
    c1, c2 = ddim_coefficients(alpha_bar_t, alpha_bar_s, stochasticity)
    return alpha_bar_s**0.5 * tweedie(x_t, eps, alpha_bar_t) + c1 * z + c2 * eps
