"""Metrics of each chain against the true labels and masks, and the decision's threshold from held-out good images."""

import dataclasses

import numpy as np

from mdps_ref.scoring.metrics import auroc, average_precision, f1_score, threshold_at_rate
from mdps_ref.scoring.pixel_table import PixelTable

PRO_LIMIT = 0.3


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
    pixels : PixelTable
        Of all pixels.
    shown : Maps
        Of the few images that figures show.
    """

    score: np.ndarray
    difference: np.ndarray
    inside: np.ndarray
    pixels: PixelTable
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
    return ChainResult(records.score, records.difference, records.inside, pixels, records.shown_maps())


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
        Can be written as JSON. {chain: its metrics}, over how many images and pixels they are, the rules, and the mask's threshold.
        An undefined metric is None.
    """
    metrics = {name: metrics_of(chain, labels, areas) for name, chain in chains.items()}
    threshold = threshold_at_rate(held_out_scores, config.false_positive_rate)
    metrics["mdps"]["decision_threshold"] = threshold
    metrics["mdps"]["f1"] = _number(f1_score(labels, chains["mdps"].score, threshold))
    counts = {
        "good_images": int(np.count_nonzero(~np.asarray(labels, bool))),
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


def _mean(values, weights=None):
    """Return the weighted mean in float64, nan if there are no values."""
    return float(np.average(values.astype(np.float64), weights=weights)) if values.size else float("nan")


def _number(value):
    """Return a float for JSON, None for nan."""
    return None if np.isnan(value) else float(value)
