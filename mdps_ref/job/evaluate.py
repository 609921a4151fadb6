"""Metrics of each chain against the true labels and masks, and the decision's threshold from held-out good images."""

import dataclasses
import functools
import math

import numpy as np

from mdps_ref.scoring.intervals import Tally, interval, resampled, tally, tally_in_bins
from mdps_ref.scoring.metrics import auroc, average_precision, exceeds, f1_score, threshold_at_rate
from mdps_ref.scoring.pixel_table import PixelTable
from mdps_ref.scoring.uncertainty import errors_left, least_certain

PRO_LIMIT = 0.3
RESAMPLES = 1000
BINS = 512  # of map values, for the intervals of pixel metrics
MOST_RESAMPLED = 1000  # test images: larger sets have no intervals, so that memory does not grow with the images


@dataclasses.dataclass(frozen=True)
class ChainResult:
    """What one chain gave for N test images, in as much memory as a report needs.

    Parameters
    ----------
    score : array, (N)
    difference : array, (N)
        Mean |x_0 - y| of each image, in [-1, 1].
    inside : array, (N)
        Mean |x_0 - y| under each image's true mask; nan where that is empty or missing.
    width : array, (N)
        Half the range of each image's score, see `maps.score_range`; 0 with one sample.
    pixels : PixelTable
        Of all pixels.
    tally : Tally or None
        Of the pixels of each image; None of more than MOST_RESAMPLED images.
    shown : Maps
        Of the few images that figures show.
    """

    score: np.ndarray
    difference: np.ndarray
    inside: np.ndarray
    width: np.ndarray
    pixels: PixelTable
    tally: Tally | None
    shown: object


def chain_result(records, truths):
    """Gather what a chain gave.

    Parameters
    ----------
    records : ChainRecords
    truths : sequence of array, (side, side) bool, or None, N

    Returns
    -------
    ChainResult
    """
    pixels = PixelTable()
    for start, maps in records.judged_anomaly():
        pixels.add(maps, truths[start : start + len(maps)])
    counted = None
    if len(truths) <= MOST_RESAMPLED:
        counted = tally_in_bins(*pixels.bins(BINS), truths, (image for _, maps in records.judged_anomaly() for image in maps))
    return ChainResult(records.score, records.difference, records.inside, records.width, pixels, counted, records.shown_maps())


def evaluate(chains, held_out_scores, labels, areas, config, mask_threshold=None):
    """Compute all metrics of a run.

    Parameters
    ----------
    chains : dict of str to ChainResult
        Of N images.
    held_out_scores : array, (M)
        MDPS's scores of good images that neither trained nor test.
    labels : sequence of bool, N
        True for an image with a defect.
    areas : sequence of int or None, N
        Anomalous pixels in each true mask; None for a defect without one, which takes no part in the pixel metrics.
    config : Config
    mask_threshold : float, optional

    Returns
    -------
    dict
        Can be written as JSON. {chain: its metrics}, over how many images and pixels they are, whether uncertain decisions are wrong
        ones (see `uncertainty`), the rules, and the mask's threshold.
        An undefined metric is None.
    """
    labels = np.asarray(labels, bool)
    draws = resampled(len(labels), RESAMPLES, config.seed, labels) if len(labels) <= MOST_RESAMPLED else None
    metrics = {name: metrics_of(chain, labels, areas) | intervals_of(chain, labels, areas, draws) for name, chain in chains.items()}
    threshold = threshold_at_rate(held_out_scores, config.false_positive_rate)
    metrics["mdps"]["decision_threshold"] = threshold
    metrics["mdps"]["f1"] = _number(f1_score(labels, chains["mdps"].score, threshold))
    metrics["uncertainty"] = uncertainty(chains["mdps"], labels, threshold, config.samples)
    counts = {
        "good_images": int(np.count_nonzero(~labels)),
        "defective_images": int(np.count_nonzero(labels)),
        "defective_images_without_mask": sum(area is None for area in areas),
        "normal_pixels": chains["mdps"].pixels.normal,
        "anomalous_pixels": chains["mdps"].pixels.anomalous,
    }
    return metrics | {"over": counts, "rules": config.rules, "rules_except": config.rules_except, "mask_threshold": mask_threshold}


