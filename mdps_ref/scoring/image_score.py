"""From an anomaly map to one number an image, and from n anomaly maps to their mean and spread."""

from mdps_ref.backend import array_module


def softmax_top_k(maps, k=500):
    """Sum of the k largest entries of the softmax over all pixels, as in the authors' code.

    Parameters
    ----------
    maps : array, (N, H, W)
    k : int

    Returns
    -------
    array, (N)
        0 to 1.

    Equation
    --------
    E19 : score = sum of the k largest entries of softmax(D), over all pixels of the anomaly map D

    Notes
    -----
    Adding a constant to a map does not change its score, so this score misses an image that is anomalous everywhere.
    """
    xp = array_module(maps)
    flat = maps.reshape(len(maps), -1)
    share = xp.exp(flat - flat.max(axis=1, keepdims=True))
    share = share / share.sum(axis=1, keepdims=True)
    return xp.sort(share, axis=1)[:, -k:].sum(axis=1)


def top_k_mean(maps, k):
    """Mean of the k largest entries.

    Parameters
    ----------
    maps : array, (N, H, W)
    k : int

    Returns
    -------
    array, (N)

    Equation
    --------
    E19 : score = mean of the k largest entries of the anomaly map D
    """
    return array_module(maps).sort(maps.reshape(len(maps), -1), axis=1)[:, -k:].mean(axis=1)


def maximum(maps):
    """Largest entry.

    Parameters
    ----------
    maps : array, (N, H, W)

    Returns
    -------
    array, (N)

    Equation
    --------
    E19 : score = max D, the largest entry of the anomaly map D
    """
    return maps.max(axis=(1, 2))


def one_percent(maps):
    """Return 1 % of a map's pixels as a whole number, at least 1; for a map of 224 x 224 pixels that is 502, about the authors' 500.

    Parameters
    ----------
    maps : array, (N, H, W)

    Returns
    -------
    int
    """
    return max(1, round(maps.shape[1] * maps.shape[2] / 100))


IMAGE_SCORES = {
    "max": maximum,
    "top_mean": lambda maps: top_k_mean(maps, one_percent(maps)),
    "softmax_top_500": softmax_top_k,
}


def mean_and_spread(maps):
    """Mean of the n anomaly maps of each image, and their standard deviation.

    Parameters
    ----------
    maps : array, (N, n, H, W)

    Returns
    -------
    mean, spread : array, (N, H, W)
        Where the spread is large, the posterior samples disagree.

    Equation
    --------
    E20 : mean = (1/n) sum_i D_i, spread = sqrt((1/n) sum_i (D_i - mean)^2), over the anomaly maps D_i of an image's n samples
    """
    return maps.mean(axis=1), maps.std(axis=1)


def pooled_mean_and_spread(one, other):
    """Mean and spread of two groups of maps together, from those of each group.

    Parameters
    ----------
    one, other : (int, array, array)
        The number of maps in the group, their mean, and their spread.

    Returns
    -------
    (int, array, array)

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", The American Statistician 37, 1983.
    """
    (n, mean, spread), (m, other_mean, other_spread) = one, other
    total, step = n + m, other_mean - mean
    variance = (n * spread**2 + m * other_spread**2) / total + (n * m / total**2) * step**2
    return total, mean + step * (m / total), variance**0.5
