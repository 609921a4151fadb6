"""A world in which everything is known: images are N(mean, covariance), so the best noise predictor is affine.

Then a guided chain (squared norm) is an affine map of its noise, and its mean and covariance have a closed form; so has the
posterior p(x_0 | y) that the chain stands in for, and the distance between the two.
"""

import dataclasses
import itertools
import math

import numpy as np
from scipy.stats import norm

from mdps_ref.autograd import ops
from mdps_ref.diffusion.schedule import alpha_bar


@dataclasses.dataclass(frozen=True)
class Gap:
    """How far a chain's samples are from the posterior, over suspected pixels.  Exact samples: 0, 1, 0.9, 0.9."""

    bias: float  # of the samples' mean, in posterior deviations, root mean square
    variance_ratio: float  # the samples' mean variance over the posterior's
    caught: float  # probability that a sample is in the posterior's central 90 % interval
    covers: float  # probability that the samples' 90 % interval holds an x_0 drawn from the posterior
    own_spread: float  # mean variance of the samples, in posterior variances

    def error_of_mean(self, samples):
        """Root mean square error of a mean over n samples, in posterior deviations; of exact samples 1 / sqrt(n)."""
        return math.sqrt(self.bias**2 + self.own_spread / samples)


class GaussianWorld:
    """Images of `shape` (H, W, C) whose pixels are jointly Gaussian, all eigenvalues of the covariance distinct."""

    def __init__(self, shape, seed=0):
        rng = np.random.default_rng(seed)
        self.shape, self.size = shape, int(np.prod(shape))
        root = rng.standard_normal((self.size, self.size)) / self.size**0.5
        self.mean, self.covariance = 0.3 * rng.standard_normal(self.size), root @ root.T + 0.05 * np.eye(self.size)

    def noise_map(self, t):
        """E and e of E[eps | x_t] = E x_t + e, by Gaussian regression."""
        level = alpha_bar(t)
        matrix = (1 - level) ** 0.5 * np.linalg.inv(level * self.covariance + (1 - level) * np.eye(self.size))
        return matrix, -(level**0.5) * matrix @ self.mean

    def predict_noise(self, x_t, t):
        """E[eps | x_t], for arrays and Tensors; t is the same for all images."""
        matrix, offset = self.noise_map(int(t[0]))
        flat = ops.reshape(x_t, shape=(x_t.shape[0], self.size))
        return ops.reshape(ops.linear(flat, matrix.T, offset), shape=x_t.shape)

    def estimate_map(self, t):
        """J and j of E[x_0 | x_t] = J x_t + j, from the noise map by Tweedie."""
        level = alpha_bar(t)
        matrix, offset = self.noise_map(t)
        return (np.eye(self.size) - (1 - level) ** 0.5 * matrix) / level**0.5, -((1 - level) ** 0.5) * offset / level**0.5

    def mdps_noise_map(self, t, y, mask, weight):
        """The denoiser of MDPS, as a matrix and an offset: guided by weight * grad || y - x0_hat ||^2 on m = 1, Eq. (10) on m = 0."""
        level, m = alpha_bar(t), np.diag(mask)
        (noise, offset), (jacobian, x0_offset) = self.noise_map(t), self.estimate_map(t)
        guide = 2 * weight * (1 - level) ** 0.5 * jacobian.T
        guided, guided_offset = noise + guide @ jacobian, offset + (x0_offset - y) @ guide.T
        unmasked = (np.eye(self.size) - m) / (1 - level) ** 0.5
        return m @ guided + unmasked, guided_offset @ m - level**0.5 * y @ unmasked

    def exact_noise_map(self, t, y, mask, sigma):
        """E[eps | x_t, y]: the noise predictor of a world whose images are those that y allows."""
        level = alpha_bar(t)
        mean, covariance = self.exact_posterior(y, mask, sigma)
        matrix = (1 - level) ** 0.5 * np.linalg.inv(level * covariance + (1 - level) * np.eye(self.size))
        return matrix, -(level**0.5) * mean @ matrix

    def moment_matched_noise_map(self, t, y, mask, sigma):
        """The prior's noise, guided by -grad log N(y; x0_hat, V_t + R): V_t = Cov[x_0 | x_t], R the variance of the observation.

        V_t is (1 - alpha_bar_t) / sqrt(alpha_bar_t) J_t, for any prior; R is sigma^2 on m = 1 and 0 on m = 0, so Eq. (10) is not needed.
        """
        level, (seen, variance) = alpha_bar(t), self.observed(mask, sigma)
        (noise, offset), (jacobian, x0_offset) = self.noise_map(t), self.estimate_map(t)
        of_estimate = ((1 - level) / level**0.5 * jacobian)[np.ix_(seen, seen)]
        guide = (1 - level) ** 0.5 * jacobian[seen].T @ np.linalg.inv(of_estimate + variance)
        return noise + guide @ jacobian[seen], offset + (x0_offset - y)[..., seen] @ guide.T

    def chain_moments(self, y, mask, timesteps, weight, ddim_eta=1.0):
        """Mean and covariance of the MDPS chain's x_0, carried through its affine steps.

        y: (..., size).  mask: (size), 1 = suspected.  Guidance is weight * grad || y - x0_hat ||^2.
        """
        return self.carried(y, timesteps, lambda t: self.mdps_noise_map(t, y, mask, weight), ddim_eta)

    def carried(self, y, timesteps, noise_map, ddim_eta=1.0):
        """Mean (..., size) and covariance (size, size) of a DDIM chain from y (..., size) noised to its end, for any affine noise."""
        identity, start = np.eye(self.size), alpha_bar(timesteps[0])
        mean, covariance = start**0.5 * y, (1 - start) * identity
        for t, s in itertools.pairwise(timesteps):
            a, b = alpha_bar(t), alpha_bar(s)
            eps, eps_offset = noise_map(t)
            c1 = ddim_eta * ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5
            on_eps = (1 - b - c1**2) ** 0.5 - b**0.5 * (1 - a) ** 0.5 / a**0.5
            step = (b / a) ** 0.5 * identity + on_eps * eps
            mean, covariance = mean @ step.T + on_eps * eps_offset, step @ covariance @ step.T + c1**2 * identity
        return mean, covariance

    def moments_of(self, chain, draws):
        """Mean and covariance of an affine chain(draw) from its values at no noise and at every unit of noise.

        chain: takes a draw() and gives (1, H, W, C).  draws: how often the chain draws.
        """

        def at(k, j):
            count = itertools.count()
            unit = np.zeros(self.size)
            unit[j] = 1
            return chain(lambda: (unit if next(count) == k else 0 * unit).reshape(1, *self.shape)).ravel()

        mean = at(-1, 0)
        columns = [at(k, j) - mean for k in range(draws) for j in range(self.size)]
        return mean, sum(np.outer(column, column) for column in columns)

    def observed(self, mask, sigma):
        """Pixels of which y says anything (all; if sigma is infinite, normal ones), and R: with what variance it says it."""
        seen = (mask == 0) | math.isfinite(sigma)
        return seen, np.diag(np.where(mask == 0, 0, sigma)[seen] ** 2)

    def exact_posterior(self, y, mask, sigma):
        """Mean (..., size) and covariance (size, size) of p(x_0 | y) under Eq. (7), by Gaussian conditioning.

        y: (..., size).  mask: (size), 1 = suspected.  sigma: 0 .. inf; inf says nothing about suspected pixels.
        """
        seen, variance = self.observed(mask, sigma)
        gain = np.linalg.solve(self.covariance[np.ix_(seen, seen)] + variance, self.covariance[seen]).T
        return self.mean + (y - self.mean)[..., seen] @ gain.T, self.covariance - gain @ self.covariance[seen]

    def gap(self, moments, y, mask, sigma):
        """How far samples with these moments (as `chain_moments` gives them) are from p(x_0 | y), over suspected pixels and all y."""
        suspected, ninety = mask == 1, norm.ppf(0.95)
        (mean, covariance), (exact_mean, exact_covariance) = moments, self.exact_posterior(y, mask, sigma)
        sd, exact_sd = (np.diag(c)[suspected] ** 0.5 for c in (covariance, exact_covariance))
        off = (mean - exact_mean)[..., suspected]

        def inside(width, shift, deviation):
            """P(|shift + deviation n| < 1.64 width), averaged."""
            return float(np.mean(norm.cdf((ninety * width - shift) / deviation) - norm.cdf((-ninety * width - shift) / deviation)))

        return Gap(
            bias=float(np.mean((off / exact_sd) ** 2) ** 0.5),
            variance_ratio=float(np.mean(sd**2) / np.mean(exact_sd**2)),
            caught=inside(exact_sd, off, sd),
            covers=inside(sd, off, exact_sd),
            own_spread=float(np.mean((sd / exact_sd) ** 2)),
        )
