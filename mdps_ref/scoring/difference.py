"""Difference maps: how far a posterior sample is from the test image, pixel by pixel, in pixel values, in features, and in both."""

import numpy as np

from mdps_ref.backend import array_module, to_device
from mdps_ref.scoring.filters import along_both_axes, bilinear_matrix, gaussian_matrix, mean3_matrix

IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])


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


def layer_distances(features_x, features_y, size):
    """How far the features of two images point apart, layer by layer.

    Parameters
    ----------
    features_x, features_y : list of arrays, (N, h, w, C), one a layer
    size : (int, int)
        (H, W) of the image.

    Returns
    -------
    list of arrays, (N, H, W)
        1 - cos, 0 to 2, of the features pooled 3 x 3, enlarged to the image bilinearly.
    """
    distances = []
    for a, b in zip(features_x, features_y, strict=True):
        h, w = a.shape[1:3]
        a, b = (along_both_axes(f, mean3_matrix(h), mean3_matrix(w)) for f in (a, b))
        distance = (1 - cosine_similarity(a, b)).astype(a.dtype)[..., None]
        distances.append(along_both_axes(distance, bilinear_matrix(h, size[0]), bilinear_matrix(w, size[1]))[..., 0])
    return distances


def feature_map(features_x, features_y, size, scales=()):
    """Feature map: how far the features of two images point apart, over all layers.

    Parameters
    ----------
    features_x, features_y, size
        As for `layer_distances`.
    scales : sequence of float
        What each layer's distances are divided by. Without it they are added as they are.

    Returns
    -------
    array, (N, H, W)
        Without scales, 0 to 2 a layer.

    Equation
    --------
    E16 : f = sum over layers of 1 - cos(pool(F(x_0)), pool(F(y))), pooled 3 x 3, enlarged to the image bilinearly

    Notes
    -----
    The authors' code calls it LPIPS.
    """
    distances = layer_distances(features_x, features_y, size)
    return sum(distance / scale for distance, scale in zip(distances, scales or [1] * len(distances), strict=True))


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


def fuse_at_scale(pixels, features, pixel_weight, pixel_scale):
    """Add the pixel map to the feature map, at a scale that all images share. So an image's score grows with its pixel map.

    Parameters
    ----------
    pixels, features, pixel_weight
        As for `fuse`.
    pixel_scale : float, above 0
        Such as the mean of the pixel map on good images.

    Returns
    -------
    array, (N, H, W)
    """
    return features + pixel_weight * pixels / pixel_scale


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


def by_position(grid, size):
    """Enlarge a grid of scales bilinearly to the scale of each pixel.

    Parameters
    ----------
    grid : array, (g, g)
    size : (int, int)
        (H, W) of the maps.

    Returns
    -------
    array, (H, W)
    """
    h, w = (bilinear_matrix(count, side) for count, side in zip(grid.shape, size, strict=True))
    return h @ grid @ w.T


def anomaly_map(pixels, features, *, pixel_weight, sigma, fuse=fuse, grid=None):
    """Half the smoothed, fused map.

    Parameters
    ----------
    pixels, features : array, (N, H, W)
        A pixel map and a feature map.
    pixel_weight : float
        The weight of the pixel map against the feature map.
    sigma : float, pixels
        Of the smoothing.
    fuse : callable
        fuse(pixels, features, pixel_weight) -> array, (N, H, W).
    grid : array, (g, g), optional
        What the map is divided by at each place, see `by_position`.

    Returns
    -------
    array, (N, H, W)
    """
    maps = smooth(fuse(pixels, features, pixel_weight), sigma) / 2
    if grid is None:
        return maps
    return maps / to_device(by_position(grid, maps.shape[1:]).astype(maps.dtype), array_module(maps))


def difference_map(x_0, y, features, *, scales=(), **settings):
    """Anomaly map of one posterior sample an image.

    Parameters
    ----------
    x_0, y : array, (N, H, W, 3)
        The samples and the test images, in [-1, 1].
    features : callable
        features(images) -> list of arrays, (N, h, w, C), one a layer.
    scales : sequence of float
        See `feature_map`.
    **settings
        pixel_weight, sigma, fuse and grid, see `anomaly_map`.

    Returns
    -------
    array, (N, H, W)
    """
    return anomaly_map(pixel_map(x_0, y), feature_map(features(x_0), features(y), y.shape[1:3], scales), **settings)