def metrics_of(chain, labels, areas):
    """Compute the metrics of one chain.

    Returns
    -------
    dict
        good_difference, defect_difference: mean |x_0 - y| (in [-1, 1]) over good images, and over the pixels under the true masks.
        contrast: the second over the first. pixel_auroc_error, aupro_error: how far the two may be off because map values of many
        images are rounded; 0 if none are.
    """
    good = _mean(chain.difference[~np.asarray(labels, bool)])
    marked = np.array([area or 0 for area in areas])
    defect = _mean(chain.inside[marked > 0], marked[marked > 0])
    values = {
        "image_auroc": auroc(labels, chain.score),
        "image_average_precision": average_precision(labels, chain.score),
        "pixel_auroc": chain.pixels.auroc(),
        "pixel_auroc_error": chain.pixels.auroc_error,
        "aupro": chain.pixels.aupro(PRO_LIMIT),
        "aupro_error": chain.pixels.aupro_error(PRO_LIMIT),
        "good_difference": good,
        "defect_difference": defect,
        "contrast": defect / good if good > 0 else float("nan"),
    }
    return {name: _number(value) for name, value in values.items()}


def intervals_of(chain, labels, areas, counts):
    """Compute bootstrap 95 % intervals over the test images.

    Parameters
    ----------
    chain, labels, areas
        As for `metrics_of`.
    counts : array of ints, (R, N), or None
        Resamples, from `scoring.intervals.resampled`; None of more than MOST_RESAMPLED images.

    Returns
    -------
    dict
        intervals: {metric: its two ends}, or None for an undefined metric; {} without counts. interval_error: by how much the ends of
        pixel_auroc and aupro may be off, since map values are counted in BINS bins.
    """
    if counts is None:
        return {"intervals": {}, "interval_error": None}
    images, pixels = tally(labels, chain.score), chain.tally
    aupro, aupro_error = (functools.partial(of, limit=PRO_LIMIT) for of in (pixels.aupro, pixels.aupro_error))
    statistics = {
        "image_auroc": images.auroc,
        "image_average_precision": images.average_precision,
        "pixel_auroc": pixels.auroc,
        "aupro": aupro,
        "contrast": contrast_of(chain.inside, areas, chain.difference, labels),
    }
    found = {name: interval(statistic, counts) for name, statistic in statistics.items()}
    errors = [interval(error, counts, level=1.0).high for error in (pixels.auroc_error, aupro_error)]  # the largest of all draws
    return {
        "intervals": {name: None if math.isnan(low) else [low, high] for name, (_, low, high) in found.items()},
        "interval_error": float(np.nan_to_num(errors).max()),
    }


def doubts(chain, threshold, samples):
    """Measure how uncertain the decision about each image is.

    Parameters
    ----------
    chain : ChainResult
        Of N images.
    threshold : float
        The decision's.
    samples : int
        Posterior samples for each image.

    Returns
    -------
    dict of str to array, (N)
        Larger is less certain. spread: half the range of the score over the samples, if there are several. distance: how near the score
        is to the threshold, as a number below 0.
    """
    spread = {"spread": chain.width} if samples > 1 else {}
    return spread | {"distance": -abs(chain.score - threshold)}


def uncertainty(chain, labels, threshold, samples):
    """Compute by how much the error rate falls when the least certain tenth of the decisions is set aside.

    Parameters
    ----------
    chain, threshold, samples
        As for `doubts`.
    labels : array of bool, (N)

    Returns
    -------
    dict
        images, wrong, set_aside: numbers of decisions. error: the share of wrong ones. drop: by how much it falls, by each measure of
        `doubts`; by chance 0 on average.
    """
    wrong = exceeds(chain.score, threshold) != labels
    aside, error = least_certain(len(wrong)), float(wrong.mean())
    drop = {name: error - float(errors_left(wrong, doubt)[aside]) for name, doubt in doubts(chain, threshold, samples).items()}
    return {"images": len(wrong), "wrong": int(wrong.sum()), "set_aside": aside, "error": error, "drop": drop}


def contrast_of(inside, areas, difference, labels):
    """Make the contrast a statistic (see `scoring.intervals`): the mean |x_0 - y| under the true masks over that of good images.

    Parameters
    ----------
    inside : array, (N)
        Mean |x_0 - y| under each image's true mask; anything where that is empty or missing.
    areas : sequence of int or None, N
    difference : array, (N)
        Mean |x_0 - y| of each image.
    labels : array of bool, (N)

    Returns
    -------
    callable
        statistic(counts) -> array, (R); nan where a mean is undefined, or that of good images is 0.
    """
    area = np.array([size or 0 for size in areas])
    marked = np.where(area > 0, inside, 0).astype(np.float64) * area
    good = np.where(labels, 0.0, difference)

    def statistic(counts):
        share, whole = (counts @ marked) * (counts @ ~labels), (counts @ area) * (counts @ good)
        return np.where(whole > 0, share / np.where(whole > 0, whole, 1), np.nan)

    return statistic


def _mean(values, weights=None):
    """Return the weighted mean in float64, nan if there are no values."""
    return float(np.average(values.astype(np.float64), weights=weights)) if values.size else float("nan")


def _number(value):
    """Return a float for JSON, None for nan."""
    return None if np.isnan(value) else float(value)
