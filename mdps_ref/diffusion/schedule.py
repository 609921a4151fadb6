"""The noise schedule: how much of the image is left at each timestep, and which timesteps a chain visits.

Timesteps run from 0 (nearly clean) to 999 (nearly noise); -1 stands for the clean image.
"""

import numpy as np

STEPS = 1000


def linear_betas(first=1e-4, last=0.02, steps=STEPS):
    """Variance of the noise that each timestep adds.

    Returns
    -------
    array, (steps,), float64

    Equation
    --------
    E01 : beta_t rises linearly from 1e-4 at t = 0 to 0.02 at t = 999

    References
    ----------
    DDPM (Ho et al. 2020), section 4.
    """
    return np.linspace(first, last, steps, dtype=np.float64)


def cumulative_alphas(betas):
    """Share of the image's variance that is left after each timestep.

    Parameters
    ----------
    betas : array, (steps,)

    Returns
    -------
    array, (steps,), float64

    Equation
    --------
    E01 : alpha_bar_t = (1 - beta_0) (1 - beta_1) ... (1 - beta_t)

    References
    ----------
    DDPM, Eq. 4.
    """
    return np.cumprod(1.0 - betas)


_TABLE = cumulative_alphas(linear_betas())


def alpha_bar(t):
    """Look up alpha_bar at timestep t.

    Parameters
    ----------
    t : int or array of ints, -1 .. 999

    Returns
    -------
    float or array, float64
        An int gives a Python float, which leaves float32 images float32.

    Raises
    ------
    ValueError
        If a timestep is outside -1 .. 999.

    Equation
    --------
    E01 : alpha_bar_t at t = -1, the clean image, is 1
    """
    at = np.asarray(t)
    if at.size and (at.min() < -1 or at.max() >= STEPS):
        raise ValueError(f"timestep {t} is outside -1 .. {STEPS - 1}")
    levels = np.where(at < 0, 1.0, _TABLE[at])
    return float(levels) if levels.ndim == 0 else levels


def visited_timesteps(start, stride):
    """List the timesteps of a chain, from its start down to the clean image.

    Parameters
    ----------
    start : int, 0 .. 999
        The chain's x_T is noised to the level of `start`, and the first network call is made there.
    stride : int, 1 or more

    Returns
    -------
    list of ints
        The last entry is -1.

    Raises
    ------
    ValueError
        If `start` or `stride` is outside its range.

    Equation
    --------
    E02 : the network is called at T, T - stride, T - 2 stride, ... >= 0; the list ends with -1, the clean image

    Examples
    --------
    >>> visited_timesteps(50, 20)
    [50, 30, 10, -1]
    """
    if not 0 <= start < STEPS or stride < 1:
        raise ValueError(f"a chain starts at 0 .. {STEPS - 1} with a stride of at least 1, got start {start}, stride {stride}")
    return [*range(start, -1, -stride), -1]
