"""Bootstrap intervals: how far a metric would move if other images had been tested, and whether two methods really differ.

A resample draws test images with replacement. It is written as how often each image was drawn: `resampled` gives such counts, an array
(R, N) for R resamples of N images. A statistic is a function of the counts, `statistic(counts) -> array, (R)`. So two methods are
compared on the same resamples, and the images themselves are looked at once, for a `Tally`.

    counts = resampled(len(maps), strata=labels)
    ours, theirs = tally(masks, maps), tally(masks, other_maps)
    interval(ours.auroc, counts)
    paired_difference(ours.auroc, theirs.auroc, counts)
    interval(lambda counts: (counts @ inside) / (counts @ good), counts)    # any other statistic, here a ratio of two sums

References
----------
B. Efron, R. J. Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv

from mdps_ref.backend import random_stream
from mdps_ref.scoring.curves import areas_under, checked_entries, finite_scores, region_shares

AT_ONCE = 64  # resamples


class Interval(NamedTuple):
    """The value of a statistic for the images as they are, and the ends of its interval."""

    value: float
    low: float
    high: float


def resampled(groups, resamples=1000, seed=0, strata=None):
    """Draw resamples of images, or of groups of images.

    Parameters
    ----------
    groups : int, or sequence, N
        The number of images; or the group of each image, such as the object that it shows. Images of one group are drawn together.
    resamples : int
        R.
    seed : int
    strata : sequence, N, optional
        A class of each image, such as its label. Each resample then draws as many groups from each class as there are. Without
        strata a resample may hold no defect at all.

    Returns
    -------
    array of ints, (R, N)
        How often each image was drawn.

    Raises
    ------
    ValueError
        If there are no images, or a group has images of two classes.
    """
    groups = np.arange(groups) if isinstance(groups, int | np.integer) else np.asarray(groups)
    if not len(groups):
        raise ValueError("there are no images to draw from; at least one is needed")
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    strata = np.zeros(len(groups)) if strata is None else np.asarray(strata)
    if (strata != strata[first][group_of]).any():
        raise ValueError("a group holds images of two strata; give each group one")
    rng = random_stream(seed, "bootstrap")
    counts = np.zeros((resamples, len(first)), int)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata[first] == stratum)
        counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    return counts[:, group_of]


def interval(statistic, counts, level=0.95):
    """Percentile interval of a statistic.

    Parameters
    ----------
    statistic : callable
        statistic(counts) -> array, (R).
    counts : array of ints, (R, N)
        From `resampled`.
    level : float, in (0, 1)

    Returns
    -------
    Interval
        nan if the statistic is nan on the images themselves. Resamples where it is nan are left out.

    Notes
    -----
    The interval is somewhat too narrow for few images, by a factor of about sqrt(1 - 1 / N). It says nothing where a metric is at its
    end: perfect scores stay perfect in every resample, so the interval of an AUROC of 1 is [1, 1] even for two images.
    """
    value = float(statistic(np.ones((1, counts.shape[1]), int))[0])
    parts = np.array_split(counts, math.ceil(len(counts) / AT_ONCE))
    drawn = np.concatenate([statistic(part) for part in parts])
    drawn = drawn[np.isfinite(drawn)]
    if math.isnan(value) or not drawn.size:
        return Interval(value, math.nan, math.nan)
    return Interval(value, *(float(end) for end in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])))


def paired_difference(one, other, counts, level=0.95):
    """Percentile interval of one statistic minus another one, both on the same resamples.

    Images that are hard for both methods then move both values alike, so this interval is mostly narrower than the two intervals suggest.

    Parameters
    ----------
    one, other : callable
        Statistics of the same images in the same order.
    counts, level
        As in `interval`.

    Returns
    -------
    Interval
        `one` is higher beyond chance, at this level, if the interval lies above 0, and lower if the interval lies below 0.

    Notes
    -----
    A difference of less than 1e-12 of the values is rounding, and counts as 0: two perfect methods do not differ.
    """

    def difference(counts):
        a, b = one(counts), other(counts)
        return np.where(abs(a - b) <= 1e-12 * np.maximum(abs(a), abs(b)), 0.0, a - b)

    return interval(difference, counts, level)


def share_interval(count, total, level=0.95):
    """Exact interval of a share, such as that of the defective images that were flagged.

    Parameters
    ----------
    count, total : int
        `count` of `total`, which is 1 or more.
    level : float, in (0, 1)

    Returns
    -------
    Interval
        Unlike a bootstrap interval it has a width also for 0 of n and n of n.

    References
    ----------
    C. Clopper, E. Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
    """
    tail = (1 - level) / 2
    low = betaincinv(count, total - count + 1, tail) if count else 0.0
    high = betaincinv(count + 1, total - count, 1 - tail) if count < total else 1.0
    return Interval(count / total, float(low), float(high))


def false_alarm_rate(flagged, held_out, level=0.95):
    """Share of new good images that will exceed a threshold that is one of the held-out scores themselves.

    Parameters
    ----------
    flagged : int
        How many held-out scores exceed the threshold.
    held_out : int
        How many held-out scores there are.
    level : float, in (0, 1)

    Returns
    -------
    Interval
        `value` is the expected share, (flagged + 1) / (held_out + 1).

    Notes
    -----
    Where good scores are independent and no two are equal, the share has the beta distribution of (flagged + 1, held_out - flagged),
    whatever the distribution of the scores. Equal scores make it smaller.

    References
    ----------
    S. Wilks, "Statistical prediction with special reference to the problem of tolerance limits", Annals of Mathematical Statistics 13,
    1942.
    """
    ends = betaincinv(flagged + 1, held_out - flagged, [(1 - level) / 2, (1 + level) / 2])
    return Interval((flagged + 1) / (held_out + 1), *map(float, ends))


def tally(labels, scores, bins=4096):
    """Count the entries of each image by score, once for all resamples.

    Parameters
    ----------
    labels : array (N), or sequence of array (H, W) or None, N
        True labels of images, or their true masks. A defective image without a mask, None, takes no part.
    scores : array, (N) or (N, H, W)
        Scores of images, or their anomaly maps.
    bins : int
        If there are more distinct scores, bins of about equally many entries take their place. The counts take 24 N bins bytes.

    Returns
    -------
    Tally

    Raises
    ------
    ValueError
        If shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    scores = finite_scores(scores)
    return tally_in_bins(*bins_of(scores, bins), labels, scores)


