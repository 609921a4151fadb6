"""From a map to one number an image, and from n maps to their mean and spread."""

from mdps_ref.backend import array_module


def softmax_top_k(maps, k=500):
    """The k largest entries of the softmax over all pixels, summed.

    Eq: E19 (the authors' code, k = 500).  Shapes: (N, H, W) -> (N).  Range: 0 to 1.
    A map and the same map plus a constant score the same, so an image that is bad all over is not seen by it.
    """
    xp = array_module(maps)
    flat = maps.reshape(len(maps), -1)
    share = xp.exp(flat - flat.max(axis=1, keepdims=True))
    share = share / share.sum(axis=1, keepdims=True)
    return xp.sort(share, axis=1)[:, -k:].sum(axis=1)


def top_k_mean(maps, k):
    """The mean of the k largest entries.  Eq: E19.  Shapes: (N, H, W) -> (N)."""
    return array_module(maps).sort(maps.reshape(len(maps), -1), axis=1)[:, -k:].mean(axis=1)


def maximum(maps):
    """The largest entry.  Eq: E19.  Shapes: (N, H, W) -> (N)."""
    return maps.max(axis=(1, 2))


def one_percent(maps):
    """How many pixels are a hundredth of a map, at least 1: as 500 are of the authors' 224 x 224."""
    return max(1, round(maps.shape[1] * maps.shape[2] / 100))


IMAGE_SCORES = {
    "max": maximum,
    "top_mean": lambda maps: top_k_mean(maps, one_percent(maps)),
    "softmax_top_500": softmax_top_k,
}


def mean_and_spread(maps):
    """The mean of the n maps of each image, and their standard deviation, which says how sure the samples are of it.

    Eq: E20 (the deviation divides by n).  Shapes: (N, n, H, W) -> two arrays (N, H, W).
    """
    return maps.mean(axis=1), maps.std(axis=1)
