"""Whitening: a linear map of a layer's features, after which a good image and its reconstruction differ nearly alike in all directions.

The squared distance of two whitened features is the squared Mahalanobis distance of the features [1]_. A direction in which the
reconstructions of good images err much counts less than one in which they err little.

References
----------
.. [1] P. C. Mahalanobis, "On the generalized distance in statistics", Proceedings of the National Institute of Sciences of India 2, 1936.
"""

import numpy as np

from mdps_ref.backend import to_device, to_host
from mdps_ref.errors import InputError
from mdps_ref.scoring.difference import mean_pool3

SHRINKAGE = 0.1  # of the covariance, towards a multiple of the identity: so that few images suffice


class SecondMoments:
    """The second moments of the differences between the features of good images and of their reconstructions, layer by layer."""

    def __init__(self):
        self._products, self._counts = [], []

    def add(self, features_x, features_y):
        """Add pairs of images.

        Parameters
        ----------
        features_x, features_y : list of arrays, (N, h, w, C), one a layer
        """
        for layer, (a, b) in enumerate(zip(features_x, features_y, strict=True)):
            differences = to_host(mean_pool3(b) - mean_pool3(a)).reshape(-1, a.shape[-1]).astype(np.float64)
            if layer == len(self._products):
                self._products.append(0.0)
                self._counts.append(0)
            self._products[layer] = self._products[layer] + differences.T @ differences
            self._counts[layer] += len(differences)

    def whitening(self):
        """Return the matrices W, (C, C), one a layer.

        Notes
        -----
        W W^T is the inverse of (1 - s) S + s trace(S) / C I, where S is the mean of d d^T over the differences d, and s is SHRINKAGE. No
        mean is subtracted, so that equal features have the distance 0. Where all differences are 0, W is the identity.

        Raises
        ------
        InputError
            If a difference is not finite.
        """
        return tuple(_whitening(products / count) for products, count in zip(self._products, self._counts, strict=True))


def _whitening(second_moments):
    channels = len(second_moments)
    if not np.isfinite(second_moments).all():
        raise InputError(
            "the features of good images or of their reconstructions are not finite; train longer, or with a lower learning_rate"
        )
    if not second_moments.any():
        return np.eye(channels, dtype=np.float32)
    variance = np.trace(second_moments) / channels
    shrunk = (1 - SHRINKAGE) * second_moments + SHRINKAGE * variance * np.eye(channels)
    return np.linalg.cholesky(np.linalg.inv(shrunk)).astype(np.float32)


def whitened(extract, matrices, xp):
    """Whiten the features of an extractor.

    Parameters
    ----------
    extract : callable
        extract(images) -> list of arrays, (N, h, w, C), one a layer.
    matrices : sequence of arrays, (C, C)
        From `SecondMoments.whitening`.
    xp : module
        The array module to compute with.

    Returns
    -------
    callable
        features(images) -> list of arrays, (N, h, w, C).

    Raises
    ------
    InputError
        Later, from what is returned: if the layers are not those that the matrices belong to.
    """
    matrices = [to_device(matrix, xp) for matrix in matrices]

    def features(images):
        layers = extract(images)
        widths, fitted = [layer.shape[-1] for layer in layers], [len(matrix) for matrix in matrices]
        if widths != fitted:
            raise InputError(f"the features have {widths} channels, layer by layer, but the whitening was fitted to {fitted}; fit it anew")
        return [layer @ matrix for layer, matrix in zip(layers, matrices, strict=True)]

    return features
