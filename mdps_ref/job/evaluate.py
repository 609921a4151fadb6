"""Against the truth: metrics of each kind of chain, and the decision that held-out good images set the threshold for."""

import numpy as np

from mdps_ref.scoring.metrics import aupro, auroc, average_precision, f1_score, threshold_at_rate

PRO_LIMIT = 0.3


def evaluate(detection, held_out_scores, labels, truths, config):
    """All metrics of a run, a JSON-able dictionary; nan becomes None, where a metric is not defined.  And by which rules they came about.

    labels: (N) bool, True for an image with a defect.  truths: (N) list of (H, W) bool masks, None for a defect without one;
    such images take no part in the pixel metrics.  held_out_scores: (M), of good images that neither trained nor test.
    """
    threshold = threshold_at_rate(held_out_scores, config.false_positive_rate)
    kinds = {"mdps": detection.masked, "stage_1": detection.stage1, "reconstruction": detection.plain}
    metrics = {kind: metrics_of(maps, labels, truths) for kind, maps in kinds.items()}
    metrics["mdps"]["decision_threshold"] = threshold
    metrics["mdps"]["f1"] = _number(f1_score(labels, detection.masked.score, threshold))
    return metrics | {"rules": config.rules, "mask_threshold": detection.mask_threshold}


def metrics_of(maps, labels, truths):
    """The metrics of one kind of chain.

    good_difference, defect_difference: the mean |x_0 - y| (pixel values in [-1, 1]) over good images, and over the pixels under the
    true masks; contrast is their ratio.
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
    """The mean, nan of nothing."""
    return float(values.mean()) if values.size else float("nan")


def _number(value):
    """A float for JSON, None for nan."""
    return None if np.isnan(value) else float(value)
