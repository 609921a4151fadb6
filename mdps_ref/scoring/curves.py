"""Curves of how well scores tell anomalous from normal: ROC, precision and recall, per-region overlap, over all thresholds.

Labels and masks are 1 (or True) where anomalous, 0 where normal. Labels and scores have the same shape, whatever it is: one entry an
image, or one entry a pixel. A rate with denominator zero is nan.
"""

import numpy as np
import scipy.ndimage


def roc_curve(labels, scores):
    """ROC curve: false and true positive rate at each distinct score t, calling a score >= t anomalous.

    Parameters
    ----------
    labels, scores : array, both of the same shape

    Returns
    -------
    false_positive_rates, true_positive_rates, thresholds : array, (distinct scores + 1)
        From (0, 0) at threshold inf to (1, 1) at the smallest score. Tied scores share one point.

    Raises
    ------
    ValueError
        If the shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    anomalous, scores = checked_entries(labels, scores)
    thresholds, true_positives, false_positives = _sums_above(scores, anomalous, ~anomalous)
    return shares_of_total(false_positives), shares_of_total(true_positives), thresholds


def precision_recall_curve(labels, scores):
    """Precision-recall curve: both values at each distinct score t, calling a score >= t anomalous.

    Parameters
    ----------
    labels, scores : array, both of the same shape

    Returns
    -------
    precisions, recalls, thresholds : array, (distinct scores + 1)
        From precision 1 and recall 0 at threshold inf to recall 1 at the smallest score.

    Raises
    ------
    ValueError
        As `roc_curve`.

    Notes
    -----
    At threshold inf nothing is called anomalous; precision 1 is a convention there.
    """
    anomalous, scores = checked_entries(labels, scores)
    thresholds, true_positives, predicted = _sums_above(scores, anomalous, np.ones(scores.shape, bool))
    precisions = np.append(1.0, true_positives[1:] / predicted[1:])
    return precisions, shares_of_total(true_positives), thresholds


def pro_curve(masks, maps):
    """PRO curve: false positive rate and mean per-region overlap at each distinct score t, calling a score >= t anomalous.

    Parameters
    ----------
    masks, maps : array, (N, H, W)
        True masks and anomaly maps.

    Returns
    -------
    false_positive_rates, overlaps : array, (distinct scores + 1)
        From (0, 0) to (1, 1). Overlaps are nan if there is no region, rates if there is no normal pixel.

    Raises
    ------
    ValueError
        As `roc_curve`, or if the arrays do not have three axes.

    Notes
    -----
    A region is an 8-connected component of one image's mask. Its overlap is the share of its pixels with score >= t, so a small region
    counts as much as a large one. The false positive rate is taken over the normal pixels of all images.
    """
    masks, maps = _as_array(masks, "masks"), _as_array(maps, "maps")
    anomalous, scores = checked_entries(masks, maps)
    if masks.ndim != 3:
        raise ValueError(f"masks have shape {masks.shape}; expected (N, H, W)")
    shares = region_shares(anomalous.reshape(masks.shape))
    _, overlaps, false_positives = _sums_above(scores, shares.ravel(), ~anomalous)
    return shares_of_total(false_positives), shares_of_total(overlaps)


def checked_entries(labels, scores):
    """Check labels and scores, and flatten them.

    Parameters
    ----------
    labels, scores : array, both of the same shape

    Returns
    -------
    anomalous : bool array, (entries)
    scores : array, (entries)

    Raises
    ------
    ValueError
        If the shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    labels, scores = _as_array(labels, "labels"), finite_scores(scores)
    if labels.shape != scores.shape:
        raise ValueError(f"labels have shape {labels.shape} and scores {scores.shape}; expected the same shape")
    anomalous = labels.astype(bool)
    if not np.array_equal(anomalous, labels):
        raise ValueError("labels hold values other than 0 and 1; expected 1 for anomalous and 0 for normal")
    return anomalous.ravel(), scores.ravel()


def finite_scores(scores):
    """Return `scores` as an array.

    Raises
    ------
    ValueError
        If a score is not finite.
    """
    scores = _as_array(scores, "scores")
    broken = scores.size - np.count_nonzero(np.isfinite(scores))
    if broken:
        raise ValueError(f"scores hold {broken} of {scores.size} values that are nan or infinite; expected finite ones")
    return scores


def _as_array(values, name):
    """Return `values` as one array; ValueError that names them if they are images of several sizes."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} are images of several sizes; expected one size") from None


def _sums_above(scores, *weights):
    """Return the distinct scores t, highest first after inf, and for each weight its sum over the entries with score >= t."""
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    last_of_ties = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], ranked.size > 0))
    thresholds = np.append(np.inf, ranked[last_of_ties])
    return thresholds, *(np.append(0, np.cumsum(weight[order])[last_of_ties]) for weight in weights)


def shares_of_total(sums):
    """Divide running sums by the last one, the total.

    Parameters
    ----------
    sums : array, (points)

    Returns
    -------
    array, (points)
        nan where the total is zero.
    """
    return sums / sums[-1] if sums[-1] else np.full(sums.shape, np.nan)


def region_shares(masks):
    """Weigh anomalous pixels so that each region of a mask sums to 1.

    Parameters
    ----------
    masks : bool array, (N, H, W)

    Returns
    -------
    array, (N, H, W)
        1 / (size of its region) at an anomalous pixel, 0 at a normal one.
    """
    shares = np.zeros(masks.shape)
    for mask, share in zip(masks, shares, strict=True):
        regions, _ = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
        share[mask] = 1 / np.bincount(regions.ravel())[regions[mask]]
    return shares


def areas_under(rates, heights, limit):
    """Mean height of each piecewise linear curve over the rates from 0 to a limit.

    Parameters
    ----------
    rates, heights : array, (R, points)
        R curves, rising.
    limit : float, in (0, 1]

    Returns
    -------
    array, (R)
        nan for a curve with nan.
    """
    width, rise = np.diff(rates), np.diff(heights)
    kept = np.clip(limit - rates[:, :-1], 0, width)  # the part of each piece on this side of the limit
    share = kept / np.where(width > 0, width, 1)
    area, total = (kept * (heights[:, :-1] + rise * share / 2)).sum(axis=1), kept.sum(axis=1)
    mean = area / np.where(total > 0, total, 1)  # the total is the limit, to rounding; divided by it, a curve of ones is exactly 1
    return np.where(np.isnan(rates[:, -1] + heights[:, -1]), np.nan, mean)
