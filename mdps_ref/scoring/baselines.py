"""Baselines: simpler ways from an image to an anomaly map, which show what posterior sampling is worth.

Each function here looks at good images and returns `maps(images) -> array, (N, H, W)`. An image score of a map is one of
`image_score.IMAGE_SCORES`; PatchCore and PaDiM take the maximum. The images may be arrays, or anything with a length whose slices are
arrays, on the host or on a device. They are read a few at a time. Each image's map depends on that image alone.

`features` is an extractor, as `features.py` makes them. Nothing here trains it. `sigma` is the smoothing of the maps, in pixels.
"""

import numpy as np
import scipy.linalg

from mdps_ref.backend import array_module, random_stream, to_device, to_host
from mdps_ref.diffusion.schedule import visited_timesteps
from mdps_ref.posterior.closed_form import closed_form_guide
from mdps_ref.posterior.sampler import mdps_chain, noise_source
from mdps_ref.scoring.difference import smooth
from mdps_ref.scoring.filters import along_both_axes, bilinear_matrix, mean3_matrix

AT_ONCE = 16  # images
MOST_DISTANCES = 2**22  # distances that are held at once
GREY_LEVEL = 2 / 255  # one of 256 grey levels, in [-1, 1]
SELECTION_CHANNELS = 128  # that the greedy selection of a coreset looks at


def pixel_z_score(good, *, sigma):
    """Compare each pixel with the good images' mean and standard deviation at its position.

    Parameters
    ----------
    good : array, (M, H, W, C)
        Good images.
    sigma : float, pixels

    Returns
    -------
    callable
        maps(images) -> the mean over channels of |image - mean| / deviation, smoothed.

    Notes
    -----
    One grey level is added to the deviation, in squares: where all good images are equal, it would be 0.
    """
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in _blocks(good)) / len(good)
    variance = sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(good)) / len(good)
    deviation = (variance + GREY_LEVEL**2) ** 0.5

    def maps(images):
        return smooth((abs(images - mean) / deviation).mean(axis=-1).astype(images.dtype), sigma)

    return _in_blocks(maps)


def pca_reconstruction(good, components, *, sigma):
    """Compare each image with its projection to the good images' principal components.

    Parameters
    ----------
    good : array, (M, H, W, C)
        Good images, which are all held in memory.
    components : int, 0 or more
        How many are kept. There are at most M - 1; a larger number keeps them all.
    sigma : float, pixels

    Returns
    -------
    callable
        maps(images) -> the squared residual of each pixel, mean over channels, smoothed.

    References
    ----------
    M. Turk, A. Pentland, "Eigenfaces for recognition", Journal of Cognitive Neuroscience 3, 1991.
    """
    xp = array_module(good[:1])
    rows = to_host(good[:]).reshape(len(good), -1)
    mean = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
    basis, values, _ = scipy.linalg.svd((rows - mean).T, full_matrices=False, overwrite_a=True)  # in place, for images are large
    rank = np.count_nonzero(values > values[0] * max(rows.shape) * np.finfo(rows.dtype).eps)  # as np.linalg.matrix_rank has it
    mean, basis = to_device(mean, xp), to_device(basis[:, : min(components, rank)].copy(), xp)

    def maps(images):
        centred = images.reshape(len(images), -1) - mean
        residual = centred - (centred @ basis) @ basis.T
        return smooth((residual**2).reshape(images.shape).mean(axis=-1), sigma)

    return _in_blocks(maps)


def closed_form_reconstruction(predict_noise, compare, *, weight, start, stride, seed=0):
    """Compare each image with a reconstruction that is nudged towards it in closed form: DDAD's rule.

    The good images have trained the noise predictor.

    Parameters
    ----------
    predict_noise : callable
        predict_noise(x_t, t) -> eps, as in `posterior/guidance.py`.
    compare : callable
        compare(x_0, y) -> array, (N, H, W): a smoothed map of the differences, such as `difference_map` with its settings filled in.
    weight : float
        Of the guidance, see `closed_form_guide`. 0 gives plain reconstruction.
    start, stride : int
        The chain's first timestep and its steps, see `visited_timesteps`.
    seed : int
        All images share their noise, so that a map does not depend on the other images.

    Returns
    -------
    callable
        maps(images) -> array, (N, H, W).

    References
    ----------
    DDAD: A. Mousakhan, T. Brox, J. Tayyub, "Anomaly detection with conditioned denoising diffusion models", 2023.

    Notes
    -----
    DDAD also fits its feature extractor to the category. This function leaves it as it is.
    """
    timesteps = visited_timesteps(start, stride)

    def maps(images):
        draw = noise_source(seed, "closed form", [("", 0)], images)
        return compare(mdps_chain(closed_form_guide(predict_noise, images, weight), images, None, start, timesteps, draw), images)

    return _in_blocks(maps)


