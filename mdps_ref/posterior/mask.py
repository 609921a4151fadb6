"""The mask: which pixels are suspected. Held-out good images set the threshold, so no test image has a say in another's mask."""

from mdps_ref.posterior.quantile import upper_quantile


def mask_threshold(good_maps, share):
    """Choose the lowest threshold that at most a given share of good pixels exceeds.

    Parameters
    ----------
    good_maps : array, (N, H, W), or iterable of arrays
        Anomaly maps of held-out good images. They are read several times: so they need not be in memory together, and a
        generator is refused.
    share : float, 0 .. 1
        The share of their pixels that may be suspected.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If the maps can be gone through only once.
    ValueError
        If there are no maps, or the share is outside 0 .. 1.

    Equation
    --------
    E14 : the threshold is the (1 - share) quantile of the maps of held-out good images
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a mask threshold needs a share of the held-out good maps in 0 .. 1, got {share}")
    return upper_quantile(good_maps, 1 - share)


def suspected(maps, threshold):
    """Make the mask.

    Parameters
    ----------
    maps : array, (N, H, W)
    threshold : float

    Returns
    -------
    array, (N, H, W, 1)
        In the dtype of the maps.

    Equation
    --------
    E14 : m = 1 where the guided map exceeds the threshold, 0 elsewhere
    """
    return (maps > threshold).astype(maps.dtype)[..., None]
