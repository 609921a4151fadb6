"""Difference maps: how far a posterior sample is from the test image, pixel by pixel, in pixel values, in features, and in both."""

import math

import numpy as np

from mdps_ref.backend import array_module, to_device
from mdps_ref.scoring.filters import along_both_axes, bilinear_matrix, gaussian_matrix, mean3_matrix

IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])
TAIL_SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # of good pixels, whose maps exceed a quantile
FEWEST_BEYOND = 10  # values beyond the last quantile that make a mean


def absolute_difference(x_0, y):
    """Mean over channels of |x_0 - y|, in pixel values ([-1, 1]).

    Parameters
    ----------
    x_0, y : array, (..., C)

    Returns
    -------
    array, (...)
    """
    return abs(x_0 - y).mean(axis=-1)


def pixel_map(x_0, y):
    """Pixel map: how far two images are apart, pixel by pixel.

    Parameters
    ----------
    x_0, y : array, (N, H, W, 3)
        In [-1, 1].

    Returns
    -------
    array, (N, H, W)
        0 to about 4.5.

    Equation
    --------
    E15 : i = mean over channels of |N(x_0) - N(y)|, where N takes [-1, 1] to [0, 1], then to ImageNet's mean and deviation

    Notes
    -----
    The mean cancels. The authors' code calls it MSE.
    """
    deviation = to_device(IMAGENET_DEVIATION.astype(y.dtype), array_module(x_0, y))
    return absolute_difference(x_0 / (2 * deviation), y / (2 * deviation))


def cosine_similarity(a, b):
    """Cosine of the angle between two feature vectors, pixel by pixel; 1 if they are equal.

    Parameters
    ----------
    a, b : array, (N, h, w, C)

    Returns
    -------
    array, (N, h, w), float64
        Summed in float64: 1 minus a cosine near 1 would keep few of float32's digits.
    """
    xp = array_module(a, b)
    dot, length_a, length_b = ((p * q).sum(axis=-1, dtype=np.float64) for p, q in ((a, b), (a, a), (b, b)))
    same = (a == b).all(axis=-1)
    return xp.where(same, 1.0, dot / xp.maximum(xp.sqrt(length_a * length_b), 1e-12))


def cosine_distance(a, b):
    """1 minus the cosine of the angle between two feature vectors, pixel by pixel: 0 to 2.  Shapes: (N, h, w, C) -> (N, h, w)."""
    return 1 - cosine_similarity(a, b)


def squared_distance(a, b):
    """Mean over channels of (a - b)^2, pixel by pixel.  Shapes: (N, h, w, C) -> (N, h, w).

    Of whitened features, see `scoring.whitening`, it is the squared Mahalanobis distance over C: about 1 on good images.
    """
    return ((a - b) ** 2).mean(axis=-1)


DISTANCES = {"cosine": cosine_distance, "mahalanobis": squared_distance}


def layer_distances(features_x, features_y, size, distance=cosine_distance):
    """How far the features of two images are apart, layer by layer.

    Parameters
    ----------
    features_x, features_y : list of arrays, (N, h, w, C), one a layer
    size : (int, int)
        (H, W) of the image.
    distance : callable
        distance(a, b) -> array (N, h, w) of two layers, one of DISTANCES.

    Returns
    -------
    list of arrays, (N, H, W)
        The distances of the features pooled 3 x 3, enlarged to the image bilinearly.
    """
    distances = []
    for a, b in zip(features_x, features_y, strict=True):
        found = distance(mean_pool3(a), mean_pool3(b)).astype(a.dtype)
        h, w = found.shape[1:]
        distances.append(along_both_axes(found[..., None], bilinear_matrix(h, size[0]), bilinear_matrix(w, size[1]))[..., 0])
    return distances


def mean_pool3(features):
    """Mean of each pixel and its neighbours, 3 x 3; those beyond the border count as 0.  Shape: (N, h, w, C)."""
    h, w = features.shape[1:3]
    return along_both_axes(features, mean3_matrix(h), mean3_matrix(w))


def feature_map(features_x, features_y, size):
    """Feature map: how far the features of two images point apart, over all layers.

    Parameters
    ----------
    features_x, features_y, size
        As for `layer_distances`.

    Returns
    -------
    array, (N, H, W)
        0 to 2 a layer.

    Equation
    --------
    E16 : f = sum over layers of 1 - cos(pool(F(x_0)), pool(F(y))), pooled 3 x 3, enlarged to the image bilinearly

    Notes
    -----
    The authors' code calls it LPIPS.
    """
    return sum(layer_distances(features_x, features_y, size))


def fuse(pixels, features, pixel_weight):
    """Add the pixel map to the feature map, scaled so that its maximum is `pixel_weight` times that of the feature map.

    Both maxima are those of one image. A pixel map of zeros adds nothing.

    Parameters
    ----------
    pixels, features : array, (N, H, W)
    pixel_weight : float, 0 or more

    Returns
    -------
    array, (N, H, W)

    Equation
    --------
    E17 : fused = features + pixel_weight max(features) / max(pixels) pixels
    """
    highest_pixel = pixels.max(axis=(1, 2), keepdims=True)
    highest_feature = features.max(axis=(1, 2), keepdims=True)
    return features + pixel_weight * highest_feature * pixels / (highest_pixel + (highest_pixel == 0))