def nearest_neighbours(good, features, *, keep=1000, candidates=50_000, sigma, seed=0):
    """Measure how far each patch's features are from the nearest features in a bank of good patches.

    Parameters
    ----------
    good : array, (M, H, W, 3)
        Good images.
    features : callable
    keep : int
        The size of the bank, a coreset of the candidates.
    candidates : int
        How many good patches are drawn at random for the choice; all if there are fewer. They are held in memory.
    sigma : float, pixels
    seed : int

    Returns
    -------
    callable
        maps(images) -> the Euclidean distances, enlarged and smoothed.

    References
    ----------
    PatchCore: K. Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022.

    Notes
    -----
    PatchCore weighs an image's score by how crowded the bank is around it. This function does not.
    """
    patches = _sampled_patches(good, features, candidates, random_stream(seed, "patches"))
    channels = patches.shape[1]
    views = patches
    if channels > SELECTION_CHANNELS:  # distances survive a random projection nearly unchanged (Johnson & Lindenstrauss)
        projection = random_stream(seed, "projection").standard_normal((channels, SELECTION_CHANNELS))
        views = patches @ projection.astype(patches.dtype)
    chosen = patches[greedy_coreset(views, keep)]
    centre = chosen.mean(axis=0)
    xp = array_module(good[:1])
    bank, centre = to_device(chosen - centre, xp), to_device(centre, xp)

    def maps(images):
        found = patch_features(features, images)
        distances = nearest_distances(found.reshape(-1, channels) - centre, bank)
        return _enlarged(distances.reshape(found.shape[:3]), images.shape[1:3], sigma)

    return _in_blocks(maps)


def gaussian_per_position(good, features, *, channels=100, ridge=0.01, sigma, seed=0):
    """Measure how unusual each patch's features are for its position, as a Gaussian that is fitted to the good images has it.

    Parameters
    ----------
    good : array, (M, H, W, 3)
        Good images.
    features : callable
    channels : int
        How many channels are drawn at random; all if there are fewer. The covariances take (positions x channels^2) numbers.
    ridge : float, above 0
        Added to the variances, so that few good images suffice.
    sigma : float, pixels
    seed : int

    Returns
    -------
    callable
        maps(images) -> the Mahalanobis distances, enlarged and smoothed.

    References
    ----------
    PaDiM: T. Defard, A. Setkov, A. Loesch, R. Audigier, "PaDiM: a patch distribution modeling framework for anomaly detection and
    localization", ICPR workshops 2021.
    """
    xp = array_module(good[:1])
    width = patch_features(features, good[:1]).shape[-1]
    drawn = np.sort(random_stream(seed, "channels").choice(width, min(channels, width), replace=False))
    drawn = to_device(drawn, xp)

    def by_position(images):
        """The drawn features, (positions, channels, N), and their height and width."""
        found = patch_features(features, images)
        n, h, w, _ = found.shape
        return found[..., drawn].reshape(n, h * w, len(drawn)).transpose(1, 2, 0), (h, w)

    total, products = 0.0, 0.0
    for block in _blocks(good):
        found = by_position(block)[0].astype(np.float64)
        total = total + found.sum(axis=2, keepdims=True)
        products = products + xp.matmul(found, found.swapaxes(1, 2))
    mean = total / len(good)
    covariance = to_host(products - len(good) * xp.matmul(mean, mean.swapaxes(1, 2))) / max(1, len(good) - 1)
    whitening = to_device(np.linalg.inv(np.linalg.cholesky(covariance + ridge * np.eye(len(drawn)))), xp)

    def maps(images):
        found, size = by_position(images)
        distances = xp.sqrt((xp.matmul(whitening, found - mean) ** 2).sum(axis=1))
        return _enlarged(distances.T.astype(images.dtype).reshape(len(images), *size), images.shape[1:3], sigma)

    return _in_blocks(maps)


