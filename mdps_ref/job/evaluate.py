"""Metrics of each chain against the true labels and masks, and the decision's threshold from held-out good images."""

import numpy as np

from mdps_ref.scoring.metrics import aupro, auroc, average_precision, f1_score, threshold_at_rate

PRO_LIMIT = 0.3


def evaluate(detection, held_out_scores, labels, truths, config):
    """Compute all metrics of a run.

    Parameters
    ----------
    detection : Detection
        Of N images.
    held_out_scores : array, (M)
        MDPS's scores of good images that neither trained nor test.
    labels : sequence of bool, N
        True for an image with a defect.
    truths : sequence of array, (H, W) bool, or None, N
        True masks; None for a defect without one, which takes no part in the pixel metrics.
    config : Config

    Returns
    -------
    dict
        Can be written as JSON. {chain: its metrics}, the rules, and the mask's threshold. An undefined metric is None.
    """
    chains = {"mdps": detection.mdps, "guided": detection.guided, "reconstruction": detection.reconstruction}
    metrics = {chain: metrics_of(maps, labels, truths) for chain, maps in chains.items()}
    threshold = threshold_at_rate(held_out_scores, config.false_positive_rate)
    metrics["mdps"]["decision_threshold"] = threshold
    metrics["mdps"]["f1"] = _number(f1_score(labels, detection.mdps.score, threshold))
    return metrics | {"rules": config.rules, "rules_except": config.rules_except, "mask_threshold": detection.mask_threshold}


def metrics_of(maps, labels, truths):
    """Compute the metrics of one chain.

    Returns
    -------
    dict
        good_difference, defect_difference: mean |x_0 - y| (in [-1, 1]) over good images, and over the pixels under the true masks.
        contrast: the second over the first.
    """
    known = [i for i, truth in enumerate(truths) if truth is not None]
    masks = [truths[i] for i in known]
    pixel_labels = np.array(masks, bool)
    anomaly, difference = maps.anomaly[known], maps.difference[known]
    good = _mean(maps.difference[~np.asarray(labels, bool)])
    defect = _mean(difference[pixel_labels]) if known else float("nan")
    values = {
        "image_auroc": auroc(labels, maps.score),
        "image_average_precision": average_precision(labels, maps.score),
        "pixel_auroc": auroc(pixel_labels, anomaly) if known else float("nan"),
        "aupro": aupro(masks, anomaly, PRO_LIMIT) if known else float("nan"),
        "good_difference": good,
        "defect_difference": defect,
        "contrast": defect / good if good > 0 else float("nan"),
    }
    return {name: _number(value) for name, value in values.items()}


def _mean(values):
    """Return the mean, nan if there are no values."""
    return float(values.mean()) if values.size else float("nan")


def _number(value):
    """Return a float for JSON, None for nan."""
    return None if np.isnan(value) else float(value)
