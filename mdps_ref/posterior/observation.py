"""What a test image says about the clean image behind it: everything on normal pixels, little on suspected ones."""

import dataclasses
import math
from typing import Any

from mdps_ref.backend import array_module


@dataclasses.dataclass(frozen=True)
class MaskedObservation:
    """The masked noisy observation model p(y | x_0).

    The sampler does not call it: its two halves are there as `noise_towards` (normal pixels) and as the misfit (suspected pixels).

    Parameters
    ----------
    mask : array, (N, H, W, 1)
        1 on suspected pixels; 0 on normal ones, where y is x_0 exactly.
    sigma : float
        The deviation of what a defect adds, in pixel values ([-1, 1]).

    Equation
    --------
    E08 : y = (1 - m) o x_0 + m o (x_0 + sigma n), n ~ N(0, I)

    References
    ----------
    MDPS, Eq. (7).
    """

    mask: Any
    sigma: float

    def sample(self, x_0, noise):
        """Draw y.

        Parameters
        ----------
        x_0, noise : array, (N, H, W, C)
            `noise` is standard normal.

        Returns
        -------
        array, (N, H, W, C)
        """
        return (1 - self.mask) * x_0 + self.mask * (x_0 + self.sigma * noise)

    def log_likelihood(self, y, x_0):
        """Log density of y over suspected pixels.

        Parameters
        ----------
        y, x_0 : array, (N, H, W, C)

        Returns
        -------
        array, (N,)
            -inf for an image whose normal pixels differ from x_0.
        """
        xp = array_module(y, x_0)
        residual = y - x_0
        gaussian = -0.5 * (residual / self.sigma) ** 2 - math.log(self.sigma * math.sqrt(2 * math.pi))
        total = (self.mask * gaussian).sum(axis=(1, 2, 3))
        agrees = ((1 - self.mask) * residual == 0).all(axis=(1, 2, 3))
        return xp.where(agrees, total, -math.inf)

    def score(self, y, x_0):
        """Gradient of the log likelihood to x_0 on suspected pixels, 0 on normal ones.

        Parameters
        ----------
        y, x_0 : array, (N, H, W, C)

        Returns
        -------
        array, (N, H, W, C)
        """
        return self.mask * (y - x_0) / self.sigma**2
