"""What a test image says about the clean image behind it: all of it where it is normal, little where it is suspected."""

import dataclasses
import math
from typing import Any

from mdps_ref.backend import array_module


@dataclasses.dataclass(frozen=True)
class MaskedObservation:
    """The masked noisy observation model:  y = (1 - m) o x_0 + m o (x_0 + sigma n),  n ~ N(0, I).

    Eq: E08 (MDPS, Eq. 7).  mask: (N, H, W, 1), 1 on suspected pixels, 0 on normal ones, where y is x_0 exactly.
    sigma: the deviation of what a defect adds, in units of pixel values ([-1, 1]).
    The sampler does not call it: its two halves are there as `noise_towards` (y on normal pixels) and `misfit_gradient`.
    """

    mask: Any
    sigma: float

    def sample(self, x_0, noise):
        """y drawn from p(y | x_0).  Shapes: x_0, noise (N, H, W, C), noise standard normal -> the same."""
        return (1 - self.mask) * x_0 + self.mask * (x_0 + self.sigma * noise)

    def log_likelihood(self, y, x_0):
        """log p(y | x_0), the density over suspected pixels; -inf for an image whose normal pixels differ from x_0.

        Shapes: y, x_0 (N, H, W, C) -> (N).
        """
        xp = array_module(y, x_0)
        residual = y - x_0
        gaussian = -0.5 * (residual / self.sigma) ** 2 - math.log(self.sigma * math.sqrt(2 * math.pi))
        total = (self.mask * gaussian).sum(axis=(1, 2, 3))
        agrees = ((1 - self.mask) * residual == 0).all(axis=(1, 2, 3))
        return xp.where(agrees, total, -math.inf)

    def score(self, y, x_0):
        """The gradient of log p(y | x_0) to x_0 on suspected pixels, 0 on normal ones.  Shapes: y, x_0 (N, H, W, C) -> the same."""
        return self.mask * (y - x_0) / self.sigma**2
