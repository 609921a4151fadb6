"""How well scores tell anomalous from normal: AUROC, average precision, AUPRO, and F1 at a threshold fixed beforehand.

Labels and masks are 1 (or True) where anomalous. Labels and scores of any shape go together if the shapes are equal: one entry an
image, or one a pixel. Every rate whose denominator is zero, and every metric that such a rate enters, is nan.
"""

import math

import numpy as np
import scipy.ndimage


def roc_curve(labels, scores):
    """The false and true positive rates at each distinct score t, predicting "anomalous" for score >= t.

    Shapes: labels, scores alike -> false_positive_rates, true_positive_rates, thresholds, each (distinct scores + 1,).
    Range: from (0, 0) at t = +inf to (1, 1) at the smallest score; tied scores share one point; nan for a class that is absent.
    Raises: ValueError if the shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    anomalous, scores = _checked(labels, scores)
    thresholds, true_positives, false_positives = _sums_above(scores, anomalous, ~anomalous)
    return _shares(false_positives), _shares(true_positives), thresholds


def auroc(labels, scores):
    """Area under the ROC curve: how often an anomalous entry scores above a normal one, a tie counting one half.

    Eq: E21 (Fawcett 2006).  Shapes: labels, scores alike -> float.  Range: [0, 1], one half for scores that tell nothing; nan with
    one class only.  Raises: as `roc_curve`.
    """
    false_positive_rates, true_positive_rates, _ = roc_curve(labels, scores)
    return _mean_height(false_positive_rates, true_positive_rates, limit=1.0)


def precision_recall_curve(labels, scores):
    """The precision and recall at each distinct score t, predicting "anomalous" for score >= t.

    Shapes: labels, scores alike -> precisions, recalls, thresholds, each (distinct scores + 1,), highest threshold first.
    Range: from precision 1 (by convention: nothing is predicted), recall 0 at t = +inf, to recall 1; recall is nan where nothing is
    anomalous.  Raises: as `roc_curve`.
    """
    anomalous, scores = _checked(labels, scores)
    thresholds, true_positives, predicted = _sums_above(scores, anomalous, np.ones(scores.shape, bool))
    precisions = np.append(1.0, true_positives[1:] / predicted[1:])
    return precisions, _shares(true_positives), thresholds


def average_precision(labels, scores):
    """The precision at each step of the precision-recall curve, weighted by the recall that the step adds.

    Eq: E22 (Manning et al. 2008, ch. 8).  No interpolation: the area under the straight lines between the points is too large.
    Shapes: labels, scores alike -> float.  Range: [0, 1], about the anomalous share for scores that tell nothing; nan with one class
    only.  Raises: as `roc_curve`.
    """
    precisions, recalls, _ = precision_recall_curve(labels, scores)
    if _is_one_class(labels):
        return math.nan
    return float(np.sum(np.diff(recalls) * precisions[1:]))


def pro_curve(masks, maps):
    """The false positive rate and the mean per-region overlap at each distinct score t of the anomaly maps, for score >= t.

    A region is an 8-connected piece of one image's mask; its overlap is the share of its pixels at or above t, so a small defect
    counts as much as a large one. The false positive rate is over the normal pixels of all images.
    Shapes: masks, maps (N, H, W) -> false_positive_rates, overlaps, each (distinct scores + 1,).
    Range: from (0, 0) to (1, 1); overlaps are nan without a region, the rates nan without a normal pixel.
    Raises: as `roc_curve`, and ValueError if there are not three axes.
    """
    masks, maps = _as_array(masks, "masks"), _as_array(maps, "maps")
    anomalous, scores = _checked(masks, maps)
    if masks.ndim != 3:
        raise ValueError(f"masks have shape {masks.shape}; expected (N, H, W)")
    shares = _region_shares(anomalous.reshape(masks.shape))
    _, overlaps, false_positives = _sums_above(scores, shares.ravel(), ~anomalous)
    return _shares(false_positives), _shares(overlaps)


def aupro(masks, maps, limit=0.3):
    """Area under the per-region overlap curve up to the false positive rate `limit`, divided by `limit`.

    Eq: E23 (Bergmann et al. 2020).  The curve is linear between its points, and so at the limit.
    Shapes: masks, maps (N, H, W) -> float.  Range: [0, 1], limit / 2 for maps that tell nothing; nan without a region or without a
    normal pixel.  Raises: as `pro_curve`, and ValueError if `limit` is not in (0, 1].
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit is {limit}; expected a false positive rate above 0 and at most 1")
    return _mean_height(*pro_curve(masks, maps), limit)


