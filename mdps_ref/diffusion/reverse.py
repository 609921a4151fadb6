"""The way back: from x_t and the noise in it to a cleaner x_s, s < t.

Levels are alpha_bar as Python floats, so that float32 images stay float32. The formulas hold for arrays and for Tensors.
"""


def tweedie(x_t, eps, alpha_bar_t):
    """Estimate the clean image x0_hat from x_t and its noise.

    With eps = E[eps | x_t] the estimate is E[x_0 | x_t]. It undoes `q_sample` exactly, and is not clipped.

    Parameters
    ----------
    x_t, eps : array or Tensor, (N, H, W, C)
    alpha_bar_t : float

    Returns
    -------
    array or Tensor, (N, H, W, C)

    Equation
    --------
    E05 : x0_hat = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)

    References
    ----------
    Efron 2011; DDPM, Eq. 15.
    """
    return (x_t - (1 - alpha_bar_t) ** 0.5 * eps) / alpha_bar_t**0.5


def q_posterior(x_0, x_t, alpha_bar_t, alpha_bar_s):
    """Mean and variance of q(x_s | x_t, x_0), the step back of a chain that started at x_0.

    Parameters
    ----------
    x_0, x_t : array, (N, H, W, C)
    alpha_bar_t, alpha_bar_s : float
        The levels of t and of s < t.

    Returns
    -------
    mean : array, (N, H, W, C)
    variance : float

    Equation
    --------
    E06 : q(x_s | x_t, x_0) = N(mean, variance) with alpha = alpha_bar_t / alpha_bar_s,
        mean = (sqrt(alpha_bar_s) (1 - alpha) x_0 + sqrt(alpha) (1 - alpha_bar_s) x_t) / (1 - alpha_bar_t),
        variance = (1 - alpha) (1 - alpha_bar_s) / (1 - alpha_bar_t)

    References
    ----------
    DDPM, Eq. 6 and 7, for any s < t.
    """
    alpha = alpha_bar_t / alpha_bar_s
    mean = (alpha_bar_s**0.5 * (1 - alpha) * x_0 + alpha**0.5 * (1 - alpha_bar_s) * x_t) / (1 - alpha_bar_t)
    return mean, (1 - alpha) * (1 - alpha_bar_s) / (1 - alpha_bar_t)


def ddim_coefficients(alpha_bar_t, alpha_bar_s, ddim_eta=1.0):
    """Weights c1 of the fresh noise and c2 of eps in the step t -> s.

    Parameters
    ----------
    alpha_bar_t, alpha_bar_s : float
    ddim_eta : float, 0 .. 1
        DDIM's eta: 1 draws as much fresh noise as DDPM, 0 none.

    Returns
    -------
    c1, c2 : float
        c1^2 + c2^2 = 1 - alpha_bar_s, so x_s has the noise of its level.

    Raises
    ------
    ValueError
        If ddim_eta is out of its range. A larger one can leave no real c2.

    Equation
    --------
    E07 : c1 = eta sqrt((1 - alpha_bar_t / alpha_bar_s) (1 - alpha_bar_s) / (1 - alpha_bar_t)), c2 = sqrt(1 - alpha_bar_s - c1^2)

    References
    ----------
    DDIM (Song et al. 2021), Eq. 12 and 16.
    """
    if not 0 <= ddim_eta <= 1:
        raise ValueError(f"ddim_eta is {ddim_eta}; expected a number from 0 to 1")
    c1 = ddim_eta * ((1 - alpha_bar_t / alpha_bar_s) * (1 - alpha_bar_s) / (1 - alpha_bar_t)) ** 0.5
    return c1, (1 - alpha_bar_s - c1**2) ** 0.5


def ddim_step(x_t, eps, z, alpha_bar_t, alpha_bar_s, ddim_eta=1.0):
    """Step from x_t to x_s. At alpha_bar_s = 1, the last step, x_s is x0_hat.

    Parameters
    ----------
    x_t, eps, z : array, (N, H, W, C)
        `eps` is the predicted noise, `z` fresh standard normal noise.
    alpha_bar_t, alpha_bar_s : float
    ddim_eta : float, 0 .. 1

    Returns
    -------
    array, (N, H, W, C)

    Raises
    ------
    ValueError
        As `ddim_coefficients`.

    Equation
    --------
    E07 : x_s = sqrt(alpha_bar_s) x0_hat + c1 z + c2 eps

    References
    ----------
    DDIM, Eq. 12.
    """
    c1, c2 = ddim_coefficients(alpha_bar_t, alpha_bar_s, ddim_eta)
    return alpha_bar_s**0.5 * tweedie(x_t, eps, alpha_bar_t) + c1 * z + c2 * eps