def patch_features(features, images):
    """Join an extractor's layers to one vector a patch: each layer pooled 3 x 3 and enlarged to the size of the largest layer.

    Parameters
    ----------
    features : callable
    images : array, (N, H, W, 3)

    Returns
    -------
    array, (N, h, w, channels of all layers)
    """
    layers = features(images)
    h, w = max(layer.shape[1:3] for layer in layers)

    def fitted(layer):
        rows, columns = layer.shape[1:3]
        return along_both_axes(layer, bilinear_matrix(rows, h) @ mean3_matrix(rows), bilinear_matrix(columns, w) @ mean3_matrix(columns))

    return array_module(layers[0]).concatenate([fitted(layer) for layer in layers], axis=-1)


def greedy_coreset(points, keep):
    """Choose points that cover the others: each is the one farthest from those chosen before it.

    The first one is the point farthest from the mean.

    Parameters
    ----------
    points : array, (P, C), on the host
    keep : int, 1 or more

    Returns
    -------
    array of ints, (min(keep, P))
        Indices, in the order of choice.

    References
    ----------
    T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 38, 1985. The largest
    distance to the coreset is at most twice that of the best choice.
    """
    points = points - points.mean(axis=0)
    lengths = (points**2).sum(axis=1)
    chosen, distances = [], lengths.copy()
    for _ in range(min(keep, len(points))):
        farthest = int(distances.argmax())
        from_it = lengths - 2 * (points @ points[farthest]) + lengths[farthest]
        distances = np.minimum(distances, from_it) if chosen else from_it
        chosen.append(farthest)
        distances[farthest] = -np.inf  # no point is chosen twice, even where points are equal
    return np.array(chosen)


def nearest_distances(points, bank):
    """Euclidean distance of each point to the nearest one in a bank, in blocks of bounded memory.

    Parameters
    ----------
    points : array, (P, C)
    bank : array, (K, C)

    Returns
    -------
    array, (P)

    Notes
    -----
    |p - b|^2 is computed as |p|^2 - 2 p b + |b|^2, which rounds by about the largest |p|^2. So centre points far from the origin first.
    """
    xp, rows = array_module(points, bank), max(1, MOST_DISTANCES // len(bank))
    lengths = (bank**2).sum(axis=1)
    parts = []
    for at in range(0, len(points), rows):
        block = points[at : at + rows]
        squares = (block**2).sum(axis=1) + (lengths - 2 * (block @ bank.T)).min(axis=1)
        parts.append(xp.sqrt(xp.maximum(squares, 0)))
    return xp.concatenate(parts)


def _sampled_patches(good, features, candidates, rng):
    """Features of good patches drawn without replacement, (candidates, channels), on the host and in the order of the images."""
    an_image = np.prod(patch_features(features, good[:1]).shape[1:3])
    drawn = np.sort(rng.choice(len(good) * an_image, min(candidates, len(good) * an_image), replace=False))
    parts = []
    for number, block in enumerate(_blocks(good)):
        found = to_host(patch_features(features, block))
        rows = found.reshape(-1, found.shape[-1])
        first = number * AT_ONCE * an_image
        parts.append(rows[drawn[(drawn >= first) & (drawn < first + len(rows))] - first])
    return np.concatenate(parts)


def _enlarged(distances, size, sigma):
    """Patch distances (N, h, w) as smoothed maps of the images' size."""
    h, w = distances.shape[1:]
    return smooth(along_both_axes(distances[..., None], bilinear_matrix(h, size[0]), bilinear_matrix(w, size[1]))[..., 0], sigma)


def _blocks(images):
    """A few images at a time."""
    return (images[at : at + AT_ONCE] for at in range(0, len(images), AT_ONCE))


def _in_blocks(maps):
    """Make maps of any number of images, a few at a time."""

    def of_all(images):
        parts = [maps(block) for block in _blocks(images)]
        return array_module(*parts).concatenate(parts)

    return of_all
