"""Metrics of how well scores tell anomalous from normal: AUROC, average precision, AUPRO, and F1 at a given threshold.

Labels and masks are 1 (or True) where anomalous, 0 where normal. Labels and scores have the same shape, whatever it is: one entry an
image, or one entry a pixel. A metric is nan if a rate that it needs has denominator zero.
"""

import math

import numpy as np

from mdps_ref.scoring.curves import areas_under, checked_entries, finite_scores, precision_recall_curve, pro_curve, roc_curve


def auroc(labels, scores):
    """Area under the ROC curve.

    Parameters
    ----------
    labels, scores : array, both of the same shape

    Returns
    -------
    float
        1 is perfect, 1/2 is guessing; nan if all labels are equal.

    Raises
    ------
    ValueError
        As `roc_curve`.

    Equation
    --------
    E21 : AUROC = P(s_anomalous > s_normal) + P(s_anomalous = s_normal) / 2, over all pairs of an anomalous and a normal entry

    References
    ----------
    T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27, 2006.
    """
    false_positive_rates, true_positive_rates, _ = roc_curve(labels, scores)
    return area_under(false_positive_rates, true_positive_rates, limit=1.0)


def average_precision(labels, scores):
    """Average precision: the area under the precision-recall curve, summed as steps.

    Parameters
    ----------
    labels, scores : array, both of the same shape

    Returns
    -------
    float
        1 is perfect, about the anomalous share is guessing; nan if all labels are equal.

    Raises
    ------
    ValueError
        As `roc_curve`.

    Equation
    --------
    E22 : AP = sum_i (recall_i - recall_{i-1}) precision_i, over the distinct scores from the highest to the lowest

    References
    ----------
    C. Manning, P. Raghavan, H. Schütze, "Introduction to Information Retrieval", 2008, chapter 8.

    Notes
    -----
    Straight lines between the points of the curve would overestimate the area.
    """
    precisions, recalls, _ = precision_recall_curve(labels, scores)
    if _is_one_class(labels):
        return math.nan
    return float(np.average(precisions[1:], weights=np.diff(recalls)))  # divided by the sum of the weights, perfect is exactly 1


def aupro(masks, maps, limit=0.3):
    """Area under the per-region overlap curve up to a false positive rate, normalised to 1.

    Parameters
    ----------
    masks, maps : array, (N, H, W)
        True masks and anomaly maps.
    limit : float, in (0, 1]
        The largest false positive rate.

    Returns
    -------
    float
        1 is perfect, limit / 2 is guessing; nan if there is no region or no normal pixel.

    Raises
    ------
    ValueError
        As `pro_curve`, or if `limit` is out of its range.

    Equation
    --------
    E23 : AUPRO = (1 / limit) integral of PRO(f) df from f = 0 to limit, where PRO(f) is the share of a defect's pixels that is found
        at false positive rate f, averaged over the defects

    References
    ----------
    P. Bergmann et al., "Uninformed students", CVPR 2020.

    Notes
    -----
    The curve is linear between its points, and so at the limit.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit is {limit}; expected a false positive rate above 0 and at most 1")
    return area_under(*pro_curve(masks, maps), limit)


def threshold_at_rate(good_scores, rate):
    """Smallest good score that at most the share `rate` of the good scores exceeds.

    Parameters
    ----------
    good_scores : array
        Scores of held-out good images.
    rate : float, in [0, 1]
        The false positive rate that is allowed. Below 1 / (number of scores) no good score exceeds the threshold.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no scores, a score is not finite, or the rate is out of its range.
    """
    scores = np.sort(finite_scores(good_scores).ravel())
    if not scores.size:
        raise ValueError("there are no held-out good scores; at least one is needed for a threshold")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}; expected a share from 0 to 1")
    flagged = np.searchsorted(np.arange(scores.size) / scores.size, rate, side="right") - 1  # the largest k with k / n <= rate
    return float(scores[scores.size - 1 - flagged])


def exceeds(scores, threshold):
    """Decide which scores are anomalous: those above the threshold.

    Parameters
    ----------
    scores : array, any shape
    threshold : float
        May be infinite.

    Returns
    -------
    bool array, shape of `scores`

    Raises
    ------
    ValueError
        If the threshold is nan.

    Notes
    -----
    The comparison is made in float64: in float32 a threshold would first be rounded, perhaps past a score.
    """
    if math.isnan(threshold):
        raise ValueError("threshold is nan; expected a number")
    return np.asarray(scores, np.float64) > threshold


def counts_at(labels, scores, threshold):
    """Count the right and wrong decisions at a threshold.

    Parameters
    ----------
    labels, scores : array, both of the same shape
    threshold : float
        May be infinite.

    Returns
    -------
    true_positives, false_positives, false_negatives, true_negatives : int

    Raises
    ------
    ValueError
        As `roc_curve` and `exceeds`.
    """
    anomalous, scores = checked_entries(labels, scores)
    predicted = exceeds(scores, threshold)
    true_positives = np.count_nonzero(predicted & anomalous)
    false_positives = np.count_nonzero(predicted) - true_positives
    false_negatives = np.count_nonzero(anomalous) - true_positives
    return true_positives, false_positives, false_negatives, scores.size - true_positives - false_positives - false_negatives


def f1_score(labels, scores, threshold):
    """F1 score: the harmonic mean of precision and recall at a threshold.

    Parameters
    ----------
    labels, scores : array, both of the same shape
    threshold : float
        Chosen without the test labels, as `threshold_at_rate` does. May be infinite.

    Returns
    -------
    float
        1 is perfect; nan if all labels are equal.

    Raises
    ------
    ValueError
        As `counts_at`.

    Equation
    --------
    E24 : F1 = 2 TP / (2 TP + FP + FN), where an image is called anomalous if its score > threshold

    References
    ----------
    C. J. van Rijsbergen, "Information Retrieval", 1979.
    """
    true_positives, false_positives, false_negatives, _ = counts_at(labels, scores, threshold)
    if _is_one_class(labels):
        return math.nan
    return 2 * true_positives / (2 * true_positives + false_positives + false_negatives)


def area_under(rates, heights, limit):
    """Mean height of a piecewise linear curve over the rates from 0 to a limit.

    Parameters
    ----------
    rates, heights : array, (points)
        Rising, from (0, 0) to (1, 1).
    limit : float, in (0, 1]

    Returns
    -------
    float
        nan if the curve is nan.
    """
    return float(areas_under(rates[None], heights[None], limit)[0])


def _is_one_class(labels):
    """Return whether all labels are equal, or there are none."""
    return not 0 < np.count_nonzero(labels) < np.size(labels)