def bins_of(scores, bins=4096):
    """Choose the bins that scores are counted in: one for each score, or about equally full ones if there are more than `bins` scores.

    Parameters
    ----------
    scores : array
    bins : int

    Returns
    -------
    edges : array
        The largest score of each bin, ascending.
    mixed : bool array
        Where a bin holds several distinct scores.
    """
    edges = distinct = np.unique(scores)
    if len(distinct) > bins:
        edges = np.unique(np.quantile(scores, np.arange(1, bins + 1) / bins, method="inverted_cdf"))
    return edges, np.bincount(np.searchsorted(edges, distinct), minlength=len(edges)) > 1


def tally_in_bins(edges, mixed, labels, scores):
    """Count the entries of each image in given bins; one image after the other, so that their maps need not be in memory together.

    Parameters
    ----------
    edges : array, (bins)
        The largest score of each bin, ascending; no score exceeds the last one.
    mixed : bool array, (bins)
        Where a bin holds several distinct scores.
    labels : sequence, N
        As for `tally`.
    scores : iterable of float or array (H, W), N

    Returns
    -------
    Tally
    """
    rows = np.zeros((3, len(labels), len(edges)))
    for image, (label, score) in enumerate(zip(labels, scores, strict=True)):
        if label is not None:
            anomalous, values = checked_entries(label, score)
            at = len(edges) - 1 - np.searchsorted(edges, values)
            shares = region_shares(np.atleast_2d(label).astype(bool)[None]).ravel()
            rows[:, image] = [np.bincount(at, weight, len(edges)) for weight in (~anomalous, anomalous, shares)]
    return Tally(*rows, mixed[::-1])


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts of each image's entries by score, from the highest bin down. Its methods are statistics.

    Without bins of several scores the metrics are those of `metrics.py`. With such bins a metric counts the scores of a bin as equal.
    It is then off by at most its `..._error`, for each resample.

    Parameters
    ----------
    normal, anomalous : array, (N, bins)
        Numbers of normal and of anomalous entries.
    overlap : array, (N, bins)
        Sums of 1 / (pixels of the region) over anomalous pixels.
    mixed : bool array, (bins)
        Where a bin holds several distinct scores.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    overlap: np.ndarray
    mixed: np.ndarray

    def auroc(self, counts):
        """Return the AUROC (E21) of each resample, (R); nan if a class is missing."""
        return areas_under(_rising(counts, self.normal), _rising(counts, self.anomalous), 1.0)

    def aupro(self, counts, limit=0.3):
        """Return the AUPRO (E23) of each resample up to a false positive rate, (R); nan if there is no region or no normal pixel."""
        return areas_under(_rising(counts, self.normal), _rising(counts, self.overlap), limit)

    def average_precision(self, counts):
        """Return the average precision (E22) of each resample, (R); nan if a class is missing."""
        found, false = counts @ self.anomalous, counts @ self.normal
        true_positives, predicted = found.cumsum(axis=1), (found + false).cumsum(axis=1)
        precise = (found * true_positives / np.maximum(predicted, 1)).sum(axis=1)
        return _shares(precise, true_positives[:, -1] * false.any(axis=1))

    def auroc_error(self, counts):
        """Return by how much `auroc` may be off for each resample, (R): half the rectangle that the curve crosses in each mixed bin."""
        return self._rectangles(_rising(counts, self.normal), _rising(counts, self.anomalous), 1.0)

    def aupro_error(self, counts, limit=0.3):
        """Return by how much `aupro` may be off for each resample, (R)."""
        return self._rectangles(_rising(counts, self.normal), _rising(counts, self.overlap), limit)

    def average_precision_error(self, counts):
        """Return by how much `average_precision` may be off for each resample, (R).

        At an anomalous entry of a mixed bin precision is highest if all anomalous entries of the bin come first and this is the last of
        them. It is lowest if all normal entries come first and this is the first anomalous one.
        """
        found, false = counts @ self.anomalous, counts @ self.normal
        true_positives, false_positives = found.cumsum(axis=1), false.cumsum(axis=1)
        before, false_before = true_positives - found, false_positives - false
        highest = true_positives / np.maximum(true_positives + false_before, 1)
        lowest = (before + 1) / (before + 1 + false_positives)
        return (_shares(found, true_positives[:, -1:]) * (highest - lowest) * self.mixed).sum(axis=1)

    def _rectangles(self, x, y, limit):
        touched = self.mixed & (x[:, :-1] < limit)
        return (np.diff(x) * np.diff(y) * touched).sum(axis=1) / 2 / limit


def _rising(counts, entries):
    """The share of each resample's entries in the bins so far, (R, bins + 1), 0 first; nan if there are none."""
    sums = np.pad(np.cumsum(counts @ entries, axis=1), ((0, 0), (1, 0)))
    return _shares(sums, sums[:, -1:])


def _shares(parts, totals):
    """Parts of totals; nan where a total is 0."""
    return np.where(totals > 0, parts / np.where(totals > 0, totals, 1), np.nan)