def threshold_at_rate(good_scores, rate):
    """The smallest held-out good score above which at most the share `rate` of the held-out good scores lies.

    Predict "anomalous" for score > threshold. A rate below 1 / (number of scores) flags none of them.
    Shapes: good_scores any -> float.  Range: rate in [0, 1].
    Raises: ValueError if there are no scores, one is not finite, or the rate is outside its range.
    """
    scores = np.sort(_finite(good_scores).ravel())
    if not scores.size:
        raise ValueError("there are no held-out good scores; at least one is needed for a threshold")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}; expected a share from 0 to 1")
    flagged = np.searchsorted(np.arange(scores.size) / scores.size, rate, side="right") - 1  # the largest k with k / n <= rate
    return float(scores[scores.size - 1 - flagged])


def counts_at(labels, scores, threshold):
    """True positives, false positives, false negatives and true negatives, predicting "anomalous" for score > threshold.

    Shapes: labels, scores alike -> four ints.  Range: the threshold may be infinite.
    Raises: as `roc_curve`, and ValueError if the threshold is nan.
    """
    anomalous, scores = _checked(labels, scores)
    if math.isnan(threshold):
        raise ValueError("threshold is nan; expected a number")
    predicted = scores > np.float64(threshold)  # a plain float would be rounded to the scores' own, smaller, type
    true_positives = np.count_nonzero(predicted & anomalous)
    false_positives = np.count_nonzero(predicted) - true_positives
    false_negatives = np.count_nonzero(anomalous) - true_positives
    return true_positives, false_positives, false_negatives, scores.size - true_positives - false_positives - false_negatives


def f1_score(labels, scores, threshold):
    """The harmonic mean of precision and recall, predicting "anomalous" for score > threshold:  2 TP / (2 TP + FP + FN).

    Eq: E24 (van Rijsbergen 1979).  Choose the threshold without the test labels, as `threshold_at_rate` does.
    Shapes: labels, scores alike -> float.  Range: [0, 1]; nan with one class only.  Raises: as `counts_at`.
    """
    true_positives, false_positives, false_negatives, _ = counts_at(labels, scores, threshold)
    if _is_one_class(labels):
        return math.nan
    return 2 * true_positives / (2 * true_positives + false_positives + false_negatives)


def _as_array(values, name):
    """`values` as one NumPy array.  Raises: ValueError that names them if they are a sequence of images of several sizes."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} are images of several sizes; expected one size") from None


def _finite(scores):
    """`scores` as an array.  Raises: ValueError that counts the nan and the infinite among them."""
    scores = _as_array(scores, "scores")
    broken = scores.size - np.count_nonzero(np.isfinite(scores))
    if broken:
        raise ValueError(f"scores hold {broken} of {scores.size} values that are nan or infinite; expected finite ones")
    return scores


def _checked(labels, scores):
    """The labels as booleans and the finite scores, both flat."""
    labels, scores = _as_array(labels, "labels"), _finite(scores)
    if labels.shape != scores.shape:
        raise ValueError(f"labels have shape {labels.shape} and scores {scores.shape}; expected the same shape")
    anomalous = labels.astype(bool)
    if not np.array_equal(anomalous, labels):
        raise ValueError("labels hold values other than 0 and 1; expected 1 for anomalous and 0 for normal")
    return anomalous.ravel(), scores.ravel()


def _is_one_class(labels):
    """Whether the labels lack anomalous or normal entries."""
    return not 0 < np.count_nonzero(labels) < np.size(labels)


def _sums_above(scores, *weights):
    """Each distinct score t, highest first, and for each of `weights` its sum over the entries with score >= t.

    Shapes: scores, weights (n,) -> thresholds and one array of sums for each, (distinct scores + 1,); the first entry is +inf and 0.
    """
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    last_of_ties = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], ranked.size > 0))
    thresholds = np.append(np.inf, ranked[last_of_ties])
    return thresholds, *(np.append(0, np.cumsum(weight[order])[last_of_ties]) for weight in weights)


def _shares(sums):
    """Running sums divided by the last, the total; nan where the total is zero."""
    return sums / sums[-1] if sums[-1] else np.full(sums.shape, np.nan)


def _mean_height(rates, heights, limit):
    """The mean height of a curve over the rates from 0 to `limit`, linear between its points; nan if the curve is."""
    if math.isnan(rates[-1] + heights[-1]):
        return math.nan
    kept = rates <= limit
    x = np.append(rates[kept], limit)
    y = np.append(heights[kept], np.interp(limit, rates, heights))
    return min(1.0, float(np.trapezoid(y, x)) / limit)  # rounding can carry a perfect curve past 1


def _region_shares(masks):
    """One over the size of its region at each anomalous pixel, 0 at normal ones: a region's shares add up to 1.

    Shapes: masks (N, H, W) booleans -> (N, H, W).
    """
    shares = np.zeros(masks.shape)
    for mask, share in zip(masks, shares, strict=True):
        regions, _ = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
        share[mask] = 1 / np.bincount(regions.ravel())[regions[mask]]
    return shares
