"""A world in which everything is known: images are N(mean, covariance), so the best noise predictor is affine.

Then a guided chain (squared norm) is an affine map of its noise, and its mean and covariance have a closed form.
"""

import itertools

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.diffusion.schedule import alpha_bar


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

    def chain_moments(self, y, mask, timesteps, weight):
        """Mean and covariance of what the MDPS chain ends at, carried through its affine steps.

        y: (size).  mask: (size), 1 = suspected.  Guidance is weight * grad || y - x0_hat ||^2.
        """
        identity, start = np.eye(self.size), alpha_bar(timesteps[0])
        mean, covariance = start**0.5 * y, (1 - start) * identity
        for t, s in itertools.pairwise(timesteps):
            a, b = alpha_bar(t), alpha_bar(s)
            noise, offset = self.noise_map(t)
            jacobian = (identity - (1 - a) ** 0.5 * noise) / a**0.5
            x0_offset = -((1 - a) ** 0.5) * offset / a**0.5
            guide = 2 * weight * (1 - a) ** 0.5 * jacobian.T
            guided, guided_offset = noise + guide @ jacobian, offset + guide @ (x0_offset - y)
            back, back_offset = identity / (1 - a) ** 0.5, -(a**0.5) * y / (1 - a) ** 0.5
            m = np.diag(mask)
            eps, eps_offset = m @ guided + (identity - m) @ back, m @ guided_offset + (identity - m) @ back_offset
            c1 = ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5
            on_eps = (1 - b - c1**2) ** 0.5 - b**0.5 * (1 - a) ** 0.5 / a**0.5
            step = (b / a) ** 0.5 * identity + on_eps * eps
            mean, covariance = step @ mean + on_eps * eps_offset, step @ covariance @ step.T + c1**2 * identity
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