def tail_of(values):
    """Describe how large a map gets on good images.

    Parameters
    ----------
    values : array, any shape, 0 or more
        Of the map, at the pixels of good images.

    Returns
    -------
    array, (len(TAIL_SHARES) + 1)
        For each of TAIL_SHARES the quantile, a value that this share of the pixels exceeds, ascending; and the mean excess over the last
        one. All are above 0. Where fewer than ten values lie beyond, the excess is that of an exponential distribution through the
        quantiles of 1 % and of the last share.
    """
    values = np.asarray(values, np.float64).ravel()
    quantiles = np.quantile(values, 1 - np.array(TAIL_SHARES))
    least = 1e-4 * (quantiles[-1] or values.max() or 1)  # between two quantiles, so that no slope is infinite
    steps = least * np.arange(len(TAIL_SHARES) + 1)
    knots = np.maximum.accumulate([0, *quantiles] - steps) + steps
    beyond, percent = values[values > knots[-1]] - knots[-1], TAIL_SHARES.index(0.01)
    exponential = (knots[-1] - knots[percent + 1]) / math.log(TAIL_SHARES[percent] / TAIL_SHARES[-1])
    return np.append(knots[1:], max(least, exponential if beyond.size < FEWEST_BEYOND else beyond.mean()))


def surprisal(maps, tail):
    """Return how rare such a value is on good images: minus the logarithm of the share of good pixels with a larger value.

    Between the quantiles it is interpolated linearly. Beyond the last one it grows as that of an exponential distribution.

    Parameters
    ----------
    maps : array, any shape, 0 or more
    tail : sequence of floats
        From `tail_of`.

    Returns
    -------
    array, as maps
        In nats: 0 where a map is 0, 2.3 where a tenth of the good pixels is above it, 6.9 for a thousandth.
    """
    *quantiles, excess = map(float, tail)
    heights = [0.0, *(-math.log(share) for share in TAIL_SHARES)]
    xp = array_module(maps)
    total = xp.maximum(maps - quantiles[-1], 0) / excess
    for low, high, rise in zip([0.0, *quantiles], quantiles, np.diff(heights).tolist(), strict=False):
        total = total + (xp.clip(maps, low, high) - low) * (rise / (high - low))
    return total


def smooth(maps, sigma):
    """Smooth maps by a Gaussian that is cut off at 4 sigma; the border is mirrored.

    Parameters
    ----------
    maps : array, (N, H, W)
    sigma : float, pixels

    Returns
    -------
    array, (N, H, W)

    Equation
    --------
    E18 : smoothed = G_sigma * map, G_sigma the normalised Gaussian kernel, applied along the rows and along the columns
    """
    h, w = maps.shape[1:]
    return along_both_axes(maps[..., None], gaussian_matrix(h, sigma), gaussian_matrix(w, sigma))[..., 0]


def anomaly_map(pixels, layers, *, pixel_weight, sigma, fuse=fuse, tails=None):
    """Fuse a pixel map and the distances of some layers of features, and smooth them.

    Parameters
    ----------
    pixels : array, (N, H, W)
    layers : sequence of arrays, (N, H, W)
        See `layer_distances`.
    pixel_weight : float
        The weight of the pixel map against the feature map.
    sigma : float, pixels
        Of the smoothing.
    fuse : callable
        fuse(pixels, features, pixel_weight) -> array, (N, H, W), with the sum of the layers as features. Not used with `tails`.
    tails : sequence, optional
        Of each smoothed layer and of the smoothed pixel map on good images, from `tail_of`.

    Returns
    -------
    array, (N, H, W)
        Without tails, half the smoothed, fused map. With tails, each layer and the pixel map are smoothed and become their `surprisal`.
        The mean of the layers and `pixel_weight` times that of the pixels are added. So layers of different networks, and pixels, count
        alike, whatever their units. With two layers and weight 0.5 this is half the sum of the
        three surprisals, and to add surprisals is Fisher's method [1]_.

    References
    ----------
    .. [1] R. A. Fisher, "Statistical methods for research workers", 1932, section 21.1: evidence of independent tests is added as minus
       the logarithms of their tail probabilities.
    """
    if tails is None:
        return smooth(fuse(pixels, sum(layers), pixel_weight), sigma) / 2
    *of_layers, of_pixels = (surprisal(smooth(part, sigma), tail) for part, tail in zip((*layers, pixels), tails, strict=True))
    return sum(of_layers) / len(of_layers) + pixel_weight * of_pixels


def difference_map(x_0, y, features, *, distance=cosine_distance, **settings):
    """Anomaly map of one posterior sample an image.

    Parameters
    ----------
    x_0, y : array, (N, H, W, 3)
        The samples and the test images, in [-1, 1].
    features : callable
        features(images) -> list of arrays, (N, h, w, C), one a layer.
    distance : callable
        Of the features, one of DISTANCES.
    **settings
        pixel_weight, sigma, fuse and tails, see `anomaly_map`.

    Returns
    -------
    array, (N, H, W)
    """
    return anomaly_map(pixel_map(x_0, y), layer_distances(features(x_0), features(y), y.shape[1:3], distance), **settings)
